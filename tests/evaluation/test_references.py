"""The references that do not listen."""

import math

import numpy as np
import pytest
from PIL import Image

from transavs.evaluation import reference_scores


def save(path, values, mode="L"):
    picture = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if mode == "P":
        picture.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    picture.save(path)
    return str(path)


@pytest.fixture
def records(tmp_path):
    """One clip: object 1 (2 pixels) sounds in frame 0, nothing in frame 1, frame 2 unlabelled."""
    labels = [[1, 1, 2, 0], [0, 0, 2, 0]]
    objects = [save(tmp_path / f"objects_{t}.png", labels, "P") for t in range(3)]
    sounding = save(tmp_path / "mask_0.png", [[255, 255, 0, 0], [0, 0, 0, 0]])
    empty = save(tmp_path / "mask_1.png", np.zeros((2, 4)))
    return [
        {
            "clip_id": "dog/1",
            "mask_file_names": [sounding, empty, None],
            "object_mask_file_names": objects,
        }
    ]


def test_by_hand(records):
    scores = reference_scores(records)
    # Frame 0: nothing 0, every object 2 / 4. Frame 1 is empty: nothing 1, every object 4 / 8.
    assert scores["nothing"] == pytest.approx(50.0, abs=1e-4)
    assert scores["every_object"] == pytest.approx(50.0, abs=1e-4)
    assert scores["nothing_nonempty"] == 0.0
    assert scores["every_object_nonempty"] == pytest.approx(50.0, abs=1e-4)


def test_without_sounding_frames(records):
    records[0]["mask_file_names"][0] = None
    scores = reference_scores(records)
    assert scores["nothing"] == pytest.approx(100.0, abs=1e-4)
    assert math.isnan(scores["every_object_nonempty"])


def test_records_without_objects(records):
    del records[0]["object_mask_file_names"]
    with pytest.raises(ValueError, match="'dog/1' has no 'object_mask_file_names'"):
        reference_scores(records)


def test_number_of_masks(records):
    records[0]["object_mask_file_names"].pop()
    with pytest.raises(ValueError, match="one object mask a frame, got 2 for 3 frames"):
        reference_scores(records)


def test_size_of_masks(records, tmp_path):
    records[0]["object_mask_file_names"][0] = save(tmp_path / "other.png", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"\[2, 4\] in .*mask_0.png and \[3, 4\] in .*other.png"):
        reference_scores(records)


def test_mode_of_object_masks(records, tmp_path):
    path = tmp_path / "colour.png"
    Image.new("RGB", (4, 2)).save(path)
    records[0]["object_mask_file_names"][0] = str(path)
    with pytest.raises(ValueError, match=r"colour.png: expected an object map.*mode 'RGB'"):
        reference_scores(records)


def test_masks_are_read_as_training_reads_them(records, tmp_path):
    records[0]["mask_file_names"][0] = save(tmp_path / "ids.png", [[1, 1, 0, 0], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"ids.png: a mask holds 0"):
        reference_scores(records)


def test_nothing_to_score():
    with pytest.raises(ValueError, match="at least one labelled frame"):
        reference_scores([])
