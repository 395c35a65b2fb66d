"""Building encoders from a configuration, and what freezing keeps still."""

import logging

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from transavs.audio import (
    AUDIO_ENCODER_REGISTRY,
    AudioEncoder,
    SmallVGGish,
    VGGish,
    build_audio_encoder,
)


def make_cfg(name="SmallVGGish", weights="", freeze=False):
    cfg = get_cfg()
    cfg.MODEL.AUDIO = CfgNode({"NAME": name, "WEIGHTS": str(weights), "FREEZE": freeze})
    cfg.freeze()
    return cfg


def examples(count=4):
    return torch.randn(count, 1, 96, 64, generator=torch.Generator().manual_seed(0))


def test_builds_by_name():
    with torch.device("meta"):
        assert isinstance(build_audio_encoder(make_cfg("VGGish", freeze=True)), VGGish)
    encoder = build_audio_encoder(make_cfg())
    assert isinstance(encoder, SmallVGGish) and not encoder.frozen and encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_no_audio_hears_nothing(caplog):
    """It needs no weights, and says the same of every sound."""
    with caplog.at_level(logging.WARNING):
        encoder = build_audio_encoder(make_cfg("NoAudio", weights="no_such_file.pth", freeze=True))
    assert not caplog.records and encoder.embedding_dim == 1
    assert torch.equal(encoder(examples(3)), torch.zeros(3, 1))


def test_frozen_encoders_stay_as_they_are():
    """A parent's train() and any number of steps change neither mode, weights nor statistics."""
    encoder = build_audio_encoder(make_cfg(freeze=True))
    parent = nn.Sequential(encoder, nn.Linear(encoder.embedding_dim, 2))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    parent.train()
    assert parent.training and not any(module.training for module in encoder.modules())
    embeddings = encoder(examples())
    assert not embeddings.requires_grad and embeddings.grad_fn is None
    assert not encoder(examples().requires_grad_()).requires_grad
    parent(examples()).sum().backward()
    assert all(not parameter.requires_grad for parameter in encoder.parameters())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    torch.testing.assert_close(encoder(examples(1)), embeddings[:1], atol=1e-5, rtol=1e-5)


def test_unfrozen_encoders_follow_their_parent():
    encoder = build_audio_encoder(make_cfg())
    parent = nn.Sequential(encoder).eval()
    assert not encoder.training
    parent.train()
    assert encoder.training and encoder(examples()).requires_grad
    with torch.no_grad():
        assert not encoder(examples()).requires_grad
    mean = encoder.state_dict()["features.1.running_mean"]
    assert mean.abs().sum() > 0, "statistics move in training"


def test_weights_are_loaded(tmp_path):
    torch.manual_seed(1)
    saved = SmallVGGish()
    torch.save(saved.state_dict(), tmp_path / "small.pth")
    loaded = build_audio_encoder(make_cfg(weights=tmp_path / "small.pth", freeze=True))
    assert torch.equal(loaded(examples()), saved.eval()(examples()))


def test_a_missing_file_is_a_loud_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="transavs"):
        build_audio_encoder(make_cfg(weights=tmp_path / "absent.pth", freeze=True))
    assert "absent.pth" in caplog.text and "RANDOM" in caplog.text


@pytest.mark.parametrize(
    ("name", "freeze", "level", "words"),
    [
        ("VGGish", True, "WARNING", ("frozen", "RANDOM", "vggish-10086976.pth", "torchvggish")),
        ("VGGish", False, "WARNING", ("RANDOM", "vggish-10086976.pth")),
        ("SmallVGGish", True, "WARNING", ("frozen", "RANDOM")),
        ("SmallVGGish", False, "INFO", ("trained from scratch",)),
    ],
)
def test_random_weights_are_reported(caplog, name, freeze, level, words):
    with caplog.at_level(logging.INFO, logger="transavs"), torch.device("meta"):
        build_audio_encoder(make_cfg(name, freeze=freeze))
    (record,) = caplog.records
    assert record.levelname == level
    assert all(word in record.getMessage() for word in words)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="one of CLAPHTSAT, HTSAT, NoAudio.*got 'Vggish'"):
        build_audio_encoder(make_cfg("Vggish"))


class LoudnessEncoder(AudioEncoder):
    """An encoder with a key of its own, as a user might add."""

    embedding_dim = 2

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg):
        return cls(scale=len(cfg.MODEL.AUDIO.NAME))

    def embed(self, examples):
        return self.scale * examples.flatten(1)[:, :2]


def build_loudness_encoder(cfg):
    return LoudnessEncoder(scale=3)


def build_linear(cfg):
    return nn.Linear(2, 2)


@pytest.fixture
def registered():
    """Users' entries in the registry, taken out again afterwards."""
    before = dict(AUDIO_ENCODER_REGISTRY._obj_map)
    for entry in (LoudnessEncoder, build_loudness_encoder, build_linear):
        AUDIO_ENCODER_REGISTRY.register(entry)
    yield
    AUDIO_ENCODER_REGISTRY._obj_map = before


def test_users_can_register_classes_and_functions(registered):
    encoder = build_audio_encoder(make_cfg("LoudnessEncoder", freeze=True))
    assert encoder.scale == len("LoudnessEncoder")
    assert torch.equal(encoder(torch.ones(1, 1, 96, 64)), torch.full((1, 2), 15.0))
    assert build_audio_encoder(make_cfg("build_loudness_encoder")).scale == 3
    with pytest.raises(TypeError, match="must be an AudioEncoder, got Linear"):
        build_audio_encoder(make_cfg("build_linear"))
