"""Masks and scores over frames."""

import numpy as np
import pytest

from transavs.visualization import PREDICTION_COLOR, overlay_masks, score_heat_map
from transavs.visualization.overlay import resize_mask, resize_picture


def _grey_frame(height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def test_overlay_colours_the_mask_and_nothing_else() -> None:
    mask = np.zeros((1, 40, 60), dtype=bool)
    mask[0, 10:30, 10:40] = True
    picture = overlay_masks(_grey_frame(), mask, [(1.0, 0.0, 0.0)], alpha=0.5)
    # Half of red over grey: (255 + 100) / 2 and 100 / 2.
    np.testing.assert_allclose(picture[20, 25], [177.5, 50, 50], atol=1)
    # A pixel beyond the outline is as it was.
    outside = np.ones((40, 60), dtype=bool)
    outside[8:32, 8:42] = False
    assert (picture[outside] == 100).all()
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8


def test_overlay_of_nothing_is_the_frame() -> None:
    frame = _grey_frame()
    for masks in (np.zeros((0, 40, 60), dtype=bool), np.zeros((2, 40, 60), dtype=bool)):
        assert (overlay_masks(frame, masks, [PREDICTION_COLOR]) == frame).all()


@pytest.mark.parametrize("pixels", [1, 2])
def test_overlay_shows_single_false_pixels(pixels: int) -> None:
    mask = np.zeros((1, 40, 60), dtype=bool)
    mask[0, 20, 30 : 30 + pixels] = True
    picture = overlay_masks(_grey_frame(), mask, [(1.0, 0.0, 0.0)])
    assert picture[20, 30, 0] > 200


def test_overlay_outlines_masks_with_holes() -> None:
    mask = np.zeros((1, 40, 60), dtype=bool)
    mask[0, 5:35, 5:55] = True
    mask[0, 15:25, 20:40] = False
    picture = overlay_masks(_grey_frame(), mask, [(1.0, 0.0, 0.0)])
    np.testing.assert_array_equal(picture[5, 30], [255, 0, 0])
    np.testing.assert_array_equal(picture[20, 30], [100, 100, 100])


def test_overlay_gives_each_mask_its_colour() -> None:
    masks = np.zeros((3, 40, 60), dtype=bool)
    masks[0, 5:20, 5:20] = True
    masks[2, 5:20, 35:55] = True
    picture = overlay_masks(_grey_frame(), masks, [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
    # Colours go round: the third mask has the first colour again.
    assert picture[12, 12].argmax() == picture[12, 45].argmax() == 0


def test_heat_map_grows_brighter_and_cuts_at_the_ends() -> None:
    picture = score_heat_map(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]], dtype=np.float32))
    light = picture.astype(int).sum(axis=-1)[0]
    assert light[0] == light[1] < light[2] < light[3] == light[4]
    assert picture.shape == (1, 5, 3)


def test_resized_mask_keeps_half_covered_pixels() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2, :2] = True  # covers one pixel of the small picture whole
    mask[2, 2] = True  # and a quarter of another
    np.testing.assert_array_equal(resize_mask(mask, (2, 2)), [[True, False], [False, False]])
    assert resize_mask(mask, (4, 4)) is mask


def test_resized_picture_has_the_size() -> None:
    frame = _grey_frame()
    assert resize_picture(frame, (40, 60)) is frame
    assert resize_picture(frame, (20, 30)).shape == (20, 30, 3)
    assert resize_picture(frame, (80, 120)).shape == (80, 120, 3)
