"""The folder of results: what is finished stays finished, whatever ends the run.

::

    run.json             what was run: settings, configuration and manifest
    frames/              shards: Parquet, one row a frame; N items each, by their numbers
    waiting.jsonl        finished items whose shard is not complete, a line each
    failed_items.jsonl   items that could not be predicted, a line each, with the reason

A line is on the disk before its item counts. When all items of a shard are finished or have failed,
the finished ones move into the shard, in the manifest's order; where a kill leaves an item in both
places, the shard counts.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transavs.apps.predict.manifest import Item, manifest_hash
from transavs.apps.predict.model import Outcome, Row, decode_mask
from transavs.utils.whole_files import cannot_write, make_folder, write_bytes, write_text

RUN_FILE, SHARDS = "run.json", "frames"
WAITING, FAILED = "waiting.jsonl", "failed_items.jsonl"
_FORMAT = 2
# So many differing settings are told.
_TOLD = 6
# What is called otherwise on the command line than in settings.
_OPTIONS = {"folder_rate": "--folder-fps", "per_second": "--fps"}

#: A row is a frame of an item. ``counts`` are COCO's compressed run lengths of the mask [height,
#: width]; ``score`` is the confidence that something sounds; ``classes`` are those in the picture,
#: each with the run lengths of its part of the mask, null for a model that tells none apart.
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("counts", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("classes", pa.list_(pa.string())),
        pa.field("class_counts", pa.list_(pa.string())),
    ]
)
_ITEMS_KEY = b"transavs_items"


def _write_shard(path: Path, items: Mapping[int, Sequence[Row]]) -> None:
    """Writes the rows of items, by their index in the manifest, in its order and in one step."""
    rows = [row for index in sorted(items) for row in items[index]]
    counts = [[index, len(items[index])] for index in sorted(items)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    buffer = io.BytesIO()
    table = table.replace_schema_metadata({_ITEMS_KEY: json.dumps(counts)})
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def _read_shard(path: Path, only_counts: bool = False) -> dict[int, list[Row]]:
    """Returns what :func:`_write_shard` wrote; with ``only_counts`` the items without their rows.

    Raises:
        ValueError: a damaged file.
    """
    try:
        counts = dict(json.loads(pq.read_metadata(path).metadata[_ITEMS_KEY]))
        if only_counts:
            return {index: [] for index in counts}
        table = pq.ParquetFile(path).read().replace_schema_metadata(None)
        if not table.schema.equals(SCHEMA) or table.num_rows != sum(counts.values()):
            raise ValueError("other columns or rows than expected")
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no predictions ({error}): bring back a whole copy, or delete it: the "
            "command that wrote it then predicts its items again"
        ) from None
    rows = iter(table.to_pylist())
    return {index: [next(rows) for _ in range(count)] for index, count in counts.items()}


def _read_lines(path: Path) -> dict[int, dict[str, Any]]:
    """Returns the entries of a file of JSON lines by their key ``index``."""
    entries = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry = json.loads(line)
                entries[int(entry["index"])] = entry
            except (ValueError, LookupError, TypeError):
                continue  # the line that a killed run was writing: its item is tried again
    return entries


class _Lines(dict[int, dict[str, Any]]):
    """Entries by their key ``index``, in a file of JSON lines that is there unless empty."""

    def __init__(self, path: Path) -> None:
        super().__init__(_read_lines(path))
        self.path = path

    def append(self, entry: dict[str, Any]) -> None:
        """Adds an entry, which is on the disk when this returns."""
        self[entry["index"]] = entry
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise cannot_write(self.path, problem) from problem

    def write(self) -> None:
        """Writes the file anew, in the manifest's order."""
        if self:
            write_text(self.path, "".join(_line(self[index]) for index in sorted(self)))
        else:
            self.path.unlink(missing_ok=True)


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


