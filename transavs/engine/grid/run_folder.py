"""How far one training of a grid is, from what lies in its folder."""

from __future__ import annotations

import enum
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from transavs.engine.grid.spec import Grid, Run
from transavs.utils.whole_files import write_text

# Bytes at the end of metrics.json in which to look for its last whole line.
_TAIL_BYTES = 16384


class State(enum.Enum):
    """What is left to do for a training."""

    NEW = "new"
    STARTED = "to be resumed"
    TRAINED = "to be evaluated"
    FINISHED = "finished"
    CHANGED = "changed"


@dataclass
class Record:
    """Content of ``run.json``.

    Attributes:
        settings: of the row, when training began, and the seed.
        command: of the training.
        stage: what is under way or comes next: "training", "evaluation", or "finished".
        seconds: that trainings took until they ended or were stopped.
        started: when the training under way began, seconds since the epoch; None if none is.
        failure: how the last attempt failed; "" if it did not.
    """

    settings: dict[str, Any]
    command: list[str]
    stage: str = "training"
    seconds: float = 0.0
    started: float | None = None
    failure: str = ""

    def check(self) -> None:
        """Raises ValueError for what :meth:`RunFolder.save` would not have written."""
        whole = (
            isinstance(self.settings, dict)
            and isinstance(self.command, list)
            and self.stage in ("training", "evaluation", "finished")
            and isinstance(self.seconds, int | float)
            and isinstance(self.started, int | float | None)
            and isinstance(self.failure, str)
        )
        if not whole:
            raise ValueError("no record of a training")


@dataclass
class RunFolder:
    """The folder of one training, its ``run.json``, and what the two say.

    Attributes:
        path: the folder.
        run: the training.
        log: what its processes print.
        results: scores that its evaluation writes.
        record: of ``run.json``; None before the first start.
    """

    grid: Grid
    run: Run
    output: Path
    record: Record | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.path = self.output / self.run.subfolder
        self.log = self.path / "output.log"
        self.results = self.path / "results.json"
        self.settings = {**self.run.row.settings, "SEED": self.run.seed}
        self._unusable = ""
        self.read()

    def read(self) -> None:
        """Reads ``run.json`` anew."""
        self.record, self._unusable = None, ""
        try:
            data = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            record = Record(**{entry.name: data[entry.name] for entry in fields(Record)})
            record.check()
            self.record = record
        except FileNotFoundError:
            if self.path.is_dir() and any(self.path.iterdir()):
                self._unusable = f"{self.path} holds files but no run.json"
        except (ValueError, KeyError, TypeError):
            self._unusable = f"{self.path / 'run.json'} is broken"

    @property
    def unknown(self) -> bool:
        """There are files, and no note that a training of a grid is among them."""
        return bool(self._unusable)

    @property
    def same_settings(self) -> bool:
        """The training was started, and with the settings that the grid has now."""
        return self.record is not None and self.record.settings == self.settings

    @property
    def problem(self) -> str:
        """Why the training cannot go on from what is there; "" if it can."""
        if self.record is None:
            return self._unusable
        if not self.same_settings:
            return _difference(self.record.settings, self.settings)
        evaluated = self.record.stage == "finished" and not self.missing_results()
        if self.record.stage != "training" and not evaluated and not self.weights.is_file():
            return f"{self.weights} is gone, and the evaluation needs it"
        return ""

    @property
    def state(self) -> State:
        """What is left to do."""
        if self.problem:
            return State.CHANGED
        if self.record is None:
            return State.NEW
        if self.record.stage == "training":
            return State.STARTED
        done = self.record.stage == "finished" and not self.missing_results()
        return State.FINISHED if done else State.TRAINED

    @property
    def weights(self) -> Path:
        """The checkpoint to evaluate: the best by validation, or the last where there is none."""
        return self.path / ("model_best.pth" if self.run.row.validated else "model_final.pth")

    def save(self) -> None:
        """Writes ``run.json``."""
        assert self.record is not None
        write_text(self.path / "run.json", json.dumps(asdict(self.record), indent=1) + "\n")

    def stop_clock(self, seen: bool = True) -> None:
        """Counts the seconds of a training under way, if there is one.

        Args:
            seen: it has just ended; otherwise, at some time after the last line of its log.
        """
        record = self.record
        if record is None or record.started is None:
            return
        end = time.time()
        if not seen:
            end = self.log.stat().st_mtime if self.log.exists() else record.started
        record.seconds += max(0.0, end - record.started)
        record.started = None

    def scores(self) -> dict[str, Any]:
        """Returns the content of ``results.json``; {} if there is none, or half of one."""
        try:
            data = json.loads(self.results.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def missing_results(self) -> list[str]:
        """Returns what the grid asks for and ``results.json`` lacks."""
        scores = self.scores()
        return [
            f"{name} under {condition}"
            for name, conditions in self.grid.test.items()
            for condition in conditions
            if not isinstance(scores.get(name), dict) or condition not in scores[name]
        ]

    def iteration(self) -> int:
        """Returns how many iterations the training has logged."""
        if self.record is not None and self.record.stage != "training":
            return self.run.row.iterations
        for line in reversed(last_lines(self.path / "metrics.json")):
            try:
                return min(int(json.loads(line)["iteration"]) + 1, self.run.row.iterations)
            except (ValueError, KeyError, TypeError):
                continue
        return 0

    def reset(self) -> None:
        """Deletes the folder: the next training starts anew."""
        shutil.rmtree(self.path)
        self.read()

    def remove_checkpoints(self) -> None:
        """Deletes all checkpoints but the evaluated and the best one."""
        for path in self.path.glob("model_*.pth"):
            if path.name not in (self.weights.name, "model_best.pth"):
                path.unlink()
        note = self.path / "last_checkpoint"
        if note.is_file() and not (self.path / note.read_text().strip()).is_file():
            note.unlink()


def last_lines(path: str | os.PathLike[str]) -> list[str]:
    """Returns the lines at the end of a text file; [] where there is none.

    A progress bar counts as one line, as it was shown last.
    """
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return [line for line in lines if line.strip()]


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    words = [
        f"{key} was {_shown(before, key)}, is {_shown(now, key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) or (key in before) != (key in now)
    ]
    return "; ".join(words)


def _shown(settings: dict[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "the default"
