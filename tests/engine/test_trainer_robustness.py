"""TEST.ROBUSTNESS: what Trainer.test adds, when, and in several processes."""

import logging
from pathlib import Path

import listening_model
import numpy as np
import pytest
from listening_model import LOUD_JACCARD, MARKED_SHARE, ListeningModel

from transavs.config import setup_cfg
from transavs.engine import Trainer
from transavs.engine.robustness import check_conditions, evaluate_conditions
from transavs.evaluation import AVSEvaluator, read_results

EVERY = "('original','silence','noise','offscreen','shuffled')"
LOUD = 100 * np.mean(LOUD_JACCARD[:4])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    root = listening_model.write_clips(tmp_path / "clips")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    return str(listening_model.write_config(tmp_path))


def options(tmp_path: Path, conditions: str = EVERY) -> list[str]:
    return ["OUTPUT_DIR", str(tmp_path / "run"), "TEST.ROBUSTNESS", conditions]


def test_final_evaluation(
    config: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = ListeningModel.forward
    monkeypatch.setattr(
        ListeningModel,
        "forward",
        lambda self, clips, **options: seen.append(len(clips)) or forward(self, clips, **options),
    )
    cfg = setup_cfg(config, options(tmp_path))
    with caplog.at_level(logging.INFO):
        results = Trainer.test(cfg, ListeningModel(cfg))
    # Three clips under five conditions, the original once.
    assert sum(seen) == 15
    assert list(results) == ["avs", "robustness"]
    assert results["avs"]["queries_confident"] == pytest.approx(2 / 3)
    flat = results["robustness"]
    assert all(isinstance(value, float) for value in flat.values())
    assert flat["J_neg"] == pytest.approx(LOUD * 2 / 3) == flat["J_pos"]
    assert flat["FPR"] == pytest.approx(MARKED_SHARE * 2 / 3)
    assert flat["silence/M_J_nonempty"] == 0 and flat["silence/FPR"] == 0
    assert flat["noise/M_J_nonempty"] == pytest.approx(LOUD)
    assert {"G_mIoU", "G_F", "F_neg", "offscreen/M_F", "shuffled/FPR"} <= set(flat)
    assert not any(key.startswith("original") for key in flat)
    # detectron2 prints both tasks.
    assert "copypaste: Task: robustness" in caplog.text and f"{flat['G_mIoU']:.4f}" in caplog.text

    content = read_results(tmp_path / "run" / "robustness.json")
    assert list(content) == ["demo_ms3_test", "robustness"]
    scores = content["demo_ms3_test"]
    assert list(scores) == ["original", "silence", "noise", "offscreen", "shuffled"]
    assert scores["original"]["M_J"] == pytest.approx(results["avs"]["M_J"])
    assert content["robustness"]["demo_ms3_test"]["G_mIoU"] == pytest.approx(flat["G_mIoU"])


def test_only_for_the_test_sets_and_our_own_evaluator(config: str, tmp_path: Path) -> None:
    cfg = setup_cfg(config, options(tmp_path))
    model = ListeningModel(cfg)
    watched = Trainer.test(cfg, model, datasets=("demo_ms3_test",))
    own = Trainer.test(cfg, model, AVSEvaluator("demo_ms3_test"))
    without = Trainer.test(setup_cfg(config, options(tmp_path, "()")), model)
    for results in (watched, own, without):
        assert list(results) == ["avs"]
    assert "query_cosine" not in watched["avs"] and "query_cosine" in without["avs"]
    assert not (tmp_path / "run" / "robustness.json").exists()


def test_conditions_that_are_no_negatives_give_no_summary(config: str, tmp_path: Path) -> None:
    cfg = setup_cfg(config, options(tmp_path, "('shuffled',)"))
    results = Trainer.test(cfg, ListeningModel(cfg))
    assert set(results["robustness"]) == {
        f"shuffled/{key}" for key in ("M_J_nonempty", "M_F", "FPR")
    }
    assert list(read_results(tmp_path / "run" / "robustness.json")) == ["demo_ms3_test"]


def test_several_data_sets(config: str, tmp_path: Path) -> None:
    names = ("demo_ms3_test", "demo_s4_test")
    cfg = setup_cfg(
        config, [*options(tmp_path, "('silence','noise')"), "DATASETS.TEST", str(names)]
    )
    results = Trainer.test(cfg, ListeningModel(cfg))
    assert list(results) == list(names)
    for name in names:
        assert list(results[name]) == ["avs", "robustness"]
    content = read_results(tmp_path / "run" / "robustness.json")
    assert set(content) == {*names, "robustness"} and set(content["robustness"]) == set(names)


def test_mistakes_come_before_the_work(config: str) -> None:
    cfg = setup_cfg(config, ["INPUT.AUDIO_SOURCE", "log_mel"])
    records = [{"clip_id": "a"}]
    with pytest.raises(ValueError, match="silence are computed"):
        evaluate_conditions(cfg, ListeningModel(cfg), records, ["silence"])
    cfg = setup_cfg(config)
    with pytest.raises(ValueError, match="'shuffled': .* at least 2 clips, got 1"):
        check_conditions(cfg, records, ["original", "shuffled"])
    check_conditions(cfg, records, ["original"])
