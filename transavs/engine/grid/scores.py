"""Scores of a grid's rows: of each seed, their mean and spread, and differences to the baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transavs.data import NEGATIVE_CONDITIONS
from transavs.engine.grid.run_folder import RunFolder
from transavs.engine.grid.spec import Grid, Row
from transavs.evaluation.results_file import ROBUSTNESS
from transavs.evaluation.summary import F_GROUPS


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        key: its name in files.
        title: for people.
        path: of the value in ``results.json``; () for one that is not there.
        factor: from the file to the table.
        digits: behind the point, in the table.
        higher_is_better: None for what is neither good nor bad.
        drawn: has a panel in the plot.
    """

    key: str
    title: str
    path: tuple[str, ...]
    factor: float = 1.0
    digits: int = 1
    higher_is_better: bool | None = True
    drawn: bool = True


@dataclass(frozen=True)
class Statistic:
    """A mean over seeds.

    Attributes:
        mean: of ``count`` values; None without any.
        spread: their sample standard deviation; None for fewer than two.
        count: of values.
    """

    mean: float | None
    spread: float | None
    count: int


@dataclass(frozen=True)
class RowScores:
    """What is known of a row.

    Attributes:
        row: the row.
        by_seed: of each finished seed the values by the metrics' keys; None for an absent one.
        failures: of each seed whose last attempt failed, how.
    """

    row: Row
    by_seed: Mapping[int, Mapping[str, float | None]]
    failures: Mapping[int, str]

    def statistic(self, key: str) -> Statistic:
        """Returns mean and spread of a metric over the seeds that have it."""
        return statistic([values[key] for values in self.by_seed.values()])

    def difference(self, baseline: RowScores, key: str) -> Statistic:
        """Returns mean and spread of row minus baseline, over the seeds that both have."""
        pairs = [
            (values[key], baseline.by_seed[seed][key])
            for seed, values in self.by_seed.items()
            if seed in baseline.by_seed
        ]
        return statistic([a - b for a, b in pairs if a is not None and b is not None])


def metrics_of(grid: Grid) -> list[Metric]:
    """Returns the columns of a grid's table, those of its first test set before the others'."""
    first, *others = grid.test
    own = (first, "original")
    return [
        Metric("M_J", "M_J", (*own, "M_J")),
        Metric("M_J_nonempty", "M_J non-empty", (*own, "M_J_nonempty")),
        Metric("M_F", "M_F", (*own, "M_F")),
        *(
            Metric(f"M_F_group_{size}", f"M_F of {size}", (*own, f"M_F_group_{size}"), drawn=False)
            for size in F_GROUPS
        ),
        Metric(
            "M_J_nonempty_shuffled",
            "M_J non-empty, shuffled",
            (first, "shuffled", "M_J_nonempty"),
            higher_is_better=False,
        ),
        *(
            Metric(
                f"FPR_{condition}",
                f"{condition}: false pixels %",
                (first, condition, "FPR"),
                factor=100,
                digits=2,
                higher_is_better=False,
            )
            for condition in NEGATIVE_CONDITIONS
        ),
        Metric("G_mIoU", "G-mIoU", (ROBUSTNESS, first, "G_mIoU")),
        Metric(
            "G_mIoU_all_frames",
            "G-mIoU, all frames",
            (ROBUSTNESS, first, "G_mIoU_all_frames"),
            drawn=False,
        ),
        Metric("G_F", "G-F", (ROBUSTNESS, first, "G_F"), drawn=False),
        *(metric for name in others for metric in _metrics_elsewhere(name)),
        _query_metric("query_cosine", "query cosine", first),
        _query_metric("query_overlap", "query overlap", first),
        _query_metric("queries_confident", "confident queries", first),
        Metric("seconds", "training s", (), digits=0, higher_is_better=None, drawn=False),
    ]


def _metrics_elsewhere(name: str) -> list[Metric]:
    nonempty, whole = "M_J_nonempty", "G_mIoU"
    return [
        Metric(f"{nonempty}:{name}", f"M_J non-empty, {name}", (name, "original", nonempty)),
        Metric(f"{whole}:{name}", f"G-mIoU, {name}", (ROBUSTNESS, name, whole), drawn=False),
    ]


def _query_metric(key: str, title: str, dataset: str) -> Metric:
    path = (dataset, "original", key)
    return Metric(key, title, path, digits=2, higher_is_better=None, drawn=False)


def read_scores(grid: Grid, output: Path) -> list[RowScores]:
    """Returns the scores of all rows, from the folders of their finished runs.

    Runs that were made from other settings than the grid's are left out.
    """
    metrics = metrics_of(grid)
    rows = []
    for row in grid.rows:
        by_seed: dict[int, dict[str, float | None]] = {}
        failures: dict[int, str] = {}
        for run in grid.runs(rows=[row.name]):
            folder = RunFolder(grid, run, output)
            record = folder.record
            if record is None or not folder.same_settings:
                continue
            # Evaluated under fewer conditions than the grid has now, it still is what it is.
            if record.stage == "finished":
                results = folder.scores()
                by_seed[run.seed] = {m.key: _value(results, m) for m in metrics}
                by_seed[run.seed]["seconds"] = record.seconds
            if record.failure:
                failures[run.seed] = record.failure
        rows.append(RowScores(row, by_seed, failures))
    return rows


def statistic(values: Sequence[float | None]) -> Statistic:
    """Returns mean and sample standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return Statistic(mean, spread, len(known))


def _value(results: Mapping[str, Any], metric: Metric) -> float | None:
    value: Any = results if metric.path else None
    for part in metric.path:
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return metric.factor * value
