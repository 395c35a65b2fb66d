"""Forms of targets, on label maps small enough to see."""

import numpy as np
import torch

from transavs.data.targets import (
    add_background,
    component_labels,
    object_labels,
    split_labels,
    union_labels,
)


def drawing(text: str) -> np.ndarray:
    """Digits of a drawing as uint8 ``[H, W]``; dots are 0."""
    rows = [[0 if sign == "." else int(sign) for sign in row] for row in text.split()]
    return np.array(rows, np.uint8)


MASK = drawing(
    """
    11...1
    11....
    ...11.
    ..1...
    """
).astype(bool)


def test_union_is_one_target() -> None:
    masks = split_labels(union_labels(MASK))
    assert masks.dtype == torch.bool
    assert masks.shape == (1, 4, 6)
    assert (masks[0].numpy() == MASK).all()


def test_empty_mask_has_no_target() -> None:
    empty = np.zeros((4, 6), bool)
    for labels in (union_labels(empty), component_labels(empty, 1), object_labels(MASK * 3, [])):
        assert split_labels(labels).shape == (0, 4, 6)


def test_components_largest_first_with_diagonal_neighbours() -> None:
    expected = """
        11...3
        11....
        ...22.
        ..2...
        """
    assert component_labels(MASK, 1).tolist() == drawing(expected).tolist()


def test_small_components_are_left_out() -> None:
    assert component_labels(MASK, 3).max() == 2  # areas 4, 3 and 1
    assert component_labels(MASK, 4).max() == 1


def test_the_largest_component_always_stays() -> None:
    labels = component_labels(MASK, 100)
    assert (labels > 0).sum() == 4


def test_more_components_than_labels() -> None:
    dots = np.zeros((64, 64), bool)
    dots[::2, ::2] = True  # 1024 components
    assert len(split_labels(component_labels(dots, 1))) == 254


def test_objects_that_sound() -> None:
    labels = drawing(
        """
        112.
        1122
        5..2
        """
    )
    masks = split_labels(object_labels(labels, [5, 2]))
    assert masks.shape == (2, 3, 4)
    assert (masks[0].numpy() == (labels == 2)).all()
    assert (masks[1].numpy() == (labels == 5)).all()


def test_hidden_objects_have_no_target() -> None:
    labels = drawing("11. ...")
    assert split_labels(object_labels(labels, [1, 4])).shape == (1, 2, 3)
    assert split_labels(object_labels(labels, [4])).shape == (0, 2, 3)


def test_masks_are_disjoint_and_sum_up_to_the_union() -> None:
    labels = np.random.default_rng(0).integers(0, 6, (9, 7), dtype=np.uint8)
    masks = split_labels(object_labels(labels, [1, 3, 4]))
    assert (masks.sum(0).numpy() == np.isin(labels, [1, 3, 4])).all()
    mirrored = split_labels(labels[:, ::-1])
    assert torch.equal(mirrored.flip(-1), split_labels(labels))


def test_background_is_the_last_target() -> None:
    labels = np.array([[0, 2], [1, 0]], np.uint8)
    masks = split_labels(add_background(labels))
    assert masks.tolist() == [
        [[False, False], [True, False]],
        [[False, True], [False, False]],
        [[True, False], [False, True]],
    ]
    # What is padded later belongs to no target.
    assert split_labels(np.pad(add_background(labels), 1)).sum() == 4
    assert split_labels(add_background(np.ones((2, 2), np.uint8))).shape == (1, 2, 2)
