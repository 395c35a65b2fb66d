"""The plot of an ablation: a panel for each score, a line for each row, a point for each seed."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Told apart by shape and lightness as well as by hue.
_POINT_COLOR = "#0072b2"
_MEAN_COLOR = "#1a1a1a"
_BAND_COLOR = "#e69f00"
_LINE_COLOR = "#bbbbbb"
# Large enough to be read in a page at half size.
_FONT_SIZE = 17
_ROW_HEIGHT = 0.46
_PANEL_WIDTH = 3.1
_TITLE_CHARACTERS = 15
_LABEL_CHARACTERS = 44


@dataclass(frozen=True)
class AblationRow:
    """A line of the plot.

    Attributes:
        title: its label.
        group: heading above the first of neighbouring rows that share it; "" for none.
        baseline: its mean and spread are drawn through all rows.
    """

    title: str
    group: str = ""
    baseline: bool = False


@dataclass(frozen=True)
class AblationPanel:
    """A column of the plot.

    Attributes:
        title: of the score.
        values: for each row those of its seeds; may be empty.
        higher_is_better: says the arrow beside the title; None for no arrow.
    """

    title: str
    values: Sequence[Sequence[float]]
    higher_is_better: bool | None = True


def draw_ablation(rows: Sequence[AblationRow], panels: Sequence[AblationPanel]) -> Figure:
    """Returns a figure with a panel for each score, side by side, over the same rows.

    Each seed is an open circle, the mean a bar. The baseline's mean is a vertical line through the
    panel, with a band as wide as its sample standard deviation to either side.

    Args:
        rows: from top to bottom.
        panels: from left to right; each has values for all rows.
    """
    if not rows or not panels:
        raise ValueError("expected at least one row and one panel")
    for panel in panels:
        if len(panel.values) != len(rows):
            raise ValueError(
                f"{panel.title}: expected values for {len(rows)} rows, got {len(panel.values)}"
            )
    places, headings = _places(rows)
    height = _ROW_HEIGHT * (max(places) + 1) + 2.2
    labels = [textwrap.shorten(row.title, _LABEL_CHARACTERS, placeholder=" …") for row in rows]
    label_width = 0.145 * max(map(len, [*labels, *(name for _, name in headings)]))
    # No pyplot: it keeps every figure and may ask for a display.
    size = (label_width + _PANEL_WIDTH * len(panels), height)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    first: Axes | None = None
    for column, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), column + 1, sharey=first)
        first = first or axes
        _draw_panel(axes, rows, places, panel)
        axes.tick_params(axis="y", length=0, labelleft=column == 0)
    assert first is not None
    first.set_ylim(max(places) + 0.7, -0.8)
    first.set_yticks([*places, *(place for place, _ in headings)])
    first.set_yticklabels([*labels, *(name for _, name in headings)], fontsize=_FONT_SIZE)
    for label, row in zip(first.get_yticklabels(), [*rows, *([None] * len(headings))], strict=True):
        if row is None:
            label.set_fontstyle("italic")
            label.set_color("#555555")
        elif row.baseline:
            label.set_fontweight("bold")
    return figure


def _places(rows: Sequence[AblationRow]) -> tuple[list[int], list[tuple[int, str]]]:
    """Heights of the rows, from the top, and those of the groups' headings with their names."""
    places, headings = [], []
    next_place, group = 0, ""
    for row in rows:
        if row.group and row.group != group:
            headings.append((next_place, row.group))
            next_place += 1
        group = row.group
        places.append(next_place)
        next_place += 1
    return places, headings


def _draw_panel(
    axes: Axes, rows: Sequence[AblationRow], places: Sequence[int], panel: AblationPanel
) -> None:
    for row, values in zip(rows, panel.values, strict=True):
        if row.baseline and values:
            _draw_band(axes, values)
    axes.hlines(places, 0, 1, transform=axes.get_yaxis_transform(), color="#eeeeee", zorder=0)
    for place, values in zip(places, panel.values, strict=True):
        if not values:
            continue
        axes.plot([min(values), max(values)], [place] * 2, color=_LINE_COLOR, linewidth=2, zorder=2)
        axes.plot(
            values,
            [place] * len(values),
            "o",
            markersize=8,
            markerfacecolor="white",
            markeredgecolor=_POINT_COLOR,
            markeredgewidth=2,
            zorder=3,
        )
        mean = statistics.fmean(values)
        axes.plot([mean], [place], "|", markersize=20, markeredgewidth=3, color=_MEAN_COLOR)
    arrow = {True: " ↑", False: " ↓", None: ""}[panel.higher_is_better]
    title = "\n".join(textwrap.wrap(panel.title, _TITLE_CHARACTERS)) + arrow
    axes.set_title(title, fontsize=_FONT_SIZE)
    axes.tick_params(axis="x", labelsize=_FONT_SIZE - 2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=2))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.08)
    if not any(panel.values):
        axes.text(0.5, 0.5, "nothing yet", ha="center", transform=axes.transAxes)


def _draw_band(axes: Axes, values: Sequence[float]) -> None:
    mean = statistics.fmean(values)
    if len(values) > 1:
        spread = statistics.stdev(values)
        axes.axvspan(mean - spread, mean + spread, color=_BAND_COLOR, alpha=0.3, linewidth=0)
    axes.axvline(mean, color=_BAND_COLOR, linewidth=2, zorder=1)
