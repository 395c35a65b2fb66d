"""What a grid is: rows, the trainings that they stand for, and how these are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transavs.engine.grid.fields import check_known


@dataclass(frozen=True)
class Row:
    """One line of the table: a configuration, trained once with each seed.

    Attributes:
        name: of its folder.
        title: for people.
        group: heading under which rows stand together; "" for none.
        config: file of the configuration, as the grid names it.
        options: overrides as words of a command line: KEY VALUE KEY VALUE ...
        seeds: of its trainings.
        baseline: whether other rows are compared with it.
        settings: every value that differs from the library's defaults, by dotted key, as JSON has
            it; without the reserved keys. Equal settings train alike.
        iterations: length of a training.
        validated: a training keeps the best model by validation.
    """

    name: str
    title: str
    group: str
    config: str
    options: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: bool
    settings: Mapping[str, Any]
    iterations: int
    validated: bool


@dataclass(frozen=True)
class Run:
    """One training: a row with one of its seeds."""

    row: Row
    seed: int

    def __str__(self) -> str:
        return f"{self.row.name} seed {self.seed}"

    @property
    def subfolder(self) -> Path:
        """Its folder within that of the grid's output."""
        return Path("runs", self.row.name, f"seed_{self.seed}")


@dataclass(frozen=True)
class Grid:
    """All rows, and how each of their models is evaluated.

    Attributes:
        path: the file.
        rows: in the file's order.
        test: data sets to evaluate on, each with its audio conditions, "original" among them; most
            scores of the table are of the first.
    """

    path: str
    rows: tuple[Row, ...]
    test: Mapping[str, tuple[str, ...]]

    @property
    def main_test(self) -> str:
        """The data set that most scores are of."""
        return next(iter(self.test))

    @property
    def baseline(self) -> Row | None:
        """The row that the others are compared with, if there is one."""
        return next((row for row in self.rows if row.baseline), None)

    def runs(self, rows: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Run]:
        """Returns the trainings seed by seed: interrupted, a grid has whole columns of rows.

        Args:
            rows: names to choose; () for all.
            seeds: to choose; () for all.

        Raises:
            ValueError: a row or seed that the grid does not have.
        """
        every_seed = list(dict.fromkeys(seed for row in self.rows for seed in row.seeds))
        check_known(self.path, "row", rows, [row.name for row in self.rows])
        check_known(self.path, "seed", seeds, every_seed)
        return [
            Run(row, seed)
            for seed in every_seed
            for row in self.rows
            if seed in row.seeds and (not rows or row.name in rows) and (not seeds or seed in seeds)
        ]
