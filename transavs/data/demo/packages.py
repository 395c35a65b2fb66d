"""Fetch, verify and unpack the Debian packages that the demo set is composed from.

Nothing is installed: ``apt-get download`` writes the package file into a cache folder and
``dpkg-deb -x`` unpacks it there. Both steps are skipped for what is there already.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

logger = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT_SECONDS = 300
DOWNLOAD_ATTEMPTS = 2


@dataclass(frozen=True)
class DebianPackage:
    """A package and the one version of it that the catalogue was checked against.

    Attributes:
        name: package name.
        version: Debian version.
        sha256: hash of the package file.
        megabytes: size of the download.
        licence: licence of what the demo set takes from it.
    """

    name: str
    version: str
    sha256: str
    megabytes: int
    licence: str


STAMPS = DebianPackage(
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    161,
    "GPL-2 or later",
)
SOUNDS = DebianPackage(
    "gcompris-qt-data",
    "3.1-2",
    "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    44,
    "sounds GPL-3 or later or Free Art; photographs CC0 or public domain, three CC-BY-SA-4.0",
)
TEMPLATES = DebianPackage(
    "tuxpaint-data",
    "1:0.9.28-sdl2-1",
    "f5d0de8f9a70d2efc1241d19f26168cb8bf279f1b77abd3631e7a1a55c40e5e5",
    8,
    "GPL-2 or later",
)
PACKAGES: tuple[DebianPackage, ...] = (STAMPS, SOUNDS, TEMPLATES)


@dataclass(frozen=True)
class UnpackedPackage:
    """Where a package's files lie, and which version of it they are."""

    folder: Path
    version: str


class AssetsUnavailable(RuntimeError):
    """The packages cannot be had on this machine; the one-line message says why."""


def provide_packages(
    cache: Path,
    given: Path | None = None,
    packages: Sequence[DebianPackage] = PACKAGES,
    accept_other_versions: bool = False,
) -> dict[str, UnpackedPackage]:
    """Each package, unpacked, by package name.

    Args:
        cache: folder for downloads and unpacked files; a second call finds them there.
        given: folder that already holds the ``.deb`` files; nothing is downloaded then.
        packages: what to provide.
        accept_other_versions: use a package whose hash differs from the pinned one (another
            version) instead of refusing it.

    Raises:
        AssetsUnavailable: a tool is missing, a download fails, or a hash differs.
    """
    if shutil.which("dpkg-deb") is None:
        raise AssetsUnavailable("dpkg-deb is not installed, so packages cannot be unpacked")
    unpacked: dict[str, UnpackedPackage] = {}
    for package in packages:
        archive = _find_archive(given or cache / "packages", package, accept_other_versions)
        if archive is None:
            if given is not None:
                raise AssetsUnavailable(f"{given} holds no {package.name}_*.deb")
            archive = _download(cache / "packages", package, accept_other_versions)
        unpacked[package.name] = _unpack(cache / "unpacked", package, archive)
    return unpacked


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _find_archive(folder: Path, package: DebianPackage, accept_other: bool) -> Path | None:
    """Verified package file in ``folder``; None if there is none."""
    archives = sorted(folder.glob(f"{package.name}_*.deb"))
    hashes = {archive: _sha256(archive) for archive in archives}
    for archive, digest in hashes.items():
        if digest == package.sha256:
            return archive
    if not archives:
        return None
    other = archives[-1]
    if not accept_other:
        raise AssetsUnavailable(
            f"{other} has sha256 {hashes[other]}, expected {package.sha256} (version "
            f"{package.version}): delete it if it is damaged, or pass --accept-other-versions "
            "if it is a newer version"
        )
    logger.warning("%s is not the version %s that was checked", other, package.version)
    return other


def _download(folder: Path, package: DebianPackage, accept_other: bool) -> Path:
    if shutil.which("apt-get") is None:
        raise AssetsUnavailable("apt-get is not installed, so packages cannot be downloaded")
    # Downloaded into a folder of its own and moved when complete, so that an interrupted run leaves
    # nothing behind that looks like a package.
    staging = folder / f".{package.name}.{os.getpid()}"
    staging.mkdir(parents=True, exist_ok=True)
    try:
        reason = ""
        for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
            logger.info("Downloading %s (%d MB)", package.name, package.megabytes)
            reason = _run(["apt-get", "download", package.name], staging, DOWNLOAD_TIMEOUT_SECONDS)
            if not reason:
                break
            logger.warning("Download of %s, attempt %d: %s", package.name, attempt, reason)
        if reason:
            raise AssetsUnavailable(
                f"apt-get cannot download {package.name} ({reason}); is there a network, "
                "and has 'apt-get update' been run?"
            )
        for archive in staging.glob("*.deb"):
            archive.replace(folder / archive.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    found = _find_archive(folder, package, accept_other)
    if found is None:
        raise AssetsUnavailable(f"apt-get download {package.name} left no package in {folder}")
    return found


def _unpack(folder: Path, package: DebianPackage, archive: Path) -> UnpackedPackage:
    target = folder / f"{package.name}-{_sha256(archive)[:12]}"
    # An archive is called NAME_VERSION_ARCHITECTURE.deb; a colon in the version is written %3a.
    unpacked = UnpackedPackage(target, unquote(archive.stem.split("_")[1]))
    if target.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / f".{target.name}.{os.getpid()}"
    logger.info("Unpacking %s", archive.name)
    # The command runs in `folder`, to which a relative path would be relative once more.
    paths = [str(archive.resolve()), str(staging.resolve())]
    reason = _run(["dpkg-deb", "-x", *paths], folder, None)
    if reason:
        shutil.rmtree(staging, ignore_errors=True)
        raise AssetsUnavailable(f"dpkg-deb cannot unpack {archive} ({reason})")
    try:
        staging.rename(target)
    except OSError:  # somebody else unpacked it at the same time
        shutil.rmtree(staging, ignore_errors=True)
        if not target.is_dir():
            raise
    return unpacked


def _run(command: list[str], folder: Path, timeout_seconds: float | None) -> str:
    """Run ``command`` in ``folder``; empty string on success, else one line that says what failed.

    A command that hangs is ended together with the children it started.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=timeout_seconds)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return f"no end after {timeout_seconds:.0f} s"
        raise
    if process.returncode == 0:
        return ""
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit status {process.returncode}"
