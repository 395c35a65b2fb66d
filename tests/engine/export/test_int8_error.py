"""What 8 bits change of embeddings: the measures, and a small encoder's own."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from transavs.audio.io import save_waveform
from transavs.engine.export import embedding_error, examples_of_folder
from transavs.engine.export.int8_error import compare_embeddings


def test_measures_worked_by_hand():
    before = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    after = np.array([[4.0, 3.0], [0.0, 0.0], [0.0, 2.0]])
    found = compare_embeddings(before, after)
    assert found["examples"] == 3 and found["silent"] == 1
    # The first is off by sqrt(2), of a norm of 5, and 24/25 of it point its way.
    assert found["relative_l2"] == pytest.approx(np.sqrt(2 / 29))
    assert found["worst_relative_l2"] == pytest.approx(np.sqrt(2) / 5)
    assert found["cosine"] == pytest.approx((24 / 25 + 1) / 2)
    assert found["worst_cosine"] == pytest.approx(24 / 25)
    with pytest.raises(ValueError, match="all embeddings are zero"):
        compare_embeddings(before[1:2], after[1:2])


def test_a_small_encoder(tmp_path):
    encoder = tiny_model().audio_encoder.eval()
    for number, seconds in enumerate((0.5, 2.5)):
        noise = torch.rand(int(16_000 * seconds)) - 0.5
        save_waveform(tmp_path / f"{number}.wav", noise)
    examples = examples_of_folder(encoder, tmp_path)
    assert examples.shape == (3, 1, 96, 64)
    found = embedding_error(encoder, examples)
    assert found["examples"] == 3 and found["silent"] == 0
    assert 0 < found["relative_l2"] <= found["worst_relative_l2"] < 0.05
    assert 0.998 < found["worst_cosine"] <= found["cosine"] < 1
