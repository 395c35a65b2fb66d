"""Fetching and unpacking, with stand-ins for apt-get and dpkg-deb: nothing is downloaded."""

from __future__ import annotations

import hashlib
import logging
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from transavs.data.demo import packages
from transavs.data.demo.packages import AssetsUnavailable, DebianPackage, provide_packages

CONTENT = b"a package"
PACKAGE = DebianPackage("toys", "1:2.0-1", hashlib.sha256(CONTENT).hexdigest(), 1, "GPL-2+")
ARCHIVE = "toys_1%3a2.0-1_all.deb"

APT = f"""#!/bin/sh
echo call >> "$CALLS"
printf 'a package' > {ARCHIVE}
"""
# dpkg-deb -x ARCHIVE FOLDER
DPKG = """#!/bin/sh
grep -q 'a package' "$2" || { echo "not a package" >&2; exit 2; }
mkdir -p "$3" && cp "$2" "$3/content"
"""


class Machine:
    """A machine whose programs are the given shell scripts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.calls_file = folder / "calls"
        monkeypatch.setenv("CALLS", str(self.calls_file))
        monkeypatch.setenv("PATH", f"{self.programs}:/usr/bin:/bin")
        known = packages.shutil.which
        monkeypatch.setattr(
            packages.shutil,
            "which",
            lambda name: known(name, path=str(self.programs)),
        )

    def install(self, name: str, script: str) -> None:
        program = self.programs / name
        program.write_text(script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> int:
        """How often apt-get was called."""
        return len(self.calls_file.read_text().split()) if self.calls_file.exists() else 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    made.install("apt-get", APT)
    made.install("dpkg-deb", DPKG)
    return made


def test_downloads_once(tmp_path: Path, machine: Machine) -> None:
    for _ in range(2):
        unpacked = provide_packages(tmp_path / "cache", packages=[PACKAGE])["toys"]
        assert (unpacked.folder / "content").read_bytes() == CONTENT
        assert unpacked.version == "1:2.0-1"
    assert machine.calls == 1
    # No staging folders stay behind.
    assert [path.name for path in (tmp_path / "cache/packages").iterdir()] == [ARCHIVE]
    assert len(list((tmp_path / "cache/unpacked").iterdir())) == 1


def test_a_relative_cache(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unpacked = provide_packages(Path("data/cache"), packages=[PACKAGE])["toys"]
    assert (unpacked.folder / "content").read_bytes() == CONTENT


def test_given_folder_needs_no_apt(tmp_path: Path, machine: Machine) -> None:
    (machine.programs / "apt-get").unlink()
    given = tmp_path / "given"
    given.mkdir()
    with pytest.raises(AssetsUnavailable, match=r"given holds no toys_\*\.deb"):
        provide_packages(tmp_path / "cache", given, [PACKAGE])
    (given / ARCHIVE).write_bytes(CONTENT)
    unpacked = provide_packages(tmp_path / "cache", given, [PACKAGE])["toys"]
    assert (unpacked.folder / "content").is_file()


@pytest.mark.parametrize("name", ["apt-get", "dpkg-deb"])
def test_missing_program(tmp_path: Path, machine: Machine, name: str) -> None:
    (machine.programs / name).unlink()
    with pytest.raises(AssetsUnavailable, match=f"{name} is not installed"):
        provide_packages(tmp_path / "cache", packages=[PACKAGE])


def test_failing_download_is_tried_twice(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.install(
        "apt-get", '#!/bin/sh\necho call >> "$CALLS"\necho "E: no luck" >&2\nexit 100\n'
    )
    with pytest.raises(AssetsUnavailable, match="cannot download toys .E: no luck.*apt-get update"):
        provide_packages(tmp_path / "cache", packages=[PACKAGE])
    assert machine.calls == 2
    assert "attempt 1: E: no luck" in caplog.text


def test_second_attempt_may_succeed(tmp_path: Path, machine: Machine) -> None:
    machine.install("apt-get", APT.replace("printf", '[ "$(wc -l < "$CALLS")" -gt 1 ] && printf'))
    provide_packages(tmp_path / "cache", packages=[PACKAGE])
    assert machine.calls == 2


def test_hanging_download_is_ended(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    machine.install("apt-get", '#!/bin/sh\necho call >> "$CALLS"\nsleep 60\n')
    with pytest.raises(AssetsUnavailable, match="no end after 0 s"):
        provide_packages(tmp_path / "cache", packages=[PACKAGE])
    assert machine.calls == 2


def test_download_that_leaves_nothing(tmp_path: Path, machine: Machine) -> None:
    machine.install("apt-get", "#!/bin/sh\nexit 0\n")
    with pytest.raises(AssetsUnavailable, match="left no package"):
        provide_packages(tmp_path / "cache", packages=[PACKAGE])


def test_silent_failure_tells_the_exit_status(tmp_path: Path, machine: Machine) -> None:
    machine.install("apt-get", "#!/bin/sh\nexit 7\n")
    with pytest.raises(AssetsUnavailable, match="exit status 7"):
        provide_packages(tmp_path / "cache", packages=[PACKAGE])


def test_other_version(tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    other = replace(PACKAGE, sha256="0" * 64)
    with pytest.raises(AssetsUnavailable, match="expected 0000.*--accept-other-versions"):
        provide_packages(tmp_path / "cache", packages=[other])
    with caplog.at_level(logging.WARNING):
        provide_packages(tmp_path / "cache", packages=[other], accept_other_versions=True)
    assert "is not the version 1:2.0-1" in caplog.text
    assert machine.calls == 1


def test_damaged_package(tmp_path: Path, machine: Machine) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / ARCHIVE).write_bytes(b"rubbish")
    with pytest.raises(AssetsUnavailable, match="cannot unpack .*not a package"):
        provide_packages(tmp_path / "cache", given, [PACKAGE], accept_other_versions=True)
    assert not list((tmp_path / "cache/unpacked").iterdir())
