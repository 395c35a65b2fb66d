"""What a model refuses, in one clear line each."""

import pytest
import torch
from tiny_models import random_clip, tiny_model

from transavs.modeling.clip_batch import check_clips, frame_seconds


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame_index": torch.zeros(2)}, "whole seconds, got torch.float32"),
        ({"frame_index": torch.tensor([0, 2])}, r"second \(0 to 1\) of each of the 2 frames"),
        ({"frame_index": torch.tensor([-1, 1])}, "`frame_index`"),
        ({"frame_index": torch.tensor([0])}, r"of each of the 2 frames, got \[0\]"),
        ({"audio": torch.zeros(3, 1, 96, 64)}, "2 frames and 3 seconds"),
    ],
)
def test_frame_index_counts_whole_seconds(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        frame_seconds(make_clip(**changes))


@pytest.mark.parametrize("options", [(), ("MODEL.META_ARCHITECTURE", "TPAVI")])
@pytest.mark.parametrize("training", [True, False])
def test_models_check_their_clips(options, training) -> None:
    model = tiny_model(*options, "MODEL.TPAVI.CHANNELS", 8).train(training)
    for change, words in (
        ({"audio": torch.full((5, 1, 96, 64), torch.inf)}, "'c1': the log-mel .* hold NaN or inf"),
        ({"frame_index": torch.arange(5) + 1}, r"second \(0 to 4\)"),
        ({"audio": torch.zeros(5, 96, 64)}, "96, 64"),
    ):
        with pytest.raises(ValueError, match=words):
            model([{**random_clip(), "clip_id": "c1", **change}])