class ResultStore:
    """The results of one manifest, held by one process at a time.

    Args:
        folder: made if it is not there.
        items: of the manifest; it may have grown at its end since the run before.
        description: of model and settings, as JSON has it; must be that of the run before.

    Attributes:
        failed: index -> entry of each item that could not be predicted.

    Raises:
        ValueError: the folder holds another run, or a damaged shard.
    """

    def __init__(
        self, folder: str | Path, items: Sequence[Item], description: Mapping[str, Any]
    ) -> None:
        self.folder = Path(folder)
        self.items = items
        self.shard_items = int(description["shard_items"])
        self._begin(description)
        # What a killed run was writing; other files in the folder are not ours.
        patterns = [f".{name}.*.part" for name in (RUN_FILE, WAITING, FAILED)]
        for pattern in [*patterns, f"{SHARDS}/.*.part"]:
            for part in self.folder.glob(pattern):
                part.unlink()
        self._in_shards: set[int] = set()
        for path in (self.folder / SHARDS).glob("*.parquet"):
            self._in_shards.update(_read_shard(path, only_counts=True))
        self._waiting = _Lines(self.folder / WAITING)
        self.failed = _Lines(self.folder / FAILED)
        self._forget(self._waiting, self._in_shards)
        self._forget(self.failed, self.finished)

    @property
    def finished(self) -> set[int]:
        """Indices of the items whose rows are there."""
        return self._in_shards | self._waiting.keys()

    @property
    def left(self) -> list[Item]:
        """Items that are neither finished nor failed."""
        done = self.finished | self.failed.keys()
        return [item for item in self.items if item.index not in done]

    def add(self, outcome: Outcome) -> None:
        """Keeps what became of an item that was left."""
        item = self.items[outcome.index]
        if outcome.rows is None:
            self.failed.append({"index": item.index, "id": item.id, "error": outcome.error})
        else:
            rows = [{"id": item.id, **row} for row in outcome.rows]
            self._waiting.append({"index": item.index, "rows": rows})
        self._complete(item.index // self.shard_items)

    def retry_failed(self) -> None:
        """Makes items that have failed be left again."""
        self.failed.clear()
        self.failed.write()

    def complete(self) -> None:
        """Moves finished items into their shards, where none of the shard's items is left."""
        for shard in {index // self.shard_items for index in self._waiting}:
            self._complete(shard)
        self.failed.write()

    def _complete(self, shard: int) -> None:
        first = shard * self.shard_items
        members = range(first, min(first + self.shard_items, len(self.items)))
        done = (self._in_shards, self._waiting, self.failed)
        if not all(any(index in one for one in done) for index in members):
            return
        new = self._waiting.keys() & set(members)
        if not new:
            return
        path = self.folder / SHARDS / f"shard-{shard:06d}.parquet"
        # Items that had failed, or were not in the manifest, when the shard was written.
        kept = _read_shard(path) if path.is_file() else {}
        _write_shard(path, kept | {index: self._waiting[index]["rows"] for index in new})
        self._in_shards |= new
        self._forget(self._waiting, new)

    @staticmethod
    def _forget(lines: _Lines, indices: set[int]) -> None:
        for index in indices & lines.keys():
            del lines[index]
        lines.write()

    def _begin(self, settings: Mapping[str, Any]) -> None:
        """Checks what the folder says of the run before, or says it."""
        path = self.folder / RUN_FILE
        count = len(self.items)
        manifest = {"items": count, "sha256": manifest_hash(self.items)}
        run = {"format": _FORMAT, "settings": settings, "manifest": manifest}
        if not path.is_file():
            if any((self.folder / SHARDS).glob("*.parquet")):
                raise ValueError(f"{self.folder} holds predictions but no {RUN_FILE}: name another")
            make_folder(self.folder / SHARDS)
        else:
            before = read_run(self.folder)
            told = _differences(before["settings"], json.loads(json.dumps(settings)))
            if told:
                raise ValueError(
                    f"{self.folder} holds predictions of another model or of other settings "
                    f"({'; '.join(told)}): name another folder, or go on as before"
                )
            former = before["manifest"]
            same = former["items"] <= count
            if not same or manifest_hash(self.items[: former["items"]]) != former["sha256"]:
                raise ValueError(
                    f"{self.folder} holds predictions of another manifest: its {former['items']} "
                    "items must come first and unchanged, new ones behind them. Name another "
                    "folder, or mend the manifest"
                )
            if former["items"] == count:
                return
        write_text(path, json.dumps(run, indent=2) + "\n")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    told = []
    for key in sorted(before.keys() | now.keys()):
        was, value = (_short(each[key]) if key in each else "absent" for each in (before, now))
        if was != value:
            told.append(f"{_OPTIONS.get(key, key)} was {was}, is {value}")
    more = [f"and {len(told) - _TOLD} more keys"] if len(told) > _TOLD else []
    return told[:_TOLD] + more


def _short(value: Any) -> str:
    """Returns a value as text; of a hash the beginning tells enough."""
    text = str(value)
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{64}", text) else text


def read_run(folder: str | Path) -> dict[str, Any]:
    """Returns what a folder of predictions says of its run.

    Raises:
        FileNotFoundError: no such folder, or no predictions in it.
        ValueError: its ``run.json`` is damaged, or of another version.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no predictions in {folder}: expected {RUN_FILE} in it")
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if run["format"] != _FORMAT:
            raise ValueError(f"its format is {run['format']}, expected {_FORMAT}")
        int(run["manifest"]["items"]), run["manifest"]["sha256"], run["settings"]["shard_items"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} cannot be used ({error}): name another folder") from None
    return run


@dataclass(frozen=True)
class PredictedFrame:
    """What was kept of a frame of an item: the columns of ``SCHEMA``.

    ``frame`` numbers an item's sampled frames from 0 on; ``seconds`` counts from its beginning.
    """

    id: str
    frame: int
    seconds: float
    height: int
    width: int
    counts: str
    score: float
    classes: list[str] | None
    class_counts: list[str] | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """What sounds: bool ``[height, width]``."""
        return decode_mask(self.counts, self.height, self.width)

    def mask_of(self, name: str) -> NDArray[np.bool_]:
        """Returns the part of the mask that is of a class, empty where the class is not there.

        Raises:
            ValueError: the model tells no classes apart.
        """
        if self.classes is None or self.class_counts is None:
            raise ValueError("these predictions tell no classes apart: take the whole mask")
        if name not in self.classes:
            return np.zeros((self.height, self.width), dtype=bool)
        return decode_mask(self.class_counts[self.classes.index(name)], self.height, self.width)


def read_predictions(folder: str | Path) -> Iterator[PredictedFrame]:
    """Yields the frames in a folder of predictions: items in the order of the manifest.

    Of a run that was stopped, or is at work, what is finished so far. One shard is in memory at a
    time, and what waits for its shard.

    Args:
        folder: the ``--output`` of ``tools/predict.py``.

    Raises:
        FileNotFoundError: no such folder, or no predictions in it.
        ValueError: a damaged file.
    """
    return _read(Path(folder), read_run(folder)["settings"]["shard_items"])


def _read(folder: Path, shard_items: int) -> Iterator[PredictedFrame]:
    # Read before the shards: what moves into a shard meanwhile is then found there.
    waiting = _read_lines(folder / WAITING)
    shards = {int(path.stem[-6:]): path for path in (folder / SHARDS).glob("shard-*.parquet")}
    for shard in sorted(shards.keys() | {index // shard_items for index in waiting}):
        items = {i: entry["rows"] for i, entry in waiting.items() if i // shard_items == shard}
        items |= _read_shard(shards[shard]) if shard in shards else {}
        for index in sorted(items):
            for row in items[index]:
                yield PredictedFrame(**row)
