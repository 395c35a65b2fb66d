"""Clip augmentation: one draw for everything, hand-worked geometry and colours."""

import numpy as np
import pytest

from transavs.data.transforms import (
    ClipAugmentation,
    ClipTransform,
    ColorJitter,
    resized_shape,
)


def numbered(height: int, width: int) -> np.ndarray:
    """Label map whose value tells the place: 10 * row + column + 1."""
    return (10 * np.arange(height)[:, None] + np.arange(width)[None, :] + 1).astype(np.uint8)


def as_frame(labels: np.ndarray) -> np.ndarray:
    return np.repeat(labels[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("height", "width", "shortest", "max_size", "expected"),
    [
        (224, 224, 0, 0, (224, 224)),  # keep
        (224, 224, 288, 0, (288, 288)),
        (100, 200, 50, 0, (50, 100)),
        (200, 100, 50, 0, (100, 50)),
        (100, 200, 100, 150, (75, 150)),  # the longest edge wins
        (100, 200, 0, 150, (75, 150)),
        (100, 200, 50, 333, (50, 100)),
        (3, 1000, 1, 100, (1, 100)),  # never less than a pixel
    ],
)
def test_resized_shape(
    height: int, width: int, shortest: int, max_size: int, expected: tuple[int, int]
) -> None:
    assert resized_shape(height, width, shortest, max_size) == expected


def test_crop_then_flip_by_hand() -> None:
    transform = ClipTransform(size=(3, 4), window=(1, 0, 2, 3), flip=True)
    expected = [[13, 12, 11], [23, 22, 21]]
    assert transform.apply_labels(numbered(3, 4)).tolist() == expected
    (frame,) = transform.apply_frames([as_frame(numbered(3, 4))])
    assert frame[..., 1].tolist() == expected


def test_padding_by_hand() -> None:
    # A 2 x 2 picture in a 3 x 4 canvas, one row down and two columns in.
    transform = ClipTransform(
        size=(2, 2), window=(-1, -2, 3, 4), pad_color=(123.675, 116.28, 103.53)
    )
    labels = transform.apply_labels(numbered(2, 2))
    assert labels.tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 11, 12]]
    (frame,) = transform.apply_frames([as_frame(numbered(2, 2))])
    assert frame[0, 0].tolist() == frame[2, 1].tolist() == [124, 116, 104]
    assert frame[1, 2].tolist() == [1, 1, 1]


def test_crop_and_padding_in_one_window() -> None:
    # Higher than the window, narrower than it.
    transform = ClipTransform(size=(3, 2), window=(1, -1, 2, 4))
    assert transform.apply_labels(numbered(3, 2)).tolist() == [[0, 11, 12, 0], [0, 21, 22, 0]]


def test_labels_are_resized_without_new_values() -> None:
    labels = np.array([[0, 200], [7, 0]], np.uint8)
    doubled = ClipTransform(size=(4, 4)).apply_labels(labels)
    assert doubled.tolist() == np.repeat(np.repeat(labels, 2, 0), 2, 1).tolist()
    for size in ((5, 3), (1, 1), (9, 7)):
        assert set(np.unique(ClipTransform(size=size).apply_labels(labels))) <= {0, 7, 200}


@pytest.mark.parametrize("size", [(60, 90), (24, 36), (31, 50)])
def test_frames_and_labels_move_alike(size: tuple[int, int]) -> None:
    """Where a frame shows exactly the object's value, its mask covers the same pixels."""
    labels = np.zeros((40, 60), np.uint8)
    labels[8:24, 20:44] = 1
    transform = ClipTransform(size=size, window=(3, 5, 20, 30), flip=True)
    mask = transform.apply_labels(labels) > 0
    (frame,) = transform.apply_frames([as_frame(labels * 255)])
    # Interpolation blurs the border by a pixel: it may disagree only there, about 127.
    assert (mask == (frame[..., 0] > 127)).mean() > 0.98
    sure = (frame[..., 0] == 255) | (frame[..., 0] == 0)
    assert (mask == (frame[..., 0] > 127))[sure].all()
    assert sure.mean() > 0.8


def test_one_draw_for_all_frames_of_a_clip() -> None:
    augmentation = ClipAugmentation((20, 30, 50), 0, False, (32, 40), 0.5, 0.4)
    frame = np.random.default_rng(0).integers(0, 255, (30, 44, 3), dtype=np.uint8)
    for seed in range(20):
        transform = augmentation.draw(30, 44, np.random.default_rng(seed))
        frames = transform.apply_frames([frame.copy() for _ in range(5)])
        assert all((other == frames[0]).all() for other in frames)
        assert frames[0].shape == (32, 40, 3)
        assert frames[0].dtype == np.uint8
        assert transform.apply_labels(frame[..., 0]).shape == (32, 40)


