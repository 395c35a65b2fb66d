"""The baseline goes through the commands of TransAVS: training, evaluation, pictures."""

import json
from pathlib import Path

import pytest
import tiny_models
import torch

from transavs.tools import eval_robustness, train_net, visualize

TPAVI = (
    *tiny_models.TINY,
    "MODEL.TPAVI.CHANNELS", 8,
    # A norm needs several values a channel: more than 32 pixels, which stride 32 makes one.
    "INPUT.MIN_SIZE_TRAIN", "(64,)",
    "INPUT.MIN_SIZE_TEST", 64,
    "SOLVER.MAX_ITER", 4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings_as_before(monkeypatch):
    """The command hides the GPUs from detectron2, for the whole process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def words(folder: Path, *opts: object, config: str = "tpavi/ms3_R50.yaml", flags=()) -> list[str]:
    options = [*TPAVI, "OUTPUT_DIR", folder, *opts]
    return ["--config-file", config, "--num-gpus", "1", *flags, *map(str, options)]


def logged(folder: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        values |= json.loads(line)
    return values


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_trains_watches_and_keeps_the_best(datasets_env, tmp_path, subset):
    folder = tmp_path / "run"
    options = ("TEST.EVAL_PERIOD", 2, "TEST.PICTURE_PERIOD", 2)
    assert train_net.main(words(folder, *options, config=f"tpavi/{subset}_R50.yaml")) == 0
    values = logged(folder)
    assert 0 <= values["avs/M_J"] <= 100 and values["total_loss"] > 0
    # detectron2 logs the terms where there are several.
    assert ("loss_avm" in values) == ("loss_mask" in values) == (subset == "ms3")
    for name in ("model_best.pth", "model_final.pth"):
        assert (folder / name).is_file()


def test_demo_model_is_asked_and_drawn(datasets_env, tmp_path):
    folder, config = tmp_path / "run", "demo/demo_ms3_tpavi.yaml"
    options = ("MODEL.TIMM.NAME", "mobilenetv3_small_050", "MODEL.TIMM.WEIGHTS", "")
    options += ("DATASETS.VAL", "()", "DATASETS.TEST", "()")
    assert train_net.main(words(folder, *options, config=config)) == 0
    # Its config holds all that it was trained with.
    given = ["--config-file", str(folder / "config.yaml")]
    weights = ["--weights", str(folder / "model_final.pth")]
    pictures = tmp_path / "pictures"
    shown = ["--dataset", "demo_ms3_test", "--draw-queries", "--output", str(pictures)]
    assert visualize.main([*given, *weights, *shown]) == 0
    assert list(pictures.iterdir())
    results = tmp_path / "results.json"
    asked = ["--datasets", "demo_ms3_test", "--conditions", "original,silence"]
    assert eval_robustness.main([*given, *weights, *asked, "--output", str(results)]) == 0
    assert "demo_ms3_test" in results.read_text()


def test_two_processes_train_like_one(datasets_env, tmp_path):
    """With a norm over all of them; the matching loss is a sum over the whole batch."""
    options = ("MODEL.TPAVI.NORM", "naiveSyncBN", "MODEL.RESNETS.NORM", "FrozenBN")
    options += ("DATASETS.VAL", "()", "DATASETS.TEST", "()")
    assert train_net.main(words(tmp_path / "one", *options)) == 0
    command = words(tmp_path / "two", *options)
    command[command.index("--num-gpus") + 1] = "2"
    assert train_net.main(["--dist-url", "auto", *command]) == 0
    first, second = logged(tmp_path / "one"), logged(tmp_path / "two")
    for name in ("loss_mask", "loss_avm", "total_loss"):
        assert second[name] == pytest.approx(first[name], rel=1e-3), name
    states = [torch.load(tmp_path / name / "model_final.pth")["model"] for name in ("one", "two")]
    for name, value in states[0].items():
        # The norms count otherwise; a shift before one has no gradient but rounding, which Adam
        # blows up.
        if not name.endswith(("running_var", "running_mean", "num_batches_tracked", "out.bias")):
            difference = (states[1][name] - value).abs().max().item()
            # Parameters moved by up to 0.004; 1e-5 is the largest difference seen.
            assert difference < 1e-4, name
