"""Manifests: lists of videos and clips, one a line, as CSV or as JSON lines."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transavs.video import Film, FrameFiles, FrameFolder, open_film
from transavs.video.frames import FOLDER_FRAME_RATE

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
COLUMNS = ("id", "video", "frames", "audio")
_LONGEST_ID = 500


@dataclass(frozen=True)
class Item:
    """One line of a manifest.

    Attributes:
        index: the item's place in the manifest, from 0 on.
        id: the item's own name.
        video: a video file, as the manifest writes it; "" for a clip.
        frames: a folder of pictures, or several picture files; () for a video.
        audio: the audio file of a clip; "" for a video.
        folder: the manifest's folder, absolute; the other paths are relative to it, or begin with
            ``~``, the home folder.
    """

    index: int
    id: str
    video: str = ""
    frames: tuple[str, ...] = ()
    audio: str = ""
    folder: str = ""

    def open(self, longest_side: int, folder_rate: float = FOLDER_FRAME_RATE) -> Film:
        """Returns the video or clip.

        Args:
            longest_side: larger pictures are scaled down to it, in pixels; 0 for no limit.
            folder_rate: pictures a second of a clip.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: a video, picture or audio file cannot be read.
        """
        if self.video:
            return open_film(self._path(self.video), None, longest_side, folder_rate)
        audio, files = self._path(self.audio), [self._path(name) for name in self.frames]
        if len(files) == 1 and files[0].is_dir():
            return FrameFolder(files[0], audio, folder_rate, longest_side)
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"no picture at {file}: check the path")
        return FrameFiles(files, audio, folder_rate, longest_side)

    def _path(self, name: str) -> Path:
        return Path(self.folder, os.path.expanduser(name))


def read_manifest(path: str | Path) -> list[Item]:
    """Returns the items of a manifest in its order; whether their files exist is not looked at.

    CSV has a header line, and white space around its cells does not count. JSON lines have one
    object each, whose ``frames`` may be a list of files; all characters count. Empty lines are
    passed over.

    Args:
        path: ends in .csv, .jsonl, .ndjson or .json.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the first mistake in it, with its line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no manifest at {path}: check the path")
    suffixes = {".csv": _csv_rows, **dict.fromkeys(JSON_SUFFIXES, _json_rows)}
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: expected a manifest that ends in {', '.join(suffixes)}")
    folder = str(path.resolve().parent)
    items: list[Item] = []
    line_of: dict[str, int] = {}
    lines = _Lines(path)
    try:
        for row in suffixes[path.suffix.lower()](lines):
            item = _item(row, len(items), folder)
            if item.id in line_of:
                raise ValueError(f"id {item.id!r} stands in line {line_of[item.id]} as well")
            line_of[item.id] = lines.number
            items.append(item)
    except (ValueError, csv.Error, RecursionError) as error:
        raise ValueError(f"{path}, line {lines.number}: {error}") from None
    if not items:
        raise ValueError(f"{path} is empty: expected a video or clip a line, with an id each")
    return items


def manifest_hash(items: Sequence[Item]) -> str:
    """Returns a hash of ids and sources in their order; the manifest's folder does not count."""
    digest = hashlib.sha256()
    for item in items:
        entry = [item.id, item.video, list(item.frames), item.audio]
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()


def _item(row: dict[str, Any], index: int, folder: str) -> Item:
    name, video, audio = (_text(row.get(column), column) for column in ("id", "video", "audio"))
    frames = row.get("frames") or []
    frames = tuple(_text(each, "frames") for each in (frames if type(frames) is list else [frames]))
    if not 0 < len(name) <= _LONGEST_ID:
        raise ValueError(f"expected an id of 1 to {_LONGEST_ID} characters, got {len(name)}")
    if not all(frames):
        raise ValueError(f"id {name!r}: frames holds an empty name")
    if (bool(video), bool(frames), bool(audio)) not in ((True, False, False), (False, True, True)):
        raise ValueError(f"id {name!r}: expected either video, or frames with audio")
    return Item(index, name, video, frames, audio, folder)


def _text(value: Any, column: str) -> str:
    value = "" if value is None else value
    if not isinstance(value, str):
        raise ValueError(f"{column} must be text, got {json.dumps(value)[:80]}")
    # Control characters, halves of characters, ends of lines and paragraphs.
    if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in value):
        raise ValueError(f"{column} holds control characters: {value[:80]!r}; take them away")
    return value


class _Lines:
    """The lines of a UTF-8 file, with the number of the last line that was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            for self.number, line in enumerate(file, 1):
                try:
                    yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise ValueError("expected UTF-8: save the manifest in that encoding") from None


def _row(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    row = dict(pairs)
    if len(row) < len(pairs) or not row.keys() <= set(COLUMNS):
        names = ", ".join(name for name, _ in pairs)
        raise ValueError(f"expected columns out of {', '.join(COLUMNS)}, each once, got {names}")
    return row


def _json_rows(lines: _Lines) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_row)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected JSON: {error.msg}, column {error.colno}") from None
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, got {line[:80]!r}")
        yield row


def _csv_rows(lines: _Lines) -> Iterator[dict[str, Any]]:
    header: list[str] = []
    for cells in csv.reader(lines, strict=True, skipinitialspace=True):
        cells = [cell.strip() for cell in cells]
        if cells in ([], [""]):
            continue
        if not header:
            header = cells
            _row((name, "") for name in header)
        elif len(cells) != len(header):
            raise ValueError(f"expected {len(header)} cells, as in the header, got {len(cells)}")
        else:
            yield _row(zip(header, cells, strict=True))
