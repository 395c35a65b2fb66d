"""Writes locked.txt and its kin: the pins of pinned.txt with the hash of every file of each.

``make venv`` installs from the locked files alone, with ``--require-hashes``: a file that was
exchanged on its way, or on the index, is refused. Run this after every change of a pin; it takes
seconds, downloads lists and no packages, and writes the same bytes until the pins change (or the
author of a release adds a file to it):

    .venv/bin/python requirements/pin_hashes.py

The lists come from the index that pip is configured with. ``--check`` writes nothing and fails if
the files would change.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

FOLDER = Path(__file__).resolve().parent

#: Locked file -> where its pins stand.
LOCKED_FILES = {
    "locked.txt": "pinned.txt",
    "locked_alone.txt": "pinned_alone.txt",
    "locked_build.txt": "pinned.txt",
}
#: What source archives are built with. Installed first, and then used without build isolation,
#: which would fetch such tools without looking at hashes.
BUILD_TOOLS = ("packaging", "setuptools", "wheel")

PYTHON_MINORS = (11, 12, 13, 14)
# glibc's Linux and macOS; torch has no wheels for other libraries.
_PLATFORM = re.compile(r"any|(many)?linux\w*_(x86_64|aarch64)|macosx_\w+_(arm64|x86_64|universal2)")
# A release without a wheel for one of these is built from its source archive there.
_NEEDED_PLATFORMS = (re.compile(r"any|.*linux\w*_x86_64"), re.compile(r"any|.*linux\w*_aarch64"))
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#\\]+)\s*(?:;\s*(?P<marker>.+))?")
_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT_SECONDS = 60
_REQUESTS_AT_ONCE = 8


@dataclass(frozen=True)
class Pin:
    """One release.

    Attributes:
        name: as written.
        version: exact.
        marker: of the environments that it is for; "" for all.
    """

    name: str
    version: str
    marker: str = ""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


def read_pins(text: str) -> dict[Pin, list[str]]:
    """Returns the pins of a requirements file in order, each with its hashes.

    Raises:
        ValueError: a line that is no pin.
    """
    pins: dict[Pin, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        requirement, *hashes = re.split(r"\s+--hash=", line)
        match = _PIN.fullmatch(requirement.strip())
        if match is None:
            raise ValueError(f"expected NAME==VERSION, got {line!r}")
        pins[Pin(match["name"], match["version"], match["marker"] or "")] = hashes
    return pins


def supported_hashes(pin: Pin, files: Iterable[dict]) -> list[str]:
    """Returns the hashes of the files of a release that pip may choose, sorted.

    These are the wheels for the supported versions of Python on Linux and macOS, and the source
    archive if Linux lacks a wheel for one of them.

    Args:
        pin: the release.
        files: of the project, as the index lists them (PEP 691).

    Raises:
        ValueError: there is none, or one without sha256.
    """
    wheels: list[tuple[str, frozenset[Tag]]] = []
    sources: list[str] = []
    for file in files:
        name, sha256 = file["filename"], file["hashes"].get("sha256", "")
        try:
            if name.endswith(".whl"):
                _, version, _, tags = parse_wheel_filename(name)
            else:
                _, version = parse_sdist_filename(name)
                tags = frozenset()
        except (InvalidWheelFilename, InvalidSdistFilename):
            continue  # eggs and installers of old
        if version != Version(pin.version):
            continue
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"the index tells no sha256 of {name}")
        if name.endswith(".whl"):
            wheels.append((sha256, tags))
        else:
            sources.append(sha256)
    usable = [
        (sha256, tags)
        for sha256, tags in wheels
        if any(_fits(tags, minor, _PLATFORM) for minor in PYTHON_MINORS)
    ]
    hashes = {sha256 for sha256, _ in usable}
    is_complete = all(
        any(_fits(tags, minor, platform) for _, tags in usable)
        for minor in PYTHON_MINORS
        for platform in _NEEDED_PLATFORMS
    )
    if not is_complete:
        hashes.update(sources)
    if not hashes:
        raise ValueError(f"the index lists no usable file of {pin}")
    return sorted(hashes)


def _fits(tags: Iterable[Tag], minor: int, platform: re.Pattern[str]) -> bool:
    version = (3, minor)
    interpreter = f"cp3{minor}"
    known = {
        (tag.interpreter, tag.abi)
        for tag in (
            *cpython_tags(version, [interpreter], ["any"]),
            *compatible_tags(version, interpreter, ["any"]),
        )
    }
    return any(
        (tag.interpreter, tag.abi) in known and platform.fullmatch(tag.platform) for tag in tags
    )


class Index:
    """The index that pip is configured with."""

    def __init__(self) -> None:
        settings = dict(
            re.findall(r"^(?:.*\.)?([a-z-]+)='?(.*?)'?$", _pip("config", "list"), re.MULTILINE)
        )
        # pip's help names the index that it takes unless told otherwise.
        usual = re.search(
            r"--index-url <url>.*?\(default\s+(\S+?)\)", _pip("install", "--help"), re.S
        )
        self.address = settings.get("index-url") or (usual[1] if usual else "")
        if not self.address:
            raise ValueError("pip names no index: set one with `pip config set global.index-url`")
        self._context = ssl.create_default_context(cafile=settings.get("cert"))

    def files(self, name: str) -> list[dict]:
        """Returns the files of a project.

        Raises:
            ValueError: no answer, or none that can be read.
        """
        parts = urlsplit(self.address)
        account, _, host = parts.netloc.rpartition("@")
        address = parts._replace(netloc=host).geturl().rstrip("/")
        request = urllib.request.Request(
            f"{address}/{canonicalize_name(name)}/", headers={"Accept": _JSON}
        )
        if account:
            token = base64.b64encode(account.encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(
                request, timeout=_TIMEOUT_SECONDS, context=self._context
            ) as answer:
                if answer.headers.get_content_type() != _JSON:
                    raise ValueError(
                        f"pip's index answers about {name} in another form than JSON (PEP 691): "
                        "use another index"
                    )
                return json.load(answer)["files"]
        except (urllib.error.URLError, TimeoutError) as error:
            raise ValueError(f"pip's index does not tell the files of {name} ({error})") from error


def _pip(*words: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def locked_text(source: str, hashes: dict[Pin, list[str]]) -> str:
    """Returns the content of a locked file."""
    lines = [f"# Made from {source} by pin_hashes.py: change that file, then run this program."]
    for pin, digests in hashes.items():
        lines.append(" \\\n    ".join([str(pin), *(f"--hash=sha256:{each}" for each in digests)]))
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 if --check found a difference, or 2 for an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    args = parser.parse_args(argv)
    try:
        sources = {
            source: read_pins((FOLDER / source).read_text(encoding="utf-8"))
            for source in LOCKED_FILES.values()
        }
        index = Index()
        pins = [pin for found in sources.values() for pin in found]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            found = pool.map(lambda pin: supported_hashes(pin, index.files(pin.name)), pins)
            hashes = dict(zip(pins, found, strict=True))
    except (ValueError, OSError) as error:
        print(f"pin_hashes: error: {error}", file=sys.stderr)
        return 2
    changed = []
    for locked, source in LOCKED_FILES.items():
        chosen = {
            pin: hashes[pin]
            for pin in sources[source]
            if locked != "locked_build.txt" or canonicalize_name(pin.name) in BUILD_TOOLS
        }
        text = locked_text(source, chosen)
        path = FOLDER / locked
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            changed.append(locked)
            if not args.check:
                path.write_text(text, encoding="utf-8")
    done = "differ" if args.check else "written"
    print(f"{len(pins)} pins; {done}: {', '.join(changed) or 'none'}")
    return int(args.check and bool(changed))


if __name__ == "__main__":
    raise SystemExit(main())
