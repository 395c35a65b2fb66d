"""Labelled moments of films: what is read, and scores worked out by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from transavs.evaluation.labelled_films import (
    distant_partner,
    points_at,
    read_labels,
    reference_masks,
    score_mask,
)

LINE = {"file": "a.mp4", "seconds": 1.5, "classes": {"1": "dog"}, "mask": "a.png"}


def write_table(folder, *lines):
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "masks" / "a.png")
    table = folder / "labels.jsonl"
    table.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return table


def test_reads_moments_and_knows_players(tmp_path):
    silent = {"distractors": ["Person (player)", "chair", "person_2"]}
    table = write_table(
        tmp_path,
        {**LINE, "quality": "good"},
        {**LINE, "classes": {"2": "Double_Bass"}, **silent, "distractor_mask": "a.png"},
        {**LINE, "classes": {"1": "guitar", "2": "person"}, **silent},
    )
    dog, bass, song = read_labels(table)
    assert (dog.file, dog.seconds, dog.classes) == ("a.mp4", 1.5, {1: "dog"})
    assert dog.mask == tmp_path / "masks" / "a.png" and dog.distractor_mask is None
    assert bass.players == [1, 3] and bass.distractor_mask == dog.mask
    assert dog.players == song.players == []
    assert song.groups == {"instruments", "people"}
    # The search begins half a table further on.
    assert distant_partner([dog, bass, song, dog], 0) == 2
    assert distant_partner([dog, bass, song, dog], 1) == 3
    assert distant_partner([dog, dog], 0) is None


@pytest.mark.parametrize(("change", "named"), [
    ({"file": "../a.mp4"}, "line 1.*no plain file name"),
    ({"mask": None}, "line 1.*no plain file name"),
    ({"classes": {}}, "line 1.*1 to 254"),
    ({"classes": {"255": "dog"}}, "line 1.*1 to 254"),
    ({"classes": {"dog": 1}}, "line 1.*own_labels.md"),
    ({"classes": ["dog"]}, "line 1.*own_labels.md"),
    ({"seconds": float("nan")}, "line 1.*seconds nan"),
    ({"seconds": "soon"}, "line 1"),
])  # fmt: skip
def test_lines_that_are_none(tmp_path, change, named):
    with pytest.raises(ValueError, match=named):
        read_labels(write_table(tmp_path, {**LINE, **change}))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="labels.jsonl"):
        read_labels(tmp_path / "labels.jsonl")
    with pytest.raises(FileNotFoundError, match=r"b.png, which is not there"):
        read_labels(write_table(tmp_path, {**LINE, "mask": "b.png"}))
    with pytest.raises(ValueError, match="labels no moment"):
        read_labels(write_table(tmp_path))


def test_scores_by_hand():
    label = np.array([[1, 1, 2, 0], [0, 0, 255, 255]], np.uint8)
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], bool)
    # Of the pixels that count, 2 are right, 1 is false and 1 is missing.
    scores = score_mask(mask, label)
    assert scores.jaccard == pytest.approx(2 / 4)
    assert scores.marked == pytest.approx(4 / 8)
    assert scores.outside == pytest.approx(1 / 3)
    nothing = score_mask(np.zeros_like(mask), label)
    assert (nothing.jaccard, nothing.marked, nothing.outside) == (0.0, 0.0, None)
    assert score_mask(mask, np.full_like(label, 255)).jaccard == 1.0
    references = reference_masks((100, 200))
    assert references["everything"].all() and not references["nothing"].any()
    middle = references["middle_half"]
    assert middle.mean() == pytest.approx(0.5, abs=0.01)
    assert not middle[14].any() and middle[15, 29:171].all() and not middle[:, 28].any()


def test_a_speck_is_no_place_to_point_at():
    label = np.zeros((60, 60), np.uint8)
    label[10:30, 10:30] = 1
    score = np.zeros((60, 60), np.float32)
    score[12:28, 12:28] = 0.6
    score[50, 50] = 1.0
    assert points_at(score, label)
    label[label == 1] = 255
    assert not points_at(score, label)
