"""Gives the running interpreter a detectron2, unless it has one.

Whoever built the official detectron2 keeps it: nothing is touched. Otherwise a wheel is installed
that repackages Meta's main branch of late 2024, pinned by version and checked by its hash. It is
pure Python apart from one compiled module that nothing here uses, but tagged for Python 3.10, which
pip has to be told.

Usage: ``python -m transavs.tools.install_detectron2`` (or this file as a script). Needs nothing but
the standard library and pip.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

WHEEL = "sal-detectron2==0.7.2"
WHEEL_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"

#: What the wheel itself needs, less numpy and Pillow (here by way of torchvision): its own
#: metadata asks for numpy < 2, which is stricter than the code. opencv, fvcore and iopath are
#: missing there although the code imports them.
WHEEL_REQUIREMENTS = (
    "pycocotools>=2.0.2",
    "matplotlib",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
    "packaging",
    "black",
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.9",
    "opencv-python-headless",
)

#: Seconds after which a download counts as hanging. The wheel is small; its requirements are not.
INSTALL_TIMEOUT_SECONDS = 900

_QUIET = ("--quiet", "--disable-pip-version-check")
_PROBE = "import detectron2 as d; print(getattr(d, '__version__', '?'), 'at', d.__file__)"


def find_detectron2() -> tuple[str | None, str]:
    """Looks for detectron2 in the running interpreter, by importing it in a process of its own.

    Returns:
        (version and place, "") if it can be imported; (None, "") if there is none; (None, error)
        if there is one that cannot be imported.
    """
    # From an empty folder: a clone of detectron2 in the current one would pass for a package.
    with tempfile.TemporaryDirectory() as folder:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], cwd=folder, capture_output=True, text=True, check=False
        )
    if probe.returncode == 0:
        return probe.stdout.strip(), ""
    error = (probe.stderr.strip().splitlines() or ["unknown error"])[-1]
    if error == "ModuleNotFoundError: No module named 'detectron2'":
        return None, ""
    return None, error


def missing_requirements() -> list[str]:
    """Returns those of the wheel's own requirements of which no version is installed."""
    missing = []
    for requirement in WHEEL_REQUIREMENTS:
        name = requirement.partition("<")[0].partition(">")[0]
        names = [name, "opencv-python"] if name == "opencv-python-headless" else [name]
        if not any(_is_installed(candidate) for candidate in names):
            missing.append(requirement)
    return missing


def install() -> None:
    """Installs the pinned wheel, then what it needs and is not there yet.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
        subprocess.TimeoutExpired: two downloads in a row hung.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "detectron2.txt"
        requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        _pip_install(
            "--no-deps",
            "--only-binary=:all:",
            "--python-version=3.10",
            f"--target={sysconfig.get_path('purelib')}",
            "--require-hashes",
            f"--requirement={requirements}",
        )
    missing = missing_requirements()
    if missing:
        _pip_install(*missing)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    arguments = parser.parse_args(argv)
    found, error = find_detectron2()
    if found is None and not error:
        if importlib.util.find_spec("torch") is None:
            print("install torch and torchvision first: detectron2 needs them", file=sys.stderr)
            return 1
        print(f"no detectron2 in {sys.executable}: installing {WHEEL}", flush=True)
        try:
            install()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
            if arguments.debug:
                traceback.print_exc()
            print(f"the installation failed: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; the same command starts again", file=sys.stderr)
            return 130
        found, error = find_detectron2()
        error = error or ("" if found else "it cannot be found after its installation")
    if error:
        print(
            f"detectron2 is installed in {sys.executable} but cannot be imported: {error}\n"
            "Install what it misses, or build it again for the installed torch.",
            file=sys.stderr,
        )
        return 1
    print(f"detectron2 {found}")
    return 0


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _pip_install(*arguments: str) -> None:
    """Runs ``pip install``, a second time if the first hangs."""
    command = [sys.executable, "-m", "pip", "install", *_QUIET, *arguments]
    try:
        subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        print("the download hangs: trying once more", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
