"""Files are whole: new ones, replaced ones, and former ones where writing failed."""

import errno
import os
import stat
from pathlib import Path

import pytest

from transavs.utils.whole_files import WholeFile, write_bytes, write_text


def test_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "table.md"
    write_text(path, "M_J ± spread\n")
    assert path.read_text(encoding="utf-8") == "M_J ± spread\n"
    write_bytes(path, b"\x89PNG")
    assert path.read_bytes() == b"\x89PNG"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.md"
    write_text(path, "former")

    def full_disk(source: str, target: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]
    assert path.read_text() == "former"


def test_a_full_disk_is_told_with_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_text(path, "former")

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"cannot write .*table.md \(No space left on device\): make"):
        write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]
    assert path.read_text() == "former"


def test_names_that_cannot_be_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for name, reason in (
        ("folder", "it is a folder"),
        ("file/inside", "file is a file, expected a folder"),
        ("n" * 300, "too long"),
    ):
        with pytest.raises(OSError, match=f"cannot write .*{name}.*{reason}") as caught:
            WholeFile(tmp_path / name)
        assert "make room" not in str(caught.value)
    assert {file.name for file in tmp_path.iterdir()} == {"file", "folder"}


def test_two_at_once_and_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120 + ".json")
    first, second = WholeFile(path), WholeFile(path)
    first.temporary.write_text("first")
    second.temporary.write_text("second")
    first.finish()
    second.finish()
    second.discard()
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]
