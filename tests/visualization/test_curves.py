"""Curves of a run, read from the trainer's metrics.json."""

import json
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from transavs.visualization import draw_run_curves, draw_score_histogram, read_metrics
from transavs.visualization.curves import metric_series


def test_metrics_are_merged_by_iteration(tmp_path: Path) -> None:
    lines = [
        {"iteration": 19, "total_loss": 5.0},
        {"iteration": 39, "total_loss": 4.0},
        {"iteration": 39, "demo_s4_val/avs/M_J": 60.0},
        # A resumed run goes through iteration 39 again.
        {"iteration": 39, "total_loss": 3.5},
        {"iteration": 20, "total_loss": 4.9},
    ]
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(map(json.dumps, lines)) + '\nnot json\n[1]\n{"iteration": 59, "tot')
    metrics = read_metrics(path)
    assert metric_series(metrics, "total_loss") == ([19, 20, 39], [5.0, 4.9, 3.5])
    assert metric_series(metrics, "avs/M_J") == ([39], [60.0])
    assert metric_series(metrics, "avs/M_F") == ([], [])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="metrics.json"):
        read_metrics(tmp_path / "metrics.json")


def test_run_curves_show_loss_and_score() -> None:
    metrics = [{"iteration": i, "total_loss": 10.0 - i} for i in range(10)]
    metrics[9]["avs/M_J"] = 71.0
    left, right = draw_run_curves(metrics).axes
    raw, smooth = left.get_lines()
    assert list(raw.get_ydata()) == [10.0 - i for i in range(10)]
    # A running mean over two points lags by half a point.
    assert list(smooth.get_ydata())[:3] == [10.0, 9.5, 8.5]
    assert list(right.get_lines()[0].get_ydata()) == [71.0]


def test_run_curves_of_nothing_say_so() -> None:
    for axes in draw_run_curves([]).axes:
        assert [text.get_text() for text in axes.texts] == ["not recorded"]


def test_histogram_counts_every_clip() -> None:
    figure = draw_score_histogram([0.0, 52.0, 54.0, 100.0], marks=[52.0])
    (axes,) = figure.axes
    assert isinstance(axes, Axes)
    heights = [patch.get_height() for patch in axes.patches]
    assert sum(heights) == 4 and heights[0] == heights[-1] == 1 and heights[10] == 2
