"""Facts of the subsets against the published ones."""

import pytest

from transavs.data.avsbench_spec import DEMO_MS3, DEMO_S4, MS3, S4


def test_published_counts() -> None:
    # AVSBench's paper: 4932 and 424 videos; 10852 and 2120 annotated frames.
    clips = {spec.name: sum(s.published_clips for s in spec.splits) for spec in (S4, MS3)}
    labels = {
        spec.name: sum(s.published_clips * len(s.labelled_seconds) for s in spec.splits)
        for spec in (S4, MS3)
    }
    assert clips == {"s4": 4932, "ms3": 424}
    assert labels == {"s4": 10852, "ms3": 2120}


def test_s4_has_23_categories() -> None:
    assert len(set(S4.sound_classes)) == 23
    assert "horse_clip-clop" in S4.sound_classes


def test_demo_differs_by_facts_alone() -> None:
    assert DEMO_S4.split_names == ("train", "val", "test", "unseen")
    assert DEMO_S4.root_folder == "transavs_demo"
    assert DEMO_MS3.frame_template == MS3.frame_template
    assert DEMO_MS3.object_mask_template == "object_masks/{split}/{name}/{name}_{number}.png"
    assert DEMO_S4.split("train").labelled_seconds == (0,)
    assert all(split.published_clips is None for split in DEMO_S4.splits)


def test_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="train, val, test, got 'unseen'"):
        S4.split("unseen")
