"""Masks painted at the speed of a film look as the Visualizer draws them."""

import numpy as np
import pytest

from transavs.visualization import PREDICTION_COLOR, overlay_masks, paint_masks, track_color
from transavs.visualization.film_overlay import outline_width


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def disc(top, left, radius):
    rows, columns = np.mgrid[:90, :120]
    return (rows - top) ** 2 + (columns - left) ** 2 < radius**2


def test_as_the_visualizer_does(picture):
    mask = disc(40, 50, 25)
    painted = paint_masks(picture, [mask], [PREDICTION_COLOR])
    drawn = overlay_masks(picture, mask[None], [PREDICTION_COLOR])
    inner, outer = disc(40, 50, 22), ~disc(40, 50, 28)
    assert np.abs(painted[inner].astype(int) - drawn[inner]).max() <= 2
    assert np.array_equal(painted[outer], picture[outer])
    assert np.array_equal(drawn[outer], picture[outer])


def test_half_the_color_inside_and_all_of_it_on_the_outline(picture):
    mask = disc(40, 50, 25)
    color = (1.0, 0.0, 0.5)
    painted = paint_masks(picture, [mask], [color])
    expected = (picture[40, 50].astype(float) + [255, 0, 128]) / 2
    assert np.abs(painted[40, 50] - expected).max() <= 1
    edge = np.flatnonzero(mask[40])[0]
    assert painted[40, edge].tolist() == [255, 0, 128]
    assert np.array_equal(painted[40, edge - 1], picture[40, edge - 1])


def test_holes_stay_open(picture):
    mask = disc(40, 50, 25) & ~disc(40, 50, 10)
    painted = paint_masks(picture, [mask], [(0, 1, 0)])
    assert np.array_equal(painted[disc(40, 50, 8)], picture[disc(40, 50, 8)])


def test_several_masks_and_none(picture):
    first, second = disc(20, 30, 15), disc(60, 90, 15)
    painted = paint_masks(
        picture, [first, second, first & False], [(1, 0, 0), (0, 0, 1), (1, 1, 1)]
    )
    assert painted[20, 30, 0] > 120 and painted[60, 90, 2] > 120
    untouched = paint_masks(picture, [], [])
    assert np.array_equal(untouched, picture) and untouched is not picture


def test_outlines_grow_with_the_picture():
    widths = [outline_width((side, side)) for side in (100, 1000, 3000, 6000)]
    assert widths == [1, 1, 2, 4]


def test_colors_of_objects():
    """Colours of Detectron2's palette; the first dozen differ clearly, and numbers go on."""
    colors = [track_color(track) for track in range(1, 13)]
    assert len(set(colors)) == 12
    assert colors[0] == pytest.approx((0.0, 0.447, 0.741))
    assert all(max(color) - min(color) >= 0.4 for color in colors)
    assert len({track_color(track) for track in range(1, 500)}) > 40
