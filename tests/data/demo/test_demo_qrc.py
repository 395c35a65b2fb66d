"""The reader of Qt resources, on files that the tests write byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_files import FOLDER, ZLIB, ZSTD, Entry, qt_zlib, write_resource

from transavs.data.demo.qrc import QtResource


@pytest.fixture
def example() -> list[Entry]:
    return [
        Entry("root", FOLDER, children=(2, 1)),
        Entry("plain.txt", 0, b"hello"),
        Entry("söunds", FOLDER, children=(1, 3)),
        Entry("dog.ogg", ZLIB, qt_zlib(b"woof" * 100)),
    ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_reads_names_and_contents(tmp_path: Path, example: list[Entry], version: int) -> None:
    resource = QtResource(write_resource(tmp_path / "x.rcc", version, example))
    assert resource.names() == ["plain.txt", "söunds/dog.ogg"]
    assert "plain.txt" in resource and "dog.ogg" not in resource
    assert resource.read("plain.txt") == b"hello"
    assert resource.read("söunds/dog.ogg") == b"woof" * 100
    with pytest.raises(KeyError, match="cat.ogg"):
        resource.read("cat.ogg")


def test_reads_zstandard(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(b"meow" * 50)
    entries = [
        Entry("", FOLDER, children=(2, 1)),
        Entry("cat.ogg", ZSTD, packed),
        Entry("bad.ogg", ZSTD, b"not a frame"),
    ]
    resource = QtResource(write_resource(tmp_path / "x.rcc", 3, entries))
    assert resource.read("cat.ogg") == b"meow" * 50
    with pytest.raises(ValueError, match=r"x\.rcc.*bad\.ogg"):
        resource.read("bad.ogg")


def test_zstandard_is_optional(
    tmp_path: Path, example: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    example[1].flags = ZSTD
    resource = QtResource(write_resource(tmp_path / "x.rcc", 3, example))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(ValueError, match="install the package 'zstandard'"):
        resource.read("plain.txt")


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.rcc"):
        QtResource("nowhere.rcc")


def test_every_cut_is_refused_or_harmless(tmp_path: Path, example: list[Entry]) -> None:
    whole = write_resource(tmp_path / "whole.rcc", 3, example).read_bytes()
    cut = tmp_path / "cut.rcc"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.rcc"):
            QtResource(cut)


def test_every_flipped_byte_gives_values_or_value_error(
    tmp_path: Path, example: list[Entry]
) -> None:
    whole = bytearray(write_resource(tmp_path / "whole.rcc", 3, example).read_bytes())
    damaged = tmp_path / "damaged.rcc"
    for position in range(len(whole)):
        whole[position] ^= 0xFF
        damaged.write_bytes(whole)
        whole[position] ^= 0xFF
        try:
            resource = QtResource(damaged)
            for name in resource.names():
                resource.read(name)
        except ValueError as error:
            assert "damaged.rcc" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": 0}, "first tree node"),
        ({"children": (2, 0)}, "listed twice"),
        ({"children": (2**31, 1)}, "not a readable Qt resource"),
    ],
)
def test_refuses_bad_trees(
    tmp_path: Path, example: list[Entry], change: dict[str, object], message: str
) -> None:
    for key, value in change.items():
        setattr(example[0], key, value)
    with pytest.raises(ValueError, match=message):
        QtResource(write_resource(tmp_path / "x.rcc", 3, example))


@pytest.mark.parametrize("name", ["..", "a/b", "", "."])
def test_refuses_names_that_leave_the_tree(tmp_path: Path, example: list[Entry], name: str) -> None:
    example[1].name = name
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        QtResource(write_resource(tmp_path / "x.rcc", 1, example))


def test_refuses_bad_compression(tmp_path: Path, example: list[Entry]) -> None:
    example[1] = Entry("short.txt", ZLIB, b"ab")
    example[3] = Entry("cut.ogg", ZLIB, qt_zlib(b"woof" * 100)[:-6])
    resource = QtResource(write_resource(tmp_path / "x.rcc", 1, example))
    with pytest.raises(ValueError, match="shorter than its 4-byte length"):
        resource.read("short.txt")
    with pytest.raises(ValueError, match="cut short"):
        resource.read("söunds/cut.ogg")


def test_refuses_other_versions_and_files(tmp_path: Path, example: list[Entry]) -> None:
    with pytest.raises(ValueError, match="version 1, 2 or 3, got 4"):
        QtResource(write_resource(tmp_path / "x.rcc", 4, example))
    (tmp_path / "y.rcc").write_bytes(b"PK\3\4 something else")
    with pytest.raises(ValueError, match="qres"):
        QtResource(tmp_path / "y.rcc")
