"""Reads predictions back, item by item in the order of the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transavs.engine.prediction.parquet_files import ItemRows, items_in, read_items
from transavs.engine.prediction.rows import decode_mask
from transavs.engine.prediction.store import SHARDS, WAITING, read_run


@dataclass(frozen=True)
class PredictedFrame:
    """What was kept of a moment of an item.

    Attributes:
        id: of the item.
        frame: number of the moment, from 0 on.
        seconds: when it is, from the item's beginning.
        height, width: of the mask, in pixels.
        counts: COCO's compressed run lengths of it.
        score: confidence in [0, 1] that something sounds.
        classes: names of the classes in it; None for a model that tells none apart.
        class_counts: run lengths of the part of each.
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
        if self.classes is None:
            raise ValueError("these predictions tell no classes apart: take the whole mask")
        names, counts = self.classes or [], self.class_counts or []
        if name not in names:
            return np.zeros((self.height, self.width), dtype=bool)
        return decode_mask(counts[names.index(name)], self.height, self.width)


def read_predictions(folder: str | Path) -> Iterator[PredictedFrame]:
    """Yields the moments in a folder of predictions: items in the order of the manifest.

    Of a run that was stopped, or is at work, what is finished so far. One shard is in memory at a
    time.

    Args:
        folder: the ``--output`` of ``tools/predict.py``.

    Raises:
        FileNotFoundError: no such folder, or no predictions in it.
        ValueError: a damaged file.
    """
    folder = Path(folder)
    read_run(folder)
    return _read(folder)


def _read(folder: Path) -> Iterator[PredictedFrame]:
    # Listed before the shards: what moves into a shard meanwhile is then found there.
    waiting = sorted((folder / WAITING).glob("item-*.parquet"))
    shards = sorted((folder / SHARDS).glob("shard-*.parquet"))
    first = {shard: min(index for index, _ in items_in(shard)) for shard in shards}
    pending = [(int(path.stem.rpartition("-")[2]), path) for path in waiting]
    for number, shard in enumerate(shards):
        items = read_items(shard)
        until = first[shards[number + 1]] if number + 1 < len(shards) else None
        inside = {item.index for item in items}
        while pending and (until is None or pending[0][0] < until):
            index, path = pending.pop(0)
            if index not in inside and path.is_file():
                items += read_items(path)
        yield from _frames(sorted(items, key=lambda item: item.index))
    for _, path in pending:
        if path.is_file():
            yield from _frames(read_items(path))


def _frames(items: list[ItemRows]) -> Iterator[PredictedFrame]:
    for item in items:
        for row in item.table.to_pylist():
            yield PredictedFrame(**row)
