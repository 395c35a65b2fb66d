"""Manifests: lists of films and clips, one a line, as CSV or as JSON lines."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transavs.video import Film, FrameFiles, FrameFolder, open_film
from transavs.video.frames import FOLDER_FRAME_RATE

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
COLUMNS = ("id", "video", "frames", "audio")
_LONGEST_ID = 500


@dataclass(frozen=True)
class Item:
    """A line of a manifest.

    Attributes:
        index: its place among the manifest's items, from 0 on.
        id: its own name.
        video: a film file, as the manifest writes it; "" for a clip.
        frames: a folder of pictures, or several files of them; () for a film.
        audio: the sound file of a clip; "" for a film.
        folder: of the manifest, absolute; the other paths are relative to it, or begin with ``~``,
            the home folder.
    """

    index: int
    id: str
    video: str = ""
    frames: tuple[str, ...] = ()
    audio: str = ""
    folder: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Item:
        """Returns the item of :meth:`as_dict`, also after JSON has made a list of ``frames``."""
        return cls(**{**values, "frames": tuple(values["frames"])})

    def open(self, longest_side: int, folder_rate: float = FOLDER_FRAME_RATE) -> Film:
        """Returns the film or clip.

        Args:
            longest_side: of its pictures, in pixels; 0 for no limit.
            folder_rate: pictures a second of a clip.

        Raises:
            FileNotFoundError: a file that is not there.
            ValueError: a film, picture or sound that cannot be read.
        """
        if self.video:
            return open_film(self._path(self.video), None, longest_side, folder_rate)
        sound = self._path(self.audio)
        files = [self._path(name) for name in self.frames]
        if len(files) == 1 and files[0].is_dir():
            return FrameFolder(files[0], sound, folder_rate, longest_side)
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"no picture at {file}: check the path")
        return FrameFiles(files, sound, folder_rate, longest_side)

    def _path(self, name: str) -> Path:
        return Path(self.folder, os.path.expanduser(name))


def read_manifest(path: str | Path) -> list[Item]:
    """Returns the items of a manifest, in its order.

    CSV has a header line, and white space around its cells does not count; JSON lines have an
    object each, whose ``frames`` may be a list of files, and all of their characters count. The
    columns are ``id``, and ``video``, or ``frames`` with ``audio``. Empty lines are passed over.
    Whether the files exist is not looked at.

    Args:
        path: ends in .csv, or in .jsonl, .ndjson or .json.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the first mistake in it, with its line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no manifest at {path}: check the path")
    suffix = path.suffix.lower()
    if suffix != ".csv" and suffix not in JSON_SUFFIXES:
        raise ValueError(
            f"{path}: expected a manifest that ends in .csv or {', '.join(JSON_SUFFIXES)}"
        )
    rows = _csv_rows(path) if suffix == ".csv" else _json_rows(path)
    folder = str(path.resolve().parent)
    items: list[Item] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        try:
            item = _item(row, len(items), folder)
            if item.id in lines:
                raise ValueError(f"id {item.id!r} stands in line {lines[item.id]} as well")
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        lines[item.id] = line
        items.append(item)
    if not items:
        raise ValueError(f"{path} is empty: expected a film or clip a line, with an id each")
    return items


def manifest_hash(items: Sequence[Item]) -> str:
    """Returns a hash of ids and sources in their order; the manifest's folder does not count."""
    digest = hashlib.sha256()
    for item in items:
        entry = [item.id, item.video, list(item.frames), item.audio]
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()


def _item(row: dict[str, Any], index: int, folder: str) -> Item:
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r}: expected {', '.join(COLUMNS)}")
    name, video, audio = (_text(row, column) for column in ("id", "video", "audio"))
    if not name:
        raise ValueError("no id: every line needs one of its own")
    if len(name) > _LONGEST_ID:
        raise ValueError(f"the id has {len(name)} characters, expected at most {_LONGEST_ID}")
    frames = _frames(row)
    if video and (frames or audio):
        raise ValueError(f"id {name!r} has two sources: give video, or frames with audio")
    if not video and not (frames and audio):
        lacking = "audio" if frames else "frames" if audio else "source"
        raise ValueError(f"id {name!r} has no {lacking}: give video, or frames with audio")
    return Item(index, name, video, frames, audio, folder)


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else _plain(value, column)


def _frames(row: dict[str, Any]) -> tuple[str, ...]:
    value = row.get("frames")
    if isinstance(value, list):
        names = tuple(_plain(name, "frames") for name in value)
        if not all(names):
            raise ValueError("frames holds an empty name")
        return names
    return () if value in (None, "") else (_plain(value, "frames"),)


def _plain(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{column} must be text, got {json.dumps(value)[:80]}")
    # Control characters, halves of characters, ends of lines and paragraphs.
    if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in value):
        raise ValueError(
            f"{column} holds control characters: {value[:80]!r}; take them away, in the name of "
            "the file as well"
        )
    return value


def _lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file, with their ends."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: no UTF-8 ({error.reason}): save the manifest as UTF-8"
                ) from None


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_no_twins)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: no JSON object ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected a JSON object, got {line[:80]!r}")
        yield number, row


def _no_twins(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"{key!r} stands there twice")
        row[key] = value
    return row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(_lines(path), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if row in ([], [""]):
                continue
            if header is None:
                header = _checked_header(row, path, reader.line_num)
            elif len(row) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected {len(header)} columns "
                    f"({', '.join(header)}), got {len(row)}"
                )
            else:
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV ({error})") from None


def _checked_header(row: list[str], path: Path, line: int) -> list[str]:
    header = [name.strip() for name in row]
    for name in header:
        if name not in COLUMNS:
            raise ValueError(
                f"{path}, line {line}: unknown column {name!r}: the first line must name the "
                f"columns, out of {', '.join(COLUMNS)}"
            )
    if len(set(header)) < len(header):
        raise ValueError(f"{path}, line {line}: a column stands there twice")
    if "id" not in header:
        raise ValueError(f"{path}, line {line}: expected a column id")
    return header
