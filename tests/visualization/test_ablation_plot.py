"""The plot of an ablation: every seed, mean and group in its place."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from transavs.visualization import AblationPanel, AblationRow, draw_ablation

ROWS = [
    AblationRow("base", baseline=True),
    AblationRow("a", "losses"),
    AblationRow("b", "losses"),
    AblationRow("c"),
]
VALUES = [[60.0, 62.0, 64.0], [70.0], [], [50.0, 51.0]]


def draw() -> Figure:
    panels = [
        AblationPanel("M_J", VALUES),
        AblationPanel("false pixels % on negatives", VALUES, False),
    ]
    return draw_ablation(ROWS, panels)


def test_rows_points_and_band() -> None:
    figure = draw()
    left, right = figure.axes
    # The heading of the group takes a line of its own.
    assert list(left.get_yticks()) == [0, 2, 3, 4, 1]
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == ["base", "a", "b", "c", "losses"]
    assert left.get_title() == "M_J ↑" and right.get_title().endswith("↓")
    points = [line for line in left.get_lines() if line.get_marker() == "o"]
    assert [(list(p.get_xdata()), set(p.get_ydata())) for p in points] == [
        ([60, 62, 64], {0}),
        ([70], {2}),
        ([50, 51], {4}),
    ]
    means = [line.get_xdata()[0] for line in left.get_lines() if line.get_marker() == "|"]
    assert means == [62, 70, 50.5]
    # The band: mean 62, sample standard deviation 2.
    (band,) = left.patches
    corners = band.get_path().vertices if band.get_path() is not None else None
    extent = band.get_transform().transform(corners)
    (low, _), (high, _) = left.transData.inverted().transform([extent.min(0), extent.max(0)])
    assert (low, high) == pytest.approx((60, 64))
    assert left.get_ylim()[0] > left.get_ylim()[1]


def test_a_single_seed_has_no_band_and_nothing_is_fine() -> None:
    rows = [AblationRow("base", baseline=True)]
    figure = draw_ablation(rows, [AblationPanel("M_J", [[60.0]], None)])
    assert not figure.axes[0].patches and figure.axes[0].get_title() == "M_J"
    figure = draw_ablation(rows, [AblationPanel("M_J", [[]])])
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing yet"]


def test_picture_has_ink_to_its_right_edge() -> None:
    figure = draw()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    dark = (pixels[..., :3].min(-1) < 128).any(0).nonzero()[0]
    width = pixels.shape[1]
    assert dark[0] < 0.1 * width and dark[-1] > 0.8 * width


def test_wrong_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        draw_ablation([], [])
    with pytest.raises(ValueError, match="M_J: expected values for 1 rows, got 2"):
        draw_ablation([AblationRow("base")], [AblationPanel("M_J", [[], []])])
