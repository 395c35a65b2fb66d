"""Facts of the subsets against the published ones."""

import pytest

from transavs.data.avsbench_spec import AVSS, AVSS_RGB, DEMO_MS3, DEMO_S4, DISTANT_GROUPS, MS3, S4


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


def test_avss_classes() -> None:
    # Ids out of the published table.
    expected = {0: "background", 1: "accordion", 17: "dog", 23: "erhu", 24: "flute", 47: "piano"}
    expected |= {22: "emergency-car", 43: "missile-rocket", 48: "pig", 63: "trumpet", 70: "woman"}
    assert len(AVSS.pixel_classes) == 71
    assert {label: AVSS.pixel_classes[label] for label in expected} == expected
    assert list(AVSS.sound_classes) == sorted(set(AVSS.pixel_classes) - {"background"})
    for spec in (AVSS, AVSS_RGB):
        assert spec.offscreen is not None and spec.offscreen.lender == spec.name
        assert set(spec.offscreen.groups) == set(AVSS.sound_classes)
        assert set(spec.offscreen.groups.values()) == set(DISTANT_GROUPS)


def test_avss_counts_and_lengths() -> None:
    assert sum(split.published_clips for split in AVSS.splits) == 11356
    assert [AVSS.seconds(part) for part in ("v1s", "v1m", "v2")] == [5, 5, 10]
    assert AVSS.clip_seconds == 10 == max(AVSS.seconds(part) for part in AVSS.part_names)
    assert AVSS.labelled_seconds("train", "v1s") == (0,)
    assert AVSS.labelled_seconds("test", "v1s") == (0, 1, 2, 3, 4)
    assert AVSS.labelled_seconds("train", "v1m") == (0, 1, 2, 3, 4)
    assert AVSS.labelled_seconds("train", "v2") == tuple(range(10))
    assert S4.labelled_seconds("train") == (0,) and S4.seconds() == 5
