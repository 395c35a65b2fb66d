"""Cut-outs, and how they are placed and pasted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from transavs.data.demo.pictures import (
    Picture,
    Pose,
    change_colors,
    cut_out,
    make_sprite,
    paste,
    place_sprite,
    shrink_photograph,
    turned_half_size,
)


def speckled() -> np.ndarray:
    """A red block of 20 x 10 with a soft edge, a far speck, and green under the transparency."""
    rgba = np.zeros((60, 80, 4), dtype=np.uint8)
    rgba[..., 1] = 255
    rgba[20:30, 30:50] = (255, 0, 0, 255)
    rgba[19, 30:50, 3] = 60
    rgba[50, 70] = (0, 0, 255, 255)
    return rgba


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_cut_out_keeps_the_largest_part(mode: str) -> None:
    rgba = cut_out(Image.fromarray(speckled()).convert(mode), "x.png")
    solid = rgba[..., 3] >= 128
    assert solid.sum() == 200
    assert (rgba[..., 3] == 60).sum() == 20
    assert rgba.shape[0] <= 14 and rgba.shape[1] <= 24


def test_cut_out_reads_palettes() -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (5, 5, 15, 15))
    image.info["transparency"] = 0
    rgba = cut_out(image, "x.png")
    assert (rgba[rgba[..., 3] == 255] == (255, 0, 0, 255)).all()


@pytest.mark.parametrize("alpha", [0, 255])
def test_cut_out_needs_an_object_and_a_ground(alpha: int) -> None:
    with pytest.raises(ValueError, match=r"x\.png: expected an object"):
        cut_out(Image.new("RGBA", (9, 9), (1, 2, 3, alpha)), "x.png")


def test_shrink_photograph() -> None:
    assert shrink_photograph(Image.new("RGB", (1000, 900))).shape == (448, 498, 3)
    assert shrink_photograph(Image.new("L", (300, 200))).shape == (200, 300, 3)


def test_change_colors_leaves_alpha_alone() -> None:
    rgba = speckled()
    changed = change_colors(rgba, np.array([0.5, 1, 1]), 1.0)
    assert (changed[..., 3] == rgba[..., 3]).all()
    assert changed[25, 40, 0] == 128 and changed[0, 0, 1] == 255
    assert change_colors(rgba, np.ones(3), 0.5)[25, 40, 0] == 192  # 191.5 to the even number


def test_transparent_colors_do_not_bleed() -> None:
    # Green hides under the transparent pixels; no trace of it may reach the frame.
    frame = np.zeros((64, 64, 3), dtype=np.uint8)
    sprite = make_sprite(speckled(), 0.6, mirrored=False)
    paste(frame, place_sprite(sprite, Pose(32, 32, 1.1, 20.0), 64))
    assert frame[..., 0].max() > 200
    # The soft top edge of the block is green itself and is all the green there is.
    clean = speckled()
    clean[clean[..., 3] == 0] = 0
    expected = np.zeros((64, 64, 3), dtype=np.uint8)
    paste(expected, place_sprite(make_sprite(clean, 0.6, False), Pose(32, 32, 1.1, 20.0), 64))
    assert (frame == expected).all()


def test_place_sprite_centres_turns_and_scales() -> None:
    bar = np.full((10, 40, 4), 255, dtype=np.uint8)
    sprite = make_sprite(bar, 1.0, mirrored=False)
    solid = place_sprite(sprite, Pose(50.0, 30.0, 1.0, 0.0), 100)[..., 3] >= 128
    rows, columns = np.nonzero(solid)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 34, 30, 69)
    turned = place_sprite(sprite, Pose(50.0, 50.0, 1.5, 90.0), 100)[..., 3] >= 128
    rows, columns = np.nonzero(turned)
    assert rows.max() - rows.min() + 1 == pytest.approx(60, abs=1)
    assert columns.max() - columns.min() + 1 == pytest.approx(15, abs=1)
    assert turned_half_size(sprite, 1.5, 90.0) == pytest.approx((7.5, 30.0))


@pytest.mark.parametrize("center", [(0, 0), (100, 50), (-200, -200), (300, 20)])
def test_place_sprite_over_the_border(center: tuple[int, int]) -> None:
    bar = np.full((10, 40, 4), 255, dtype=np.uint8)
    placed = place_sprite(make_sprite(bar, 1.0, False), Pose(*center, 1.0, 0.0), 100)
    assert placed.shape == (100, 100, 4)
    assert placed.any() == (abs(center[0]) <= 100)


def test_mirrored_sprite() -> None:
    rgba = np.zeros((4, 6, 4), dtype=np.uint8)
    rgba[:, :2] = 255
    plain, mirrored = (np.asarray(make_sprite(rgba, 1.0, flag)) for flag in (False, True))
    assert (plain[:, ::-1] == mirrored).all() and (plain != mirrored).any()


def test_paste_blends_premultiplied() -> None:
    frame = np.full((4, 4, 3), 100, dtype=np.uint8)
    placed = np.zeros((4, 4, 4), dtype=np.uint8)
    placed[1, 1] = (80, 0, 0, 128)
    placed[2, 2] = (10, 20, 30, 255)
    paste(frame, placed)
    assert frame[1, 1].tolist() == [130, 50, 50]
    assert frame[2, 2].tolist() == [10, 20, 30]
    assert (frame[0] == 100).all()
    paste(frame, np.zeros((4, 4, 4), dtype=np.uint8))
    assert frame[2, 2].tolist() == [10, 20, 30]


def test_picture_name_and_area() -> None:
    picture = Picture("tp:a/b/cow_white.png", speckled(), may_mirror=True)
    assert picture.name == "cow_white" and picture.area == 201
