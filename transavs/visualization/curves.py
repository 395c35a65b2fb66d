"""Curves of a training run, from the ``metrics.json`` that the trainer writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_LOSS_COLOR = "#b3541e"
_SCORE_COLOR = "#1f6f8b"
# Points of the loss curve that one point of the smooth line averages, at most.
_SMOOTHED_POINTS = 15


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the lines of a ``metrics.json`` in the order of their iterations.

    The file grows by a JSON object a line while training runs, so a last line cut short is left
    out. Where a resumed run wrote an iteration again, its later line counts.

    Raises:
        FileNotFoundError: no such file.
    """
    by_iteration: dict[int, dict[str, Any]] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                entry = json.loads(line)
                iteration = int(entry["iteration"])
            except (ValueError, KeyError, TypeError):
                continue
            by_iteration.setdefault(iteration, {}).update(entry)
    return [by_iteration[iteration] for iteration in sorted(by_iteration)]


def metric_series(metrics: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Returns (iterations, values) of a metric, also where it carries a data set's name in front.

    Args:
        metrics: of :func:`read_metrics`.
        name: such as ``"total_loss"`` or ``"avs/M_J"``; of several data sets the first one counts.
    """
    found = {key for entry in metrics for key in entry if key == name or key.endswith(f"/{name}")}
    if not found:
        return [], []
    key = min(found, key=len)
    points = [(int(entry["iteration"]), float(entry[key])) for entry in metrics if key in entry]
    iterations, values = zip(*points, strict=True)
    return list(iterations), list(values)


def draw_run_curves(metrics: Sequence[dict[str, Any]]) -> Figure:
    """Returns a figure of two panels: training loss, and validation M_J, over iterations.

    Args:
        metrics: of :func:`read_metrics`; may be empty, or hold only one of the two.
    """
    figure, (left, right) = _new_figure(columns=2)
    iterations, losses = metric_series(metrics, "total_loss")
    left.plot(iterations, losses, color=_LOSS_COLOR, alpha=0.35, linewidth=1)
    left.plot(iterations, _smooth(losses), color=_LOSS_COLOR, linewidth=2)
    left.set_title("training loss")
    left.set_ylim(bottom=0)
    iterations, scores = metric_series(metrics, "avs/M_J")
    right.plot(iterations, scores, color=_SCORE_COLOR, linewidth=2, marker="o", markersize=4)
    right.set_title("M_J on the validation clips, %")
    right.set_ylim(0, 100)
    for axes, points in ((left, losses), (right, scores)):
        axes.set_xlabel("iteration")
        if not points:
            axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
    return figure


def draw_score_histogram(scores: Sequence[float], marks: Sequence[float] = ()) -> Figure:
    """Returns a histogram of the clips' Jaccard indices.

    Args:
        scores: one a clip, in percent.
        marks: values to point at, such as those of the clips that are shown.
    """
    figure, (axes,) = _new_figure(columns=1)
    counts, _, _ = axes.hist(scores, bins=np.linspace(0, 100, 21).tolist(), color=_SCORE_COLOR)
    highest = max(float(np.max(counts)), 1.0)
    axes.plot(marks, [-0.04 * highest] * len(marks), "^", color=_LOSS_COLOR, clip_on=False)
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("mean Jaccard index of a clip where it sounds, %")
    axes.set_ylabel("clips")
    return figure


def _new_figure(columns: int) -> tuple[Figure, list[Axes]]:
    # No pyplot: it keeps every figure and may ask for a display.
    figure = Figure(figsize=(5.0 * columns, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean over the last points, shorter at the start."""
    window = max(1, min(_SMOOTHED_POINTS, len(values) // 4))
    return [
        float(np.mean(values[max(0, index - window + 1) : index + 1]))
        for index in range(len(values))
    ]
