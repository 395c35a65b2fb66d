"""Loading a model whole, and predicting clips."""

import logging

import pytest
import tiny_models
import torch
from tiny_models import random_clip

from transavs.engine.trained_model import load_trained_model, predict_clip, predict_clips


@pytest.fixture
def model():
    model = tiny_models.tiny_model()
    tiny_models.make_confident(model)
    return model.eval()


@pytest.mark.parametrize("widths", [(32, 32, 32), (32, 40, 32)], ids=["one size", "two sizes"])
def test_a_batch_is_predicted_as_its_clips_are(model, widths):
    clips = [random_clip(32, width, frames=2, seed=seed) for seed, width in enumerate(widths)]
    together = predict_clips(model, clips, 3)
    for clip, answer in zip(clips, together, strict=True):
        alone = predict_clip(model, clip, 3)
        assert torch.equal(answer.masks, alone.masks)
        torch.testing.assert_close(answer.scores, alone.scores)
        assert len(answer.queries) == len(alone.queries) == 2
        for one, other in zip(answer.queries, alone.queries, strict=True):
            assert one.index == other.index and one.sounds == other.sounds
            assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
            assert (one.pixels == other.pixels).all() and one.pixels.shape[0] == 3


def test_a_whole_checkpoint_gives_nothing_to_warn_of(model, tmp_path, caplog):
    """Neither of the encoder, which it fills, nor of what only training needs."""
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith("criterion.")
    }
    assert len(state) < len(model.state_dict())
    torch.save({"model": state}, tmp_path / "model.pth")
    with caplog.at_level(logging.WARNING):
        loaded = load_trained_model(tiny_models.tiny_cfg(), str(tmp_path / "model.pth"))
    assert not loaded.training
    assert not caplog.records, caplog.text
    assert logging.getLogger("transavs.pretrained").level == logging.NOTSET


def test_a_checkpoint_without_the_encoder_is_refused(model, tmp_path):
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith("audio_encoder.")
    }
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="missing: audio_encoder"):
        load_trained_model(tiny_models.tiny_cfg(), str(tmp_path / "model.pth"))
