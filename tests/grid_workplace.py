"""A grid whose commands take no time, with what steers them and what they leave behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fake_trainings

from transavs.engine.grid import Commands, Grid, GridRunner, Outcome, RunFolder, read_grid

GRID = """
config: configs/demo/demo_ms3.yaml
overrides: {SOLVER.MAX_ITER: 100, DATASETS.VAL: [], MODEL.AUDIO.WEIGHTS: ""}
seeds: [0, 1]
test: [demo_ms3_test, demo_ms3_unseen]
conditions: [original, silence]
rows:
- {name: base, baseline: true}
- {name: big, overrides: {MODEL.TRANSAVS.NUM_QUERIES: 50}}
"""


#: The commands of all its runs, in their order.
EVERYTHING = [
    *("train-base-seed_0", "evaluate-base-seed_0", "train-big-seed_0", "evaluate-big-seed_0"),
    *("train-base-seed_1", "evaluate-base-seed_1", "train-big-seed_1", "evaluate-big-seed_1"),
]


class Workplace:
    """A grid's file, its output, and the folder that steers the commands."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "grid.yaml"
        self.output = folder / "out"
        self.control = folder / "control"
        self.control.mkdir()
        self.told: list[str] = []
        self.write(GRID)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    @property
    def grid(self) -> Grid:
        return read_grid(self.file)

    def run(self, force: bool = False, **options: object) -> Outcome:
        runner = GridRunner(
            self.grid,
            self.output,
            **{"jobs": 1, "poll_seconds": 0.01, "tell": self.told.append, **options},
            commands=Commands(*fake_trainings.commands()),
        )
        return runner.run(self.grid.runs(), force=force)

    def steer(self, *names: str) -> None:
        for name in names:
            (self.control / name).touch()

    def calls(self) -> list[str]:
        """What was called since the last time that somebody asked."""
        path = self.control / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def folder(self, row: str, seed: int) -> RunFolder:
        (run,) = self.grid.runs([row], [seed])
        return RunFolder(self.grid, run, self.output)

    def when(self, name: str, act: Callable[[], object]) -> threading.Thread:
        """Acts as soon as a command has made a file."""

        def wait() -> None:
            deadline = time.monotonic() + 30
            while not (self.control / name).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
