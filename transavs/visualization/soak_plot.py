"""Curves of what a long training holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLORS = ("#0072b2", "#e69f00", "#009e73")


def draw_soak(samples: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Returns a figure of two panels over iterations: memory, and counts.

    Args:
        samples: each with ``iteration``, and any of ``rss_bytes``, ``own_bytes``, ``files``,
            ``threads``, ``processes``.
        title: above both.
    """
    if not samples:
        raise ValueError("expected at least one sample")
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, wrap=True)
    memory, counts = figure.subplots(2, 1, sharex=True)
    labels = {"rss_bytes": "resident", "own_bytes": "of it not files', shared pages once"}
    at = [sample["iteration"] for sample in samples]
    for color, (name, label) in zip(_COLORS, labels.items(), strict=False):
        if name in samples[0]:
            values = [sample[name] / 1e6 for sample in samples]
            memory.plot(at, values, color=color, label=label)
    for color, name in zip(_COLORS, ("files", "threads", "processes"), strict=True):
        if name in samples[0]:
            counts.plot(at, [sample[name] for sample in samples], color=color, label=name)
    memory.set_ylabel("MB, with child processes")
    counts.set_ylabel("number")
    counts.set_xlabel("iteration")
    for axes in (memory, counts):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
