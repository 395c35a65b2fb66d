"""Curves of a model's cost over queries, resolution, frames and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

_MODEL_COLOR = "#0072b2"
_LIMIT_COLOR = "#e69f00"
_PANEL_SIZE = 3.6
_TITLES = {
    "queries": "queries",
    "size": "resolution, pixels",
    "frames": "frames of a clip",
    "batch": "clips at once",
}


def draw_scaling(curves: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> Figure:
    """Returns a figure with a column for each quantity: time of a clip above, ratio below.

    All panels of a row share their scale.

    Args:
        curves: by quantity, points with ``value``, ``seconds``, ``limit_seconds`` (of the batch),
            ``seconds_per_clip`` and ``ratio``.
        title: above all.
    """
    if not curves or not all(curves.values()):
        raise ValueError("expected at least one quantity with at least one point")
    figure = Figure(figsize=(_PANEL_SIZE * len(curves), 2 * _PANEL_SIZE), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    axes_of_rows = figure.subplots(2, len(curves), sharey="row", squeeze=False)
    for column, (quantity, points) in enumerate(curves.items()):
        values = [point["value"] for point in points]
        above, below = axes_of_rows[:, column]
        times = [1000 * point["seconds_per_clip"] for point in points]
        limits = [
            1000 * point["limit_seconds"] * point["seconds_per_clip"] / point["seconds"]
            for point in points
        ]
        above.plot(values, times, "o-", color=_MODEL_COLOR, label="model")
        above.plot(values, limits, "s--", color=_LIMIT_COLOR, label="encoders alone")
        below.plot(values, [p["ratio"] for p in points], "o-", color=_MODEL_COLOR)
        below.axhline(1, color=_LIMIT_COLOR, linestyle="--")
        above.set_yscale("log")
        above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        above.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        above.yaxis.set_minor_formatter(NullFormatter())
        for axes in (above, below):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(values))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.grid(alpha=0.3)
        below.set_ylim(bottom=0)
        below.set_xlabel(_TITLES.get(quantity, quantity))
        if column == 0:
            above.set_ylabel("ms a clip")
            below.set_ylabel("ratio to the encoders alone")
            above.legend()
    return figure
