"""Reader of Qt binary resources (``.rcc``), the archive format in which GCompris ships its sounds.

A resource file holds a tree of folders and files, a table of names and the file contents, all in
big-endian integers:

====== ====================================================================================
part   layout
====== ====================================================================================
header ``qres``, then uint32 version, tree offset, data offset, names offset; version 3 adds
       uint32 flags
tree   nodes of 14 bytes (version 1) or 22 bytes (later: + 8 bytes of modification time).
       Each starts with uint32 name offset and uint16 flags. A folder (flag 2) goes on with
       uint32 number of children and uint32 index of the first child, a file with 4 bytes of
       locale and uint32 offset of its content
names  uint16 length in UTF-16 units, uint32 hash, UTF-16BE text
data   uint32 length, then that many bytes; flag 1 = zlib after 4 bytes of plain length,
       flag 4 = Zstandard
====== ====================================================================================

Nothing in the file is trusted: every offset, count and length is checked against the file size,
loops in the tree are refused, and decompression stops at a limit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FLAG_ZLIB = 1
_FLAG_FOLDER = 2
_FLAG_ZSTD = 4
_ROOT = 0

MAX_FILE_BYTES = 256 * 2**20
"""Largest content that is decompressed; the real resources stay below 5 MB."""


@dataclass(frozen=True)
class _Node:
    name_offset: int
    flags: int
    first: int  # folder: number of children; file: locale, unused
    second: int  # folder: index of the first child; file: offset in the data part


class QtResource:
    """The files inside one ``.rcc`` file, read on demand.

    Args:
        path: the resource file.

    Raises:
        FileNotFoundError: ``path`` does not exist.
        ValueError: the file is no Qt resource, of an unknown version, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"Qt resource {self.path} does not exist")
        self._bytes = self.path.read_bytes()
        if self._bytes[:4] != b"qres":
            raise self._error("expected it to start with the four bytes 'qres'")
        version, self._tree, self._data, self._names = self._unpack(">IIII", 4, "header")
        if not 1 <= version <= 3:
            raise self._error(f"expected version 1, 2 or 3, got {version}")
        self._node_size = 14 if version == 1 else 22
        self._files = dict(self._walk())

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def names(self) -> list[str]:
        """Sorted paths of all files, parts joined by ``/``, without a leading slash."""
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        """Content of the file called ``name`` (a path as `names` gives it), decompressed.

        Raises:
            KeyError: there is no such file.
            ValueError: the content is damaged, or compressed with Zstandard while the optional
                package ``zstandard`` is missing.
        """
        if name not in self._files:
            raise KeyError(f"{self.path} holds no file {name!r}")
        node = self._files[name]
        start = self._data + node.second
        (length,) = self._unpack(">I", start, f"length of {name}")
        content = self._slice(start + 4, length, f"content of {name}")
        if node.flags & _FLAG_ZLIB:
            return self._inflate(content, name)
        if node.flags & _FLAG_ZSTD:
            return self._decompress_zstandard(content, name)
        return content

    def _inflate(self, content: bytes, name: str) -> bytes:
        if len(content) < 4:
            raise self._error(f"compressed content of {name} is shorter than its 4-byte length")
        decompressor = zlib.decompressobj()
        try:
            plain = decompressor.decompress(content[4:], MAX_FILE_BYTES)
        except zlib.error as error:
            raise self._error(f"zlib cannot decompress {name} ({error})") from error
        if not decompressor.eof:
            raise self._error(f"{name} is cut short or larger than {MAX_FILE_BYTES} bytes")
        return plain

    def _decompress_zstandard(self, content: bytes, name: str) -> bytes:
        try:
            import zstandard
        except ImportError as error:
            raise self._error(
                f"{name} is compressed with Zstandard; install the package 'zstandard' to read it"
            ) from error
        try:
            size = zstandard.frame_content_size(content)
            if size > MAX_FILE_BYTES:
                raise self._error(f"{name} claims {size} bytes, limit {MAX_FILE_BYTES}")
            # The limit only counts for frames that do not state their size.
            return zstandard.ZstdDecompressor().decompress(
                content, max_output_size=MAX_FILE_BYTES if size < 0 else 0
            )
        except zstandard.ZstdError as error:
            raise self._error(f"Zstandard cannot decompress {name} ({error})") from error

    def _walk(self) -> Iterator[tuple[str, _Node]]:
        root = self._node(_ROOT)
        if not root.flags & _FLAG_FOLDER:
            raise self._error("expected the first tree node to be a folder")
        pending: list[tuple[str, _Node]] = [("", root)]
        seen = {_ROOT}
        while pending:
            prefix, folder = pending.pop()
            for index in range(folder.second, folder.second + folder.first):
                # A node has one parent. Checking it bounds the walk by the size of the file even
                # when a damaged folder lists itself or claims billions of children.
                if index in seen:
                    raise self._error(f"tree node {index} is listed twice")
                seen.add(index)
                node = self._node(index)
                path = prefix + self._name(node.name_offset)
                if node.flags & _FLAG_FOLDER:
                    pending.append((path + "/", node))
                else:
                    yield path, node

    def _node(self, index: int) -> _Node:
        offset = self._tree + index * self._node_size
        self._slice(offset, self._node_size, f"tree node {index}")
        return _Node(*self._unpack(">IHII", offset, f"tree node {index}"))

    def _name(self, offset: int) -> str:
        start = self._names + offset
        (units,) = self._unpack(">H", start, "name length")
        raw = self._slice(start + 6, 2 * units, "name")
        try:
            name = raw.decode("utf-16-be")
        except UnicodeDecodeError as error:
            raise self._error(f"a name at byte {start} is not UTF-16") from error
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise self._error(f"{name!r} at byte {start} cannot be the name of a file")
        return name

    def _unpack(self, layout: str, offset: int, what: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._slice(offset, struct.calcsize(layout), what))

    def _slice(self, offset: int, length: int, what: str) -> bytes:
        if offset + length > len(self._bytes):
            raise self._error(
                f"{what} needs bytes {offset} to {offset + length}, the file has {len(self._bytes)}"
            )
        return self._bytes[offset : offset + length]

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"{self.path} is not a readable Qt resource: {reason}")
