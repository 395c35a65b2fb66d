"""ship_model: a tiny model goes into the file and comes back with the packaged backbone."""

import json
import re
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from detectron2.modeling import build_model

from transavs.config import setup_cfg
from transavs.engine.trained_model import load_trained_model
from transavs.pretrained.bundled_models import read_notes
from transavs.utils import package_files
from transavs.version import __version__

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "maintainers"))

from ship_model import main  # noqa: E402

CONFIG = "demo/demo_ms3.yaml"
OPTIONS = (*tiny_models.TINY, "MODEL.TRANSAVS.AGREEMENT_WEIGHT", "1.0")


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(1)
    model = build_model(setup_cfg(CONFIG, OPTIONS))
    tiny_models.make_confident(model)
    return model.eval()


@pytest.fixture
def arguments(model: torch.nn.Module, tmp_path: Path) -> list[str]:
    torch.save({"model": model.state_dict()}, tmp_path / "model_best.pth")
    return [
        *("--config-file", CONFIG, "--weights", str(tmp_path / "model_best.pth")),
        *("--output", str(tmp_path / "out" / "tiny.safetensors")),
    ]


def answer(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model([tiny_models.random_clip()])[0]


def test_round_trip(model: torch.nn.Module, arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, *OPTIONS]) == 0
    torch.manual_seed(2)
    loaded = load_trained_model(setup_cfg(CONFIG, OPTIONS), arguments[-1])
    expected, found = answer(model), answer(loaded)
    assert torch.equal(found["masks"], expected["masks"])
    assert torch.equal(found["scores"], expected["scores"])
    assert not loaded.training
    # The encoder travels with it, neither the backbone nor what only training uses does.
    size = Path(arguments[-1]).stat().st_size
    parts = {name: value for name, value in model.state_dict().items()}
    bytes_of = {
        prefix: sum(
            value.numel() * value.element_size()
            for name, value in parts.items()
            if name.startswith(prefix)
        )
        for prefix in ("", "audio_encoder.", "backbone.", "criterion.", "agreement_loss.")
    }
    left_out = sum(bytes_of[name] for name in ("backbone.", "criterion.", "agreement_loss."))
    assert bytes_of["audio_encoder."] < size < bytes_of[""] - left_out + 50_000


def test_half_and_notes(model: torch.nn.Module, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"demo_ms3_test": {"original": {"M_J": 81.1}}}')
    assert main([*arguments, *OPTIONS]) == 0
    whole = Path(arguments[-1]).stat().st_size
    extra = ["--half", "--metrics", str(tmp_path / "results.json")]
    extra += ["--training-command", "python tools/train_net.py --config-file mine.yaml"]
    cache = ["MODEL.BACKBONE.CACHE", str(tmp_path / "features")]
    assert (
        main([*extra, *arguments, *OPTIONS, "MODEL.AUDIO.WEIGHTS", str(tmp_path / "a.pth"), *cache])
        == 0
    )
    assert Path(arguments[-1]).stat().st_size < 0.6 * whole
    loaded = load_trained_model(setup_cfg(CONFIG, OPTIONS), arguments[-1])
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    difference = (answer(loaded)["scores"] - answer(model)["scores"]).abs().max()
    assert 0 < difference < 0.02

    notes = read_notes(arguments[-1])
    assert notes["version"] == __version__
    assert notes["training_command"] == "python tools/train_net.py --config-file mine.yaml"
    assert json.loads(notes["metrics"])["demo_ms3_test"]["original"]["M_J"] == 81.1
    assert "NUM_QUERIES: 5" in notes["config"] and str(tmp_path) not in notes["config"]


def test_shipped_models_are_found_by_name(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*arguments, *OPTIONS]) == 0
    monkeypatch.setattr(package_files, "WEIGHTS_FOLDER", tmp_path / "out")
    cfg = setup_cfg(CONFIG, OPTIONS)
    for name in ("tiny.safetensors", "weights/tiny.safetensors"):
        assert package_files.find_weights(name) == arguments[-1]
        load_trained_model(cfg, name)
    for name in ("huge.safetensors", "output/tiny.safetensors"):
        with pytest.raises(FileNotFoundError, match=f"{name}; .* package: tiny.safetensors"):
            load_trained_model(cfg, name)


def test_other_backbones_cannot_complete_it(arguments: list[str]) -> None:
    assert main([*arguments, *OPTIONS]) == 0
    with pytest.raises(ValueError, match="MODEL.TIMM.WEIGHTS packaged, as in configs/demo"):
        load_trained_model(setup_cfg(CONFIG, [*OPTIONS, "MODEL.TIMM.WEIGHTS", ""]), arguments[-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["MODEL.BACKBONE.FREEZE", "False"], "frozen .* expected MODEL.BACKBONE.FREEZE True"),
        (["MODEL.TIMM.WEIGHTS", ""], r"expected MODEL.TIMM.WEIGHTS packaged \(got ''\)"),
        (
            ["MODEL.BACKBONE.NAME", "build_resnet_backbone"],
            "expected MODEL.BACKBONE.NAME build_timm_backbone",
        ),
        (["MODEL.TRANSAVS.NUM_QUERIES", "6"], "does not fit the model of this configuration"),
    ],
)
def test_models_that_cannot_be_shipped(
    arguments: list[str], changes: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *OPTIONS, *changes]) == 2
    assert re.search(f"ship_model: error: .*{message}", capsys.readouterr().err)
    assert not Path(arguments[-1]).exists()


def test_a_trained_backbone_is_not_left_out(
    model: torch.nn.Module, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    next(iter(model.backbone.parameters())).data += 0.01
    torch.save({"model": model.state_dict()}, arguments[3])
    assert main([*arguments, *OPTIONS]) == 2
    assert "its image backbone is not the packaged one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--output", "model.pth", "--output must end in .safetensors"),
        ("--weights", "nowhere.pth", "no checkpoint nowhere.pth"),
        ("--metrics", "nowhere.json", "nowhere.json"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str],
    option: str,
    value: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, option, value, *OPTIONS]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("ship_model: error: ") and message in errors
