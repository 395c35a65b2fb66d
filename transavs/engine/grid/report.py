"""The report of a grid: ``table.md`` for people, ``table.json`` for programs, ``plot.png``."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transavs.engine.grid.commands import shown_command
from transavs.engine.grid.scores import Metric, RowScores, Statistic, metrics_of, read_scores
from transavs.engine.grid.spec import Grid
from transavs.utils.whole_files import write_bytes, write_text
from transavs.visualization import AblationPanel, AblationRow, draw_ablation

_DASH = "–"
_MINUS = "−"


def write_report(grid: Grid, output: str | os.PathLike[str]) -> list[RowScores]:
    """Writes table and plot of what is finished into a grid's folder; returns the scores."""
    output = Path(output)
    rows = read_scores(grid, output)
    metrics = metrics_of(grid)
    write_text(output / "table.md", format_markdown(grid, rows, metrics))
    data = report_data(grid, rows, metrics)
    write_text(output / "table.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    picture = io.BytesIO()
    drawn = [metric for metric in metrics if metric.drawn]
    draw_ablation(*_plot_content(rows, drawn)).savefig(picture, format="png", dpi=100)
    write_bytes(output / "plot.png", picture.getvalue())
    return rows


def format_markdown(grid: Grid, rows: Sequence[RowScores], metrics: Sequence[Metric]) -> str:
    """Returns the tables: scores, differences to the baseline, commands, and what failed."""
    done = sum(len(row.by_seed) for row in rows)
    count = sum(len(row.row.seeds) for row in rows)
    baseline = _baseline(rows)
    parts = [
        f"# {Path(grid.path).stem}: {done} of {count} trainings",
        f"Of the grid `{grid.path}`. Means over seeds ± sample standard deviation (n {_MINUS} 1; "
        f"a single seed has none). Scores are of `{grid.main_test}` under its own sound unless a "
        "column says otherwise, M_J, M_F and G-mIoU in percent; M_F is at groups of "
        "TEST.F_THRESHOLD_BATCH clips, “of 1” and “of 4” at groups of so many; G-mIoU is over the "
        "frames in which something sounds. Seconds are those of the clock, of the whole training "
        "process. "
        f"{_DASH}: not measured.",
        _table(
            ["group", "row", "seeds", *(metric.title for metric in metrics), f"M_J {_MINUS} base"],
            [_score_cells(row, metrics, baseline) for row in rows],
        ),
    ]
    if baseline is not None:
        title = baseline.row.title
        compared = [row for row in rows if row is not baseline]
        parts += [
            "## Differences to the baseline",
            f"Row minus “{title}”, of the same seed each time: mean ± sample standard deviation of "
            "these differences.",
            _table(
                ["row", "pairs", *(metric.title for metric in metrics)],
                [_difference_cells(row, metrics, baseline) for row in compared],
            ),
        ]
    parts += [
        "## Commands",
        "Of the first seed each; `SEED` is the only difference between the seeds of a row.",
        _table(["row", "command"], [[r.row.title, f"`{shown_command(r.row)}`"] for r in rows]),
    ]
    failures = [
        [row.row.title, str(seed), text] for row in rows for seed, text in row.failures.items()
    ]
    if failures:
        parts += ["## Failed", _table(["row", "seed", "how"], failures)]
    return "\n\n".join(parts) + "\n"


def report_data(grid: Grid, rows: Sequence[RowScores], metrics: Sequence[Metric]) -> dict[str, Any]:
    """Returns everything that the tables show, and each seed's scores, for ``table.json``."""
    baseline = _baseline(rows)
    entries = []
    for scores in rows:
        row = scores.row
        entry = {
            "name": row.name,
            "title": row.title,
            "group": row.group,
            "baseline": row.baseline,
            "command": shown_command(row),
            "seeds": list(row.seeds),
            "by_seed": {str(seed): dict(values) for seed, values in scores.by_seed.items()},
            "scores": {m.key: asdict(scores.statistic(m.key)) for m in metrics},
            "failures": {str(seed): text for seed, text in scores.failures.items()},
        }
        if baseline is not None and scores is not baseline:
            entry["difference"] = {
                m.key: asdict(scores.difference(baseline, m.key)) for m in metrics
            }
        entries.append(entry)
    return {
        "grid": grid.path,
        "test": {name: list(conditions) for name, conditions in grid.test.items()},
        "spread": "sample standard deviation",
        "metrics": {m.key: m.title for m in metrics},
        "rows": entries,
    }


def _baseline(rows: Sequence[RowScores]) -> RowScores | None:
    return next((row for row in rows if row.row.baseline), None)


def _score_cells(
    scores: RowScores, metrics: Sequence[Metric], baseline: RowScores | None
) -> list[str]:
    row = scores.row
    known, wanted = len(scores.by_seed), len(row.seeds)
    title = f"**{row.title}**" if row.baseline else row.title
    cells = [row.group, title, str(known) if known == wanted else f"{known} of {wanted}"]
    cells += [_shown(scores.statistic(metric.key), metric.digits) for metric in metrics]
    if baseline is None or scores is baseline:
        return [*cells, _DASH]
    return [*cells, _shown(scores.difference(baseline, "M_J"), 1, signed=True)]


def _difference_cells(
    scores: RowScores, metrics: Sequence[Metric], baseline: RowScores
) -> list[str]:
    found = [scores.difference(baseline, metric.key) for metric in metrics]
    cells = [
        _shown(value, metric.digits, signed=True)
        for value, metric in zip(found, metrics, strict=True)
    ]
    return [scores.row.title, str(max(value.count for value in found)), *cells]


def _shown(value: Statistic, digits: int, signed: bool = False) -> str:
    if value.mean is None:
        return _DASH
    text = f"{value.mean:{'+' if signed else ''}.{digits}f}".replace("-", _MINUS)
    return text if value.spread is None else f"{text} ± {value.spread:.{digits}f}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _plot_content(
    rows: Sequence[RowScores], metrics: Sequence[Metric]
) -> tuple[list[AblationRow], list[AblationPanel]]:
    """Rows and panels of the plot; metrics that no run has are left out, but never all."""
    known = [m for m in metrics if any(row.statistic(m.key).count for row in rows)]
    chosen = known or list(metrics[:1])
    panels = [
        AblationPanel(
            m.title,
            [
                [value for v in row.by_seed.values() if (value := v[m.key]) is not None]
                for row in rows
            ],
            m.higher_is_better,
        )
        for m in chosen
    ]
    return [AblationRow(r.row.title, r.row.group, r.row.baseline) for r in rows], panels
