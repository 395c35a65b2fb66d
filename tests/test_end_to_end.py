"""From files on disk to scores: learning, and every shipped config through the command.

The configs run with their own pixel decoder, schedule, augmentation and data set, but with networks
small enough for the suite. ``TRANSAVS_FULL_SIZE=1`` runs them as they are (half a minute to
three on one core, up to 10 GB), with random weights where public ones would have to be fetched.
"""

import json
import os
import time
from pathlib import Path

import pytest
import tiny_models
import torch

from transavs.data import AVSDatasetMapper, load_records
from transavs.engine import Trainer
from transavs.tools import train_net
from transavs.utils.package_files import shipped_configs

TRAINED = [name for name in shipped_configs() if not Path(name).name.startswith("Base-")]

#: Public weights are not fetched, and an epoch is three steps.
SHORT = (
    "MODEL.DEVICE", "cpu",
    "MODEL.WEIGHTS", "",
    "MODEL.AUDIO.WEIGHTS", "",
    "SOLVER.MAX_ITER", "3",
    "SOLVER.IMS_PER_BATCH", "2",
    "SOLVER.CHECKPOINT_PERIOD", "10",
    "TEST.EVAL_PERIOD", "3",
    "DATALOADER.NUM_WORKERS", "0",
    "SOLVER.AMP.ENABLED", "False",
)  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings_as_before(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    # Syncing a checkpoint can take seconds on a busy disk, and no test pulls the plug.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def read_log(folder: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        values |= json.loads(line)
    return values


@pytest.mark.parametrize("name", TRAINED)
def test_every_config_trains_and_evaluates(name, datasets_env, tmp_path):
    options = [*tiny_models.TINY, *SHORT, "OUTPUT_DIR", str(tmp_path / "run")]
    options += ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2", "MODEL.TPAVI.CHANNELS", "16"]
    if "swin" in name:
        # TINY and TINY_SWIN each shrink their own backbone; only the config chooses one.
        options += tiny_models.TINY_SWIN[2:]
    if "avss" in name:
        options += ["INPUT.STRETCH_TEST", "(32,32)"]
    if "pvt" in name:
        options += ["MODEL.TIMM.NAME", "pvt_v2_b0", "MODEL.TIMM.WEIGHTS", ""]
    command = ["--config-file", f"configs/{name}", *options]
    assert train_net.main(command) == 0
    logged = read_log(tmp_path / "run")
    assert logged["total_loss"] > 0
    assert 0 <= logged["avs/M_J"] <= 100 and 0 <= logged["avs/dataset_JF"] <= 100
    assert ("avs/class_mIoU_official" in logged) == ("avss" in name)
    weights = tmp_path / "run" / "model_final.pth"
    assert train_net.main(["--eval-only", *command, "MODEL.WEIGHTS", str(weights)]) == 0


def test_avss_under_every_sound(datasets_env, tmp_path):
    """Trained on colour-coded maps and scored under false sounds, by class and as a whole."""
    options = [*tiny_models.TINY, *SHORT, "INPUT.STRETCH_TEST", "(24,40)"]
    options += ["DATASETS.TRAIN", "('avsbench_avss_rgb_train',)"]
    options += ["INPUT.NEGATIVE_AUDIO.SHARE", "0.5", "MODEL.TRANSAVS.AGREEMENT_WEIGHT", "1.0"]
    options += ["MODEL.TRANSAVS.INFERENCE.RULE", "semantic_sum", "OUTPUT_DIR", str(tmp_path)]
    # Random masks are wide: some class is always predicted.
    options += ["MODEL.TRANSAVS.INFERENCE.MASK_THRESHOLD", "0.01"]
    options += ["TEST.ROBUSTNESS", "('silence','noise','offscreen','shuffled')"]
    command = ["--config-file", "configs/avss_R50.yaml", *options]
    assert train_net.main(command) == 0
    results = json.loads((tmp_path / "robustness.json").read_text())
    scores = results["avsbench_avss_test"]
    assert list(scores) == ["original", "silence", "noise", "offscreen", "shuffled"]
    for name in ("class_mIoU_official", "class_mIoU", "class_F_foreground", "dataset_mIoU", "M_J"):
        assert all(0 <= found[name] <= 100 for found in scores.values()), name
    summary = results["robustness"]["avsbench_avss_test"]
    assert summary["J_pos"] == scores["original"]["class_mIoU_foreground"]
    assert summary["conditions"]["offscreen"]["F"] == scores["offscreen"]["class_F_foreground"]
    # Both clips of the test split count, and of the background the five seconds that the official
    # script pads the shorter one with.
    assert scores["original"]["frames"] == 15
    with_padding, without = (
        scores["original"][f"class_mIoU_{n}"] for n in ("official", "unpadded")
    )
    assert with_padding > without


def test_a_few_steps_teach_the_classes_of_avss(datasets_env, tmp_path):
    """A dog; a guitar and a man; a cat and a helicopter: which is which can be learned by heart."""
    cfg = tiny_models.tiny_cfg(
        "MODEL.TRANSAVS.AUDIO_CONTEXT", "second", "MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder",
        "MODEL.TRANSAVS.MASK_BCE_WEIGHT", 5.0, "INPUT.STRETCH_TEST", (32, 40),
        # The sum over the queries takes longer to learn.
        "MODEL.TRANSAVS.INFERENCE.RULE", "argmax",
        "DATASETS.VAL", "('avsbench_avss_train',)", "DATASETS.TEST", (),
        "INPUT.CROP.ENABLED", False, "INPUT.RANDOM_FLIP", "none", "INPUT.COLOR_JITTER", 0.0,
        "INPUT.MIN_SIZE_TRAIN", "(32,)", "SOLVER.MAX_ITER", 90, "SOLVER.BASE_LR", 0.003,
        "SOLVER.BACKBONE_MULTIPLIER", 1.0, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 1.0,
        "SOLVER.AMP.ENABLED", False, "SOLVER.CHECKPOINT_PERIOD", 1000, "SOLVER.IMS_PER_BATCH", 3,
        "OUTPUT_DIR", tmp_path, config="avss_R50.yaml",
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()["avs"]
    assert results["class_mIoU_foreground"] > 50 and results["class_dataset_mIoU"] > 50
    # The five classes and the background, and no other.
    assert results["classes_seen"] == 6


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TRANSAVS_FULL_SIZE"), reason="set TRANSAVS_FULL_SIZE=1 to run at full size"
)
@pytest.mark.parametrize("name", TRAINED)
def test_every_config_at_full_size(name, datasets_env, tmp_path, capsys):
    folder = tmp_path / "run"
    options = [*SHORT, "TEST.PICTURE_PERIOD", "3", "OUTPUT_DIR", str(folder)]
    started = time.perf_counter()
    assert train_net.main(["--config-file", f"configs/{name}", *options]) == 0
    trained = time.perf_counter() - started
    weights = ["MODEL.WEIGHTS", str(folder / "model_final.pth")]
    command = ["--config-file", f"configs/{name}", "--eval-only", *options, *weights]
    assert train_net.main(command) == 0
    evaluated = time.perf_counter() - started - trained
    with capsys.disabled():
        print(f"\n{name}: {trained:.0f} s, evaluated in {evaluated:.0f} s")


@pytest.mark.parametrize("targets", ["objects", "components"])
def test_a_few_steps_teach_the_training_clips(targets, datasets_env, tmp_path):
    """The dog sounds, then both, then the cow, then nothing: all of it can be learned by heart."""
    cfg = tiny_models.tiny_cfg(
        "MODEL.TRANSAVS.TARGETS", targets, "MODEL.TRANSAVS.AUDIO_CONTEXT", "second",
        "MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder", "MODEL.TRANSAVS.MASK_BCE_WEIGHT", 5.0,
        "DATASETS.TRAIN", "('demo_ms3_train',)", "DATASETS.VAL", "('demo_ms3_train',)",
        "INPUT.CROP.ENABLED", False, "INPUT.RANDOM_FLIP", "none", "INPUT.COLOR_JITTER", 0.0,
        "INPUT.MIN_SIZE_TRAIN", "(32,)", "SOLVER.MAX_ITER", 80, "SOLVER.BASE_LR", 0.003,
        "SOLVER.BACKBONE_MULTIPLIER", 1.0, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 1.0,
        "SOLVER.CHECKPOINT_PERIOD", 1000, "SOLVER.IMS_PER_BATCH", 1, "OUTPUT_DIR", tmp_path,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert read_log(tmp_path)["total_loss"] < 8
    assert results["avs"]["M_J"] > 60
    # And the last second, in which nothing sounds, stays dark.
    clip = AVSDatasetMapper(cfg, is_train=False)(load_records("demo_ms3_train")[0])
    with torch.no_grad():
        (answer,) = trainer.model.eval()([clip])
    assert answer["masks"].flatten(1).float().mean(1)[4] < 0.02