def test_draws_depend_on_the_generator_alone() -> None:
    augmentation = ClipAugmentation((20, 30, 50), 0, False, (16, 16), 0.5, 0.4)
    draws = [augmentation.draw(30, 44, np.random.default_rng(seed)) for seed in range(30)]
    again = [augmentation.draw(30, 44, np.random.default_rng(seed)) for seed in range(30)]
    assert draws == again
    assert {draw.flip for draw in draws} == {True, False}
    assert {draw.size for draw in draws} == {(20, 29), (30, 44), (50, 73)}
    assert len({draw.window for draw in draws}) > 10


def test_windows_reach_every_place_and_stay_inside() -> None:
    augmentation = ClipAugmentation(crop_size=(4, 8))
    rng = np.random.default_rng(0)
    windows = {augmentation.draw(6, 6, rng).window for _ in range(200)}
    # Rows: 6 - 4 = 2 to spare; columns: 8 - 6 = 2 to fill.
    assert windows == {(top, left, 4, 8) for top in (0, 1, 2) for left in (-2, -1, 0)}


def test_range_of_sizes() -> None:
    augmentation = ClipAugmentation(min_sizes=(10, 13), sample_range=True)
    rng = np.random.default_rng(0)
    sizes = {augmentation.draw(20, 20, rng).size for _ in range(100)}
    assert sizes == {(10, 10), (11, 11), (12, 12), (13, 13)}


def test_without_settings_nothing_changes() -> None:
    transform = ClipAugmentation().draw(5, 7, np.random.default_rng(0))
    frame = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert transform == ClipTransform(size=(5, 7))
    assert (transform.apply_frames([frame])[0] == frame).all()


def test_color_jitter_by_hand() -> None:
    frame = np.array([[[100, 50, 20], [40, 60, 80]]], np.uint8)
    same = ColorJitter(1.0, 1.0, 1.0).apply([frame], "RGB")[0]
    assert (same == frame).all()
    brighter = ColorJitter(1.5, 1.0, 1.0).apply([frame], "RGB")[0]
    assert brighter.tolist() == [[[150, 75, 30], [60, 90, 120]]]
    # Grey of (100, 50, 20) = 29.9 + 29.35 + 2.28 = 61.53; of (40, 60, 80) = 56.3.
    grey = ColorJitter(1.0, 1.0, 0.0).apply([frame], "RGB")[0]
    assert grey.tolist() == [[[62, 62, 62], [56, 56, 56]]]
    # Contrast 0 leaves the mean grey, 58.9.
    flat = ColorJitter(1.0, 0.0, 1.0).apply([frame], "RGB")[0]
    assert flat.tolist() == [[[59, 59, 59], [59, 59, 59]]]


def test_color_jitter_against_one_step_after_another() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(60, 160, (6, 5, 3), dtype=np.uint8) for _ in range(3)]
    weights = np.array([0.299, 0.587, 0.114])
    brightness, contrast, saturation = 1.1, 0.8, 1.3
    stack = np.stack(frames).astype(np.float64) * brightness
    mean = (stack @ weights).mean()
    stack = contrast * (stack - mean) + mean
    grey = (stack @ weights)[..., None]
    stack = saturation * (stack - grey) + grey
    expected = np.clip(stack, 0, 255)
    actual = np.stack(ColorJitter(brightness, contrast, saturation).apply(frames, "RGB"))
    # Half a level by rounding to uint8, and OpenCV's fixed-point coefficients.
    assert np.abs(actual - expected).max() <= 0.6


def test_color_jitter_knows_the_channel_order() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    jitter = ColorJitter(0.9, 1.2, 0.4)
    rgb = jitter.apply([frame], "RGB")[0]
    bgr = jitter.apply([frame[..., ::-1].copy()], "BGR")[0]
    assert (rgb == bgr[..., ::-1]).all()


def test_color_leaves_padding_alone() -> None:
    augmentation = ClipAugmentation(crop_size=(8, 8), color_strength=0.5, pad_color=(9.0, 8.0, 7.0))
    transform = augmentation.draw(4, 4, np.random.default_rng(1))
    (frame,) = transform.apply_frames([np.full((4, 4, 3), 200, np.uint8)])
    inside = transform.apply_labels(np.ones((4, 4), np.uint8)) > 0
    assert (frame[~inside] == (9, 8, 7)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_sizes": ()}, "shortest edge"),
        ({"min_sizes": (-1,)}, "shortest edge"),
        ({"crop_size": (0, 5)}, "crop"),
        ({"color_strength": 1.0}, "colour jitter"),
    ],
)
def test_impossible_settings(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipAugmentation(**arguments)
