"""The report of a grid: ``table.md`` for people, ``table.json`` for programs, ``plot.png``."""

from __future__ import annotations

import io
import json
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tabulate import tabulate

from transavs.apps.ablation.grid import Grid, Row
from transavs.apps.ablation.runs import Run
from transavs.data import NEGATIVE_CONDITIONS
from transavs.evaluation.results_file import ROBUSTNESS
from transavs.evaluation.summary import F_GROUPS
from transavs.utils.whole_files import write_bytes, write_text

_DASH, _MINUS = "–", "−"
# Told apart by shape and lightness as well as by hue; large enough for a page at half size.
_POINT_COLOR, _BAND_COLOR, _FONT_SIZE = "#0072b2", "#e69f00", 17


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        key: its name in files.
        title: its name for people.
        path: where ``results.json`` has the value; () for one that is not there.
        better: "↑" or "↓" for the better direction; "" for what is neither good nor bad.
        digits: digits behind the point, in the table.
        factor: from the file's unit to the table's.
        drawn: whether it has a panel in the plot.
    """

    key: str
    title: str
    path: tuple[str, ...]
    better: str = "↑"
    digits: int = 1
    factor: float = 1.0
    drawn: bool = True


@dataclass(frozen=True)
class RowScores:
    """A row with what is known of it.

    Attributes:
        row: the row of the grid.
        by_seed: for each finished seed the values by the metrics' keys; None for an absent one.
        failures: for each seed whose last attempt failed, how it did.
    """

    row: Row
    by_seed: Mapping[int, Mapping[str, float | None]]
    failures: Mapping[int, str]

    def values(self, key: str, baseline: RowScores | None = None) -> list[float]:
        """Returns a metric's values, less the baseline's of the same seed where one is given."""
        other = baseline.by_seed if baseline else {seed: {key: 0.0} for seed in self.by_seed}
        pairs = [
            (found[key], other[seed][key]) for seed, found in self.by_seed.items() if seed in other
        ]
        return [a - b for a, b in pairs if a is not None and b is not None]


def metrics_of(grid: Grid) -> list[Metric]:
    """Returns the columns of a grid's table, those of its first data set before the others'."""
    first, *others = grid.test
    own, robust = (first, "original"), (ROBUSTNESS, first)
    nonempty, whole = "M_J_nonempty", "G_mIoU_all_frames"
    of_groups = [(f"M_F_group_{size}", f"M_F of {size}") for size in F_GROUPS]
    of_queries = (
        ("query_cosine", "query cosine"),
        ("query_overlap", "query overlap"),
        ("queries_confident", "confident queries"),
    )
    metrics = [
        Metric("M_J", "M_J", (*own, "M_J")),
        Metric(nonempty, "M_J non-empty", (*own, nonempty)),
        Metric("M_F", "M_F", (*own, "M_F")),
        *(Metric(key, title, (*own, key), drawn=False) for key, title in of_groups),
        Metric(
            f"{nonempty}_shuffled", "M_J non-empty, shuffled", (first, "shuffled", nonempty), "↓"
        ),
        *(
            Metric(f"FPR_{name}", f"{name}: false pixels %", (first, name, "FPR"), "↓", 2, 100)
            for name in NEGATIVE_CONDITIONS
        ),
        Metric("G_mIoU", "G-mIoU", (*robust, "G_mIoU")),
        Metric(whole, "G-mIoU, all frames", (*robust, whole), drawn=False),
        Metric("G_F", "G-F", (*robust, "G_F"), drawn=False),
    ]
    for name in others:
        path, of_name = (name, "original", nonempty), (ROBUSTNESS, name, "G_mIoU")
        metrics.append(Metric(f"{nonempty}:{name}", f"M_J non-empty, {name}", path))
        metrics.append(Metric(f"G_mIoU:{name}", f"G-mIoU, {name}", of_name, drawn=False))
    metrics += [Metric(key, title, (*own, key), "", 2, drawn=False) for key, title in of_queries]
    return [*metrics, Metric("seconds", "training s", (), "", 0, drawn=False)]


def read_scores(grid: Grid, output: Path) -> list[RowScores]:
    """Returns the scores of all rows, from the folders of their evaluated runs.

    Runs that were made from other settings than the grid's are left out.
    """
    rows = []
    for row in grid.rows:
        runs = [Run(grid, row, seed, output) for seed in row.seeds]
        runs = [run for run in runs if run.record and not run.changes]
        by_seed = {run.seed: _values(grid, run) for run in runs if grid.main_test in run.scores}
        failures = {r.seed: r.record.failure for r in runs if r.record and r.record.failure}
        rows.append(RowScores(row, by_seed, failures))
    return rows


def _values(grid: Grid, run: Run) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for metric in metrics_of(grid):
        value: Any = run.scores if metric.path else None
        for part in metric.path:
            value = value.get(part) if isinstance(value, Mapping) else None
        finite = isinstance(value, int | float) and math.isfinite(value)
        found[metric.key] = metric.factor * value if finite else None
    return found | {"seconds": run.record.seconds if run.record else None}


def write_report(grid: Grid, output: Path) -> None:
    """Writes the tables and the plot of what is evaluated into a grid's folder."""
    rows, metrics = read_scores(grid, output), metrics_of(grid)
    write_text(output / "table.md", format_markdown(grid, rows, metrics))
    data = report_data(grid, rows, metrics)
    write_text(output / "table.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    picture = io.BytesIO()
    drawn = [metric for metric in metrics if metric.drawn]
    known = [metric for metric in drawn if any(row.values(metric.key) for row in rows)]
    draw(rows, known or drawn[:1]).savefig(picture, format="png", dpi=100)
    write_bytes(output / "plot.png", picture.getvalue())


def format_markdown(grid: Grid, rows: Sequence[RowScores], metrics: Sequence[Metric]) -> str:
    """Returns the tables: scores, differences to the baseline, commands, and what failed."""
    done, count = sum(len(r.by_seed) for r in rows), sum(len(r.row.seeds) for r in rows)
    base = _baseline(rows)
    titles = [metric.title for metric in metrics]
    scores, differences = [], []
    for r in rows:
        title = f"**{r.row.title}**" if r is base else r.row.title
        seeds, known = len(r.row.seeds), len(r.by_seed)
        cells = [_shown(r.values(metric.key), metric.digits) for metric in metrics]
        change = [] if r is base or base is None else r.values("M_J", base)
        known_of = str(known) if known == seeds else f"{known} of {seeds}"
        scores.append([r.row.group, title, known_of, *cells, _shown(change, 1, "+")])
        if base is not None and r is not base:
            pairs = [r.values(metric.key, base) for metric in metrics]
            cells = [_shown(v, m.digits, "+") for v, m in zip(pairs, metrics, strict=True)]
            differences.append([r.row.title, str(max(map(len, pairs))), *cells])
    parts = [
        f"# {Path(grid.path).stem}: {done} of {count} trainings",
        f"Of the grid `{grid.path}`. Means over seeds ± sample standard deviation (n {_MINUS} 1; "
        f"a single seed has none). Scores are of `{grid.main_test}` under its own sound unless a "
        "column says otherwise, M_J, M_F and G-mIoU in percent; M_F is at groups of "
        "TEST.F_THRESHOLD_BATCH clips, “of 1” and “of 4” at groups of so many; G-mIoU is over the "
        "frames in which something sounds. Seconds are those of the clock, of the whole training "
        f"process. {_DASH}: not measured.",
        _table(["group", "row", "seeds", *titles, f"M_J {_MINUS} base"], scores),
    ]
    if base is not None:
        parts += [
            "## Differences to the baseline",
            f"Row minus “{base.row.title}”, of the same seed each time: mean ± sample standard "
            "deviation of these differences.",
            _table(["row", "pairs", *titles], differences),
        ]
    parts += [
        "## Commands",
        "Of the first seed each; `SEED` is the only difference between the seeds of a row.",
        _table(["row", "command"], [[r.row.title, f"`{r.row.command}`"] for r in rows]),
    ]
    failed = [[r.row.title, str(seed), why] for r in rows for seed, why in r.failures.items()]
    parts += ["## Failed", _table(["row", "seed", "how"], failed)] if failed else []
    return "\n\n".join(parts) + "\n"


def report_data(grid: Grid, rows: Sequence[RowScores], metrics: Sequence[Metric]) -> dict[str, Any]:
    """Returns everything that the tables show, and each seed's scores, for ``table.json``."""
    base = _baseline(rows)
    entries = []
    for r in rows:
        fields = ("name", "title", "group", "baseline", "command", "seeds")
        entry = {field: getattr(r.row, field) for field in fields}
        entry |= {"by_seed": r.by_seed, "failures": r.failures}
        entry["scores"] = {m.key: _statistic(r.values(m.key)) for m in metrics}
        if base is not None and r is not base:
            entry["difference"] = {m.key: _statistic(r.values(m.key, base)) for m in metrics}
        entries.append(entry)
    return {
        "grid": grid.path,
        "test": grid.test,
        "spread": "sample standard deviation",
        "metrics": {metric.key: metric.title for metric in metrics},
        "rows": entries,
    }


def _baseline(rows: Sequence[RowScores]) -> RowScores | None:
    return next((row for row in rows if row.row.baseline), None)


def _statistic(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean (None for no value), sample standard deviation (None for fewer than two), count."""
    mean = statistics.fmean(values) if values else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": mean, "spread": spread, "count": len(values)}


def _shown(values: Sequence[float], digits: int, sign: str = "") -> str:
    if not values:
        return _DASH
    text = f"{statistics.fmean(values):{sign}.{digits}f}".replace("-", _MINUS)
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(escaped, headers, tablefmt="github", disable_numparse=True)


def draw(rows: Sequence[RowScores], metrics: Sequence[Metric]) -> Figure:
    """Returns a figure with a panel for each metric, side by side, over the same rows.

    Each seed is an open circle, the mean a bar. The baseline's mean is a vertical line through the
    panel, with a band as wide as its sample standard deviation to either side.
    """
    places, labels, group = [], [], ""  # rows and headings of groups, from the top
    for r in rows:
        if r.row.group not in ("", group):
            labels.append(r.row.group)
        group = r.row.group
        places.append(len(labels))
        labels.append(textwrap.shorten(r.row.title, 44, placeholder=" …"))
    size = (0.145 * max(map(len, labels)) + 3.1 * len(metrics), 0.46 * len(labels) + 2.2)
    # No pyplot: it keeps every figure and may ask for a display.
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _draw_panel(axes, metric, rows, places)
    first = panels[0]
    first.set_ylim(len(labels) - 0.3, -0.8)
    first.set_yticks(range(len(labels)), labels, fontsize=_FONT_SIZE)
    for place, label in enumerate(first.get_yticklabels()):
        if place not in places:
            label.set(fontstyle="italic", color="#555555")
        elif rows[places.index(place)].row.baseline:
            label.set_fontweight("bold")
    return figure


def _draw_panel(
    axes: Axes, metric: Metric, rows: Sequence[RowScores], places: Sequence[int]
) -> None:
    found = [
        (place, r.row.baseline, r.values(metric.key)) for r, place in zip(rows, places, strict=True)
    ]
    axes.hlines(places, 0, 1, transform=axes.get_yaxis_transform(), color="#eeeeee", zorder=0)
    for place, baseline, values in found:
        if not values:
            continue
        mean = statistics.fmean(values)
        if baseline:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            axes.axvspan(mean - spread, mean + spread, color=_BAND_COLOR, alpha=0.3, linewidth=0)
            axes.axvline(mean, color=_BAND_COLOR, linewidth=2, zorder=1)
        axes.plot(values, [place] * len(values), "-", color="#bbbbbb", linewidth=2, zorder=2)
        (points,) = axes.plot(values, [place] * len(values), "o", color=_POINT_COLOR, zorder=3)
        points.set(markersize=8, markerfacecolor="white", markeredgewidth=2)
        axes.plot([mean], [place], "|", markersize=20, markeredgewidth=3, color="#1a1a1a")
    title = "\n".join(textwrap.wrap(metric.title, 15))
    axes.set_title(f"{title} {metric.better}", fontsize=_FONT_SIZE)
    axes.tick_params(axis="x", labelsize=_FONT_SIZE - 2)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=2))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.08)
    if not any(values for *_, values in found):
        axes.text(0.5, 0.5, "nothing yet", ha="center", transform=axes.transAxes)
