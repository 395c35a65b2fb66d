"""Files of a clip that the mapper refuses, each by its name."""

from pathlib import Path

import avsbench_trees as trees
import pytest
from mapped_clips import map_clip

from transavs.data.avsbench import load_avsbench
from transavs.data.avsbench_spec import DEMO_S4


@pytest.mark.parametrize("is_train", [True, False])
def test_truncated_frame(ms3: dict, is_train: bool) -> None:
    path = Path(ms3["file_names"][2])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="is truncated .*restore the file") as raised:
        map_clip(ms3, is_train)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_mask_of_another_size_than_its_frame(ms3: dict, is_train: bool) -> None:
    name = ms3["mask_file_names"][3]
    trees.write_image(Path(name), trees.binary_mask((12, 16)))
    with pytest.raises(ValueError, match="16 x 12 pixels, but its frame") as raised:
        map_clip(ms3, is_train)
    assert name in str(raised.value) and ms3["file_names"][3] in str(raised.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_mask_of_zeros_and_ones(ms3: dict, is_train: bool) -> None:
    trees.write_image(Path(ms3["mask_file_names"][3]), trees.binary_mask() // 255)
    with pytest.raises(ValueError, match="areas of the grey 1,"):
        map_clip(ms3, is_train)


def test_frames_of_two_sizes(ms3: dict) -> None:
    trees.write_image(Path(ms3["file_names"][4]), trees.picture("x", 1, (12, 16)))
    with pytest.raises(ValueError, match="16 x 12 pixels, but the frame .* is 32 x 24"):
        map_clip(ms3)


def test_object_map_of_another_size(demo_root: Path) -> None:
    record = load_avsbench(DEMO_S4, str(demo_root), "train")[0]
    trees.write_image(Path(record["object_mask_file_names"][0]), trees.object_map((12, 16)))
    with pytest.raises(ValueError, match="16 x 12 pixels, but its frame"):
        map_clip(record, MODEL__TRANSAVS__TARGETS="objects")


def test_clip_of_another_length(ms3: dict) -> None:
    with pytest.raises(ValueError, match="has 5 seconds, but INPUT.CLIP_SECONDS is 4"):
        map_clip(ms3, INPUT__CLIP_SECONDS=4)
    longest = map_clip(ms3, INPUT__CLIP_SECONDS=10)
    assert len(longest["frames"]) == len(longest["audio"]) == 5


def test_training_needs_a_label(ms3: dict) -> None:
    record = {**ms3, "mask_file_names": [None] * 5}
    with pytest.raises(ValueError, match="no labelled frame"):
        map_clip(record)
    assert not map_clip(record, is_train=False)["labelled"].any()
