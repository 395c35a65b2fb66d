"""The summary of AVSBench-Robust: hand-worked values, the published figures, what is missing."""

import math

import pytest

from transavs.evaluation import combined_score, summarize_robustness

NEGATIVES = ("silence", "noise", "offscreen")


def scores(j: float | None, f: float | None = 0.0, false_share: float | None = 0.0) -> dict:
    return {"M_J": -1.0, "M_J_nonempty": j, "M_F": f, "FPR": false_share}


def test_by_hand() -> None:
    found = summarize_robustness(
        {
            "original": scores(80.0, 90.0, 0.01),
            "shuffled": scores(99.0, 99.0, 0.99),  # no negative: does not enter
            "silence": scores(0.0, 10.0, 0.0),
            "offscreen": scores(40.0, 50.0, 0.3),
        },
        NEGATIVES,
    )
    # J_neg = 20: 2 * 80 * 80 / 160; F_neg = 30: 2 * 90 * 70 / 160.
    assert (found["J_pos"], found["J_neg"], found["G_mIoU"]) == pytest.approx((80, 20, 80))
    assert (found["F_pos"], found["F_neg"], found["G_F"]) == pytest.approx((90, 30, 78.75))
    assert found["FPR"] == pytest.approx(0.15)
    assert list(found["conditions"]) == ["silence", "offscreen"]
    # 2 * 80 * 60 / 140 and 2 * 90 * 50 / 140.
    assert found["conditions"]["offscreen"] == pytest.approx(
        {"J": 40, "F": 50, "FPR": 0.3, "G_mIoU": 9600 / 140, "G_F": 9000 / 140}
    )
    # 2 * 80 * 100 / 180.
    assert found["conditions"]["silence"]["G_mIoU"] == pytest.approx(16000 / 180)


def test_published_kinds_beside_ours() -> None:
    """A model that is right under every sound, on frames of which 30 % are empty."""
    original = {**scores(100.0, 90.0), "M_J": 100.0, "M_F_group_1": 95.0, "M_F_group_4": 90.0}
    # Empty frames stay empty, and count in full: 30 % of 100.
    silence = {**scores(0.0, 10.0), "M_J": 30.0, "M_F_group_1": 5.0, "M_F_group_4": 10.0}
    found = summarize_robustness({"original": original, "silence": silence}, NEGATIVES)
    assert found["G_mIoU"] == pytest.approx(100)
    assert found["G_mIoU_all_frames"] == pytest.approx(2 * 100 * 70 / 170)
    assert (found["J_pos_all_frames"], found["J_neg_all_frames"]) == (100, 30)
    assert found["G_F"] == found["G_F_group_4"] == pytest.approx(90)
    assert found["G_F_group_1"] == pytest.approx(95)
    # Of older results without these scores nothing is made up.
    older = {key: value for key, value in original.items() if not key.startswith("M_F_group")}
    found = summarize_robustness({"original": older, "silence": silence}, NEGATIVES)
    assert found["G_F"] == pytest.approx(90) and "G_F_group_1" not in found


def test_with_classes_their_means_enter() -> None:
    by_class = {"class_mIoU_foreground": 80.0, "class_F_foreground": 90.0}
    by_class["class_mIoU_official"] = 90.0
    found = summarize_robustness(
        {
            "original": {**scores(1.0, 2.0), **by_class},
            "noise": {
                **{**scores(3.0, 4.0, 0.2), "class_mIoU_foreground": 20.0},
                "class_mIoU_official": 50.0,
            },
        },
        NEGATIVES,
    )
    assert (found["J_pos"], found["J_neg"], found["G_mIoU"], found["F_pos"]) == (80, 20, 80, 90)
    assert math.isnan(found["G_F"]) and found["FPR"] == 0.2
    # 2 * 90 * 50 / 140, with the background.
    assert found["G_mIoU_with_background"] == pytest.approx(9000 / 140)
    assert not {"G_mIoU_all_frames", "G_F_with_background"} & set(found)


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        # TPAVI on S4 as published, 35.03: it segments 77.4 of 78.15 points whatever sounds.
        (78.15, 77.43, 35.03),
        # With negatives and their loss, 87.67.
        (78.15, 0.17, 87.67),
        (100.0, 0.0, 100.0),
        (50.0, 50.0, 50.0),
        # Deaf: the same with any sound. Blind: nothing with any sound.
        (100.0, 100.0, 0.0),
        (0.0, 0.0, 0.0),
        # Only the false sound brings the masks up: both parts are 0.
        (0.0, 100.0, 0.0),
    ],
)
def test_combined_score(positive: float, negative: float, expected: float) -> None:
    assert combined_score(positive, negative) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("positive", "negative"), [(math.nan, 1.0), (1.0, math.nan)])
def test_nan_stays_nan(positive: float, negative: float) -> None:
    assert math.isnan(combined_score(positive, negative))


def test_a_missing_score_spoils_only_what_needs_it() -> None:
    found = summarize_robustness(
        {"original": scores(80.0, None), "noise": scores(20.0, 1.0, None)}, NEGATIVES
    )
    assert found["G_mIoU"] == pytest.approx(80)
    for key in ("F_pos", "G_F", "FPR"):
        assert math.isnan(found[key]), key
    assert math.isnan(found["conditions"]["noise"]["FPR"]) and found["F_neg"] == 1


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"silence": scores(0.0)}, "'original' was not evaluated"),
        ({"original": scores(80.0), "shuffled": scores(9.0)}, "silence, noise, offscreen"),
        ({"original": scores(math.nan), "silence": scores(math.nan)}, "nothing sounds in any"),
        ({"original": {}, "silence": {}}, "nothing sounds in any"),
    ],
)
def test_nothing_to_summarize(conditions: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarize_robustness(conditions, NEGATIVES)
