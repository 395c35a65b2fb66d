"""Off-screen sounds: never of a class in the picture, distant where that can be."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from transavs.data import load_records, with_condition
from transavs.data.avsbench_spec import DISTANT_GROUPS, MS3, S4, S4_GROUPS, OffscreenRule
from transavs.data.offscreen import OffscreenSounds, offscreen_sounds

GROUPS = {"dog": "animal", "cow": "animal", "violin": "music", "truck": "vehicle"}
RULE = OffscreenRule("s4", {"animal": ("music",), "music": ("animal",)})


def lender(name: str, *heard: str) -> dict:
    return {"clip_id": name, "heard_classes": list(heard)}


LENDERS = [lender("d", "dog"), lender("c", "cow"), lender("v", "violin"), lender("t", "truck")]


def chosen(record: dict, lenders=LENDERS, rule=RULE, groups=GROUPS) -> tuple[set[str], set[bool]]:
    sounds = OffscreenSounds(lenders, rule, groups)
    picks = [sounds.choose(record, np.random.default_rng(seed)) for seed in range(60)]
    return {pick["clip_id"] for pick, _ in picks}, {distant for _, distant in picks}


@pytest.mark.parametrize(
    ("visible", "heard", "expected", "distant"),
    [
        # A truck is no distant sound from an animal by RULE, and a cow is an animal too.
        (["dog"], ["dog"], {"v"}, True),
        (["violin"], ["violin"], {"d", "c"}, True),
        # The violin is in the picture, though mute: nothing distant is left.
        (["dog", "violin"], ["dog"], {"c", "t"}, False),
        # Both super-categories are heard: any class that is not in the picture.
        (["dog", "violin"], ["dog", "violin"], {"c", "t"}, False),
        # Nothing is known of the picture.
        ([], [], {"d", "c", "v", "t"}, True),
    ],
)
def test_choice(visible, heard, expected, distant) -> None:
    record = {"clip_id": "x", "visible_classes": visible, "heard_classes": heard}
    assert chosen(record) == (expected, {distant})


def test_only_some_classes_are_lent() -> None:
    rule = OffscreenRule("s4", {}, lent_classes=("truck", "cow"))
    lenders = [*LENDERS, lender("both", "cow", "dog")]
    assert chosen({"clip_id": "x"}, lenders, rule)[0] == {"t", "c"}


def test_nothing_to_lend() -> None:
    with pytest.raises(ValueError, match="x.*shows every class.*cow, dog, truck, violin"):
        chosen({"clip_id": "x", "visible_classes": list(GROUPS)})
    with pytest.raises(ValueError, match="heard_classes.*got 1 clips without"):
        OffscreenSounds([{"clip_id": "silent"}], RULE, GROUPS)


def test_table_of_distant_groups() -> None:
    assert set(S4_GROUPS) == set(S4.sound_classes)
    assert set(S4_GROUPS.values()) == set(DISTANT_GROUPS)
    assert S4_GROUPS["playing_piano"] == "music" and S4_GROUPS["cap_gun_shooting"] == "device"
    for group, others in DISTANT_GROUPS.items():
        assert group not in others and set(others) <= set(DISTANT_GROUPS)
    # The weak contrasts that AVSBench-Robust leaves out.
    for weak, strong in (("music", "human"), ("human", "music"), ("animal", "human")):
        assert strong not in DISTANT_GROUPS[weak]
    assert DISTANT_GROUPS["device"] == ("human", "animal")
    assert MS3.offscreen is not None
    assert set(MS3.offscreen.lent_classes) < set(S4.sound_classes)


def test_s4_and_ms3_on_disk(datasets_env: Path) -> None:
    records = load_records("avsbench_s4_train")  # a dog and a horse: one super-category
    changed = with_condition(records, "offscreen", seed=1)
    assert [record["audio_clip_id"] for record in changed] == [
        records[1]["clip_id"],
        records[0]["clip_id"],
    ]
    assert changed[0]["audio_file"] == records[1]["audio_file"]
    assert changed[0]["sound_labels"] == records[1]["sound_labels"]
    assert changed[0]["heard_classes"] == records[0]["heard_classes"]
    # MS3 borrows from the same split of S4: only the horse is no class of MS3.
    for record in with_condition(load_records("avsbench_ms3_train"), "offscreen"):
        assert record["audio_clip_id"] == "horse_clip-clop/_8m_rszChvE"


def test_missing_lender(datasets_env: Path) -> None:
    (datasets_env / "Single-source" / "s4_meta_data.csv").unlink()
    records = load_records("avsbench_ms3_test")
    words = "off-screen sounds of avsbench_ms3_test are those of avsbench_s4_test"
    with pytest.raises(FileNotFoundError, match=words):
        with_condition(records, "offscreen")


def test_demo_knows_what_a_picture_shows(datasets_env: Path) -> None:
    (record,) = load_records("demo_ms3_test")
    assert record["visible_classes"] == ["cow", "dog"] == record["heard_classes"]
    # The only sound of the tiny set is a dog's, and a dog is in the picture.
    with pytest.raises(ValueError, match="shows every class"):
        with_condition([record], "offscreen")
    sounds = offscreen_sounds("demo_ms3_test")
    assert sounds.choose({"clip_id": "x"}, np.random.default_rng(0))[1]


def test_records_of_no_data_set() -> None:
    with pytest.raises(ValueError, match="names no registered data set"):
        with_condition([{"clip_id": "x"}], "offscreen")


def test_lenders() -> None:
    lenders = {
        name: MetadataCatalog.get(name).offscreen_lender
        for name in ("avsbench_ms3_val", "avsbench_s4_test", "demo_ms3_train", "demo_ms3_unseen")
    }
    assert list(lenders.values()) == [
        "avsbench_s4_val",
        "avsbench_s4_test",
        "demo_s4_train",
        "demo_s4_test",
    ]
