"""Scores by class against hand-worked values."""

import numpy as np
import pytest
import torch

from transavs.evaluation import ClipScores, count_classes, scores_by_class


def clip(name: str, jaccard: list[float], empty: list[bool], seconds: list[int]) -> ClipScores:
    zeros = np.zeros(len(jaccard))
    return ClipScores(
        name,
        np.array(seconds),
        np.array(jaccard),
        zeros,
        np.array(empty),
        zeros,
        zeros,
        np.zeros(255),
        count_classes(*torch.zeros(2, 1, 2, 2, dtype=torch.int64), num_classes=2),
    )


def test_frames_of_one_class_alone() -> None:
    clips = [
        clip("a", [0.8, 0.0, 0.5, 1.0], [False, False, False, True], [0, 1, 2, 3]),
        # Only second 4 is labelled.
        clip("b", [0.4], [False], [4]),
        clip("unknown", [0.9], [False], [0]),
    ]
    heard = {
        "a": [["dog"], ["dog"], ["cow", "dog"], ["dog"], []],
        "b": [["cow"], ["cow"], ["cow"], ["cow"], ["dog"]],
    }
    found = scores_by_class(clips, heard)
    # Of a: two seconds of the dog alone; with the cow, and without ground truth, do not count.
    assert list(found) == ["dog"]
    assert found["dog"]["J"] == pytest.approx(100 * (0.8 + 0.0 + 0.4) / 3)
    assert found["dog"]["missed"] == pytest.approx(100 / 3)
    assert found["dog"]["frames"] == 3
    assert scores_by_class([], heard) == {}
