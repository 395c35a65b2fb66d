"""What a model refuses, in one clear line each."""

import pytest
import torch

from transavs.modeling.clip_checks import check_clips, frame_seconds


def make_clip(**changes) -> dict:
    clip = {
        "clip_id": "c1",
        "frames": torch.zeros(2, 3, 8, 6, dtype=torch.uint8),
        "audio": torch.zeros(2, 1, 96, 64),
        "target_masks": [torch.zeros(1, 8, 6, dtype=torch.bool)] * 2,
        "target_classes": [torch.zeros(1, dtype=torch.int64)] * 2,
    }
    return {key: value for key, value in {**clip, **changes}.items() if value is not None}


def test_a_right_clip_passes() -> None:
    check_clips([make_clip()], training=True)
    check_clips([make_clip(target_masks=None, target_classes=None)], training=False)


@pytest.mark.parametrize("clips", [[], {}, "clip", [torch.zeros(1)]])
def test_clips_are_a_list_of_dicts(clips) -> None:
    with pytest.raises(ValueError, match="a list of at least one clip"):
        check_clips(clips, training=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audio": None}, "'c1': expected a tensor 'audio', got NoneType"),
        ({"audio": torch.zeros(2, 1, 96, 64).double()}, "audio float32, got torch.float64"),
        ({"audio": torch.full((2, 1, 96, 64), torch.nan)}, "NaN"),
        ({"frames": torch.zeros(2, 3, 8, 6)}, "frames uint8"),
        ({"frames": torch.zeros(0, 3, 8, 6, dtype=torch.uint8)}, "frames uint8"),
        ({"height": 0}, "height must be at least 1"),
        ({"target_masks": None}, "a tensor for each of the 2 frames"),
        ({"target_masks": [torch.zeros(1, 8, 6).bool()]}, "a tensor for each of the 2 frames"),
        ({"target_masks": [torch.zeros(1, 8, 6)] * 2}, "masks bool .* got torch.float32"),
        ({"target_masks": [torch.zeros(1, 4, 6).bool()] * 2}, r"bool \[G, 8, 6\].*\[1, 4, 6\]"),
        ({"target_classes": [torch.zeros(3).long()] * 2}, "1 target masks but 3 target classes"),
    ],
)
def test_refusals(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_clips([make_clip(**changes)], training=True)


def test_frame_index_counts_whole_seconds() -> None:
    with pytest.raises(ValueError, match="whole seconds, got torch.float32"):
        frame_seconds(make_clip(frame_index=torch.zeros(2)))
