"""The folder of a run's results: what is finished stays finished, whatever ends the run.

::

    run.json             what was run: model, settings, manifest
    frames/              shards: Parquet, one row a moment; shard K holds K * N to K * N + N - 1
    waiting/             finished items whose shard is not complete, a Parquet file each
    set_aside.jsonl      items that could not be predicted, with the reason

Every file is written under another name and renamed. An item lies in ``waiting`` as soon as it is
finished; when all items of its shard are finished or set aside, they move into the shard, in the
order of the manifest. Where a kill leaves an item in both, the shard counts.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transavs.engine.prediction.manifest import Item, manifest_hash
from transavs.engine.prediction.outcome import Outcome
from transavs.engine.prediction.parquet_files import ItemRows, items_in, read_items, write_items
from transavs.engine.prediction.set_aside import SetAside
from transavs.utils.whole_files import make_folder, write_text
from transavs.video.frames import FOLDER_FRAME_RATE

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
SHARDS, WAITING = "frames", "waiting"
_FORMAT = 1
# Tells in words what the hash of the other is of; runs of older versions lack it.
_EXPLAINED, _EXPLAINS = "config", "configuration"
# So many keys are told.
_TOLD = 6


class ResultStore:
    """The results of one manifest, held by one process at a time (see ``FolderLock``).

    Args:
        folder: made if it is not there.
        items: of the manifest. It may have grown at its end since the run before.
        description: of model and settings, JSON; must be that of the run before.
        shard_items: items a shard.

    Attributes:
        finished: indices of the items whose rows are there.
        set_aside: the others that were tried.

    Raises:
        ValueError: the folder holds another run, or a damaged shard.
    """

    def __init__(
        self,
        folder: str | Path,
        items: Sequence[Item],
        description: Mapping[str, Any],
        shard_items: int = 1000,
    ) -> None:
        if shard_items < 1:
            raise ValueError(f"a shard must have at least 1 item, got {shard_items}")
        self.folder = Path(folder)
        self.items = items
        self.shard_items = shard_items
        self._begin({**description, "shard_items": shard_items})
        self.set_aside = SetAside(self.folder / "set_aside.jsonl")
        # What a killed run was writing; other files in the folder are not ours.
        for pattern in (f"{SHARDS}/.*.part", f"{WAITING}/.*.part", ".run.json.*.part"):
            for part in self.folder.glob(pattern):
                part.unlink()
        self._in_shards: set[int] = set()
        for path in sorted((self.folder / SHARDS).glob("*.parquet")):
            self._in_shards.update(index for index, _ in items_in(path))
        self.finished = self._in_shards | self._find_waiting()
        for index in self.finished & set(self.set_aside.errors):
            del self.set_aside.errors[index]

    @property
    def left(self) -> list[Item]:
        """Items that are neither finished nor set aside."""
        done = self.finished | set(self.set_aside.errors)
        return [item for item in self.items if item.index not in done]

    def add(self, outcome: Outcome) -> bool:
        """Keeps what became of an item; returns False for one that is finished already."""
        index = outcome.index
        if index in self.finished or index in self.set_aside.errors:
            return False
        item = self.items[index]
        if outcome.rows is None:
            self.set_aside.add(index, item.id, outcome.error)
        else:
            write_items(self._waiting_file(index), [ItemRows.of(index, item.id, outcome.rows)])
            self.finished.add(index)
        self.complete([index // self.shard_items])
        return True

    def complete(self, shards: Sequence[int] | None = None) -> None:
        """Moves waiting items into their shards, where none of the shard's items is left.

        Args:
            shards: which to look at; None looks at all.
        """
        if shards is None:
            shards = range((len(self.items) - 1) // self.shard_items + 1)
        for shard in shards:
            first = shard * self.shard_items
            members = range(first, min(first + self.shard_items, len(self.items)))
            waiting = [i for i in members if i in self.finished and i not in self._in_shards]
            if waiting and all(i in self.finished or i in self.set_aside.errors for i in members):
                self._write_shard(shard, waiting)

    def _write_shard(self, shard: int, waiting: Sequence[int]) -> None:
        path = self.folder / SHARDS / f"shard-{shard:06d}.parquet"
        # Items that were set aside, or behind the manifest's end, when the shard was written.
        parts = read_items(path) if path.is_file() else []
        for index in waiting:
            parts += read_items(self._waiting_file(index))
        write_items(path, sorted(parts, key=lambda part: part.index))
        self._in_shards.update(waiting)
        for index in waiting:
            self._waiting_file(index).unlink(missing_ok=True)

    def _waiting_file(self, index: int) -> Path:
        return self.folder / WAITING / f"item-{index:010d}.parquet"

    def _find_waiting(self) -> set[int]:
        found = set()
        for path in sorted((self.folder / WAITING).glob("item-*.parquet")):
            try:
                ((index, _),) = items_in(path)
            except ValueError:
                logger.warning("%s is damaged: its item is predicted again", path)
                path.unlink()
                continue
            if index in self._in_shards:
                path.unlink()
            else:
                found.add(index)
        return found

    def _begin(self, description: dict[str, Any]) -> None:
        """Checks what the folder says of the run before, or says it."""
        path = self.folder / RUN_FILE
        count = len(self.items)
        manifest = {"items": count, "sha256": manifest_hash(self.items)}
        run = {"format": _FORMAT, **json.loads(json.dumps(description)), "manifest": manifest}
        if not path.is_file():
            if any((self.folder / SHARDS).glob("*.parquet")):
                raise ValueError(f"{self.folder} holds predictions but no {RUN_FILE}: name another")
            for name in (SHARDS, WAITING):
                make_folder(self.folder / name)
            write_text(path, json.dumps(run, indent=2) + "\n")
            return
        before = read_run(self.folder)
        former = before.pop("manifest")
        # Earlier versions had one rate alone.
        told = _differences({"folder_rate": FOLDER_FRAME_RATE, **before}, run)
        if told:
            raise ValueError(
                f"{self.folder} holds predictions of another model or of other settings "
                f"({'; '.join(told)}): name another folder, or go on as before"
            )
        same = former["items"] <= count
        if not same or manifest_hash(self.items[: former["items"]]) != former["sha256"]:
            raise ValueError(
                f"{self.folder} holds predictions of another manifest: its {former['items']} items "
                "must come first and unchanged, new ones behind them. Name another folder, or mend "
                "the manifest"
            )
        if former["items"] < count:
            write_text(path, json.dumps(run, indent=2) + "\n")


def _differences(before: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Returns what two runs into a folder differ in; their manifests do not count."""
    told = []
    for key, value in run.items():
        if key in ("manifest", _EXPLAINS) or value == before.get(key):
            continue
        if key != _EXPLAINED or _EXPLAINS not in run:
            told.append(f"{key} was {_short(before.get(key))}, is {_short(value)}")
        elif not isinstance(before.get(_EXPLAINS), dict):
            told.append(
                "the configuration was another, of which this folder's older version kept no keys: "
                "compare --config-file and --set"
            )
        else:
            told += _differing_keys(before[_EXPLAINS], run[_EXPLAINS])
    return told


def _differing_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    absent = object()
    told = []
    for key in sorted(before.keys() | now.keys()):
        was, value = before.get(key, absent), now.get(key, absent)
        if was != value:
            words = ["absent" if each is absent else _short(each) for each in (was, value)]
            told.append(f"{key} was {words[0]}, is {words[1]}")
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
        ValueError: its ``run.json`` is damaged.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no predictions in {folder}: expected {RUN_FILE} in it")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["format"] != _FORMAT:
            raise ValueError(f"its format is {run['format']}, expected {_FORMAT}")
        int(run["manifest"]["items"]), str(run["manifest"]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): name another folder") from None
    found: dict[str, Any] = run
    return found
