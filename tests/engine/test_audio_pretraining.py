"""Pretraining of audio encoders: what is read, how it is varied, that it learns."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from transavs.audio import SmallVGGish, YAMNet, clip_log_mel, load_waveform
from transavs.data import load_records
from transavs.engine.audio_pretraining import (
    ExampleAugmentation,
    LabelledExamples,
    classification_scores,
    collect_features,
    pretrain_encoder,
    read_labelled_examples,
)

SILENCE = math.log(0.01)


def tones(count: int, seed: int) -> LabelledExamples:
    """Log-mel examples with energy in the low bands (class 0), the high ones (1), both or none."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(count, 2, generator=generator) > 0.5
    mel = torch.rand(count, 1, 96, 64, generator=generator) * 0.01
    mel[:, :, :, 10:20] += 2.0 * labels[:, None, None, None, 0].float()
    mel[:, :, :, 40:50] += 2.0 * labels[:, None, None, None, 1].float()
    return LabelledExamples((mel + 0.01).log(), labels)


def test_reads_the_seconds_and_their_labels(datasets_env):
    records = load_records("demo_ms3_train")
    found = read_labelled_examples(records, num_classes=2)
    assert found.examples.shape == (5, 1, 96, 64) and found.labels.shape == (5, 2)
    # Classes in the order of the alphabet: cow, dog. See avsbench_trees.write_demo.
    assert found.labels.int().tolist() == [[0, 1], [0, 1], [1, 1], [1, 0], [0, 0]]
    expected = clip_log_mel(load_waveform(records[0]["audio_file"]), 5)
    assert torch.equal(found.examples, expected)
    # Worker processes change nothing.
    parallel = read_labelled_examples(records, num_classes=2, workers=1)
    assert torch.equal(parallel.examples, found.examples)


def test_data_that_does_not_tell_what_is_heard_is_refused(datasets_env):
    record = dict(load_records("demo_ms3_train")[0])
    del record["sound_labels"]
    with pytest.raises(ValueError, match="does not tell which classes are heard"):
        read_labelled_examples([record], num_classes=2)


class Unchanged(ExampleAugmentation):
    mix_probability = 0.0


def test_augmentation_keeps_shapes_and_makes_new_mixtures():
    data = tones(64, 0)
    torch.manual_seed(0)
    examples, labels = ExampleAugmentation()(data.examples, data.labels)
    assert examples.shape == data.examples.shape and labels.shape == data.labels.shape
    assert labels.dtype == torch.float32 and torch.isfinite(examples).all()
    assert examples.min() >= SILENCE - 1e-6
    # A mixture is heard as all of its parts: classes are added, never taken away.
    assert (labels.bool() >= data.labels).all()
    assert (labels.bool() != data.labels).any()
    torch.manual_seed(0)
    again, _ = ExampleAugmentation()(data.examples, data.labels)
    assert torch.equal(examples, again)
    assert not torch.equal(examples, ExampleAugmentation()(data.examples, data.labels)[0])
    # The input is left alone.
    assert torch.equal(data.examples, tones(64, 0).examples)


def test_without_mixing_the_labels_stay():
    data = tones(32, 0)
    _, labels = Unchanged()(data.examples, data.labels)
    assert torch.equal(labels.bool(), data.labels)


def test_shift_moves_time_round_and_bands_by_two_at_most():
    mel = torch.zeros(40, 96, 64)
    mel[:, 0, 30] = 1.0
    moved = ExampleAugmentation()._shift(mel)
    places = moved.nonzero()
    # Time is circular: nothing is lost. Bands repeat at the edge alone.
    assert len(places) == 40
    assert set((places[:, 2] - 30).tolist()) <= {-2, -1, 0, 1, 2}
    assert len(set(places[:, 1].tolist())) > 10


@pytest.mark.parametrize("axis", [1, 2])
def test_masks_hide_one_stretch(axis):
    values = torch.ones(50, 96, 64)
    hidden = ExampleAugmentation._mask(values, axis, longest=8) != 1
    other = 3 - axis
    # Whole rows or columns.
    assert torch.equal(hidden.any(other), hidden.all(other))
    widths = hidden.any(other).sum(1)
    assert widths.max() <= 8 and widths.max() > 0
    assert values.eq(1).all()
    masked = ExampleAugmentation._mask(values, axis, longest=8)
    assert torch.allclose(masked[masked != 1], torch.tensor(SILENCE))


def test_small_encoder_learns_to_tell_two_tones():
    torch.manual_seed(0)
    encoder = SmallVGGish()
    scores = pretrain_encoder(
        encoder, tones(200, 1), tones(60, 2), steps=25, batch_size=32, learning_rate=3e-3
    )
    assert scores["f1"] > 90
    assert set(scores) == {"loss", "precision", "recall", "f1", "map", "seconds"}
    assert not encoder.training


def test_head_learns_on_what_is_fixed_below_it():
    """Trunk features are computed once, in half precision; the trunk itself stays."""
    torch.manual_seed(0)
    encoder = YAMNet()
    for values in encoder.layers.parameters():
        if values.dim() == 4:
            nn.init.kaiming_normal_(values, nonlinearity="relu")
    before = {name: values.clone() for name, values in encoder.layers.state_dict().items()}
    train, validation = (
        collect_features(
            encoder, [(data.examples, data.labels)], vary=ExampleAugmentation() if vary else None
        )
        for data, vary in ((tones(200, 1), True), (tones(60, 2), False))
    )
    assert train.examples.dtype == torch.float16 and train.examples.shape == (200, 512, 6, 4)
    scores = pretrain_encoder(encoder, train, validation, steps=25, batch_size=32, on_features=True)
    assert scores["f1"] > 90 and scores["map"] > 90
    for name, values in encoder.layers.state_dict().items():
        assert torch.equal(values, before[name]), name


def test_same_seed_gives_the_same_encoder():
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        encoder = SmallVGGish()
        pretrain_encoder(encoder, tones(20, 1), tones(5, 2), steps=2, batch_size=8, seed=3)
        weights.append(encoder.embedding.weight)
    assert torch.equal(*weights)


def test_loss_that_is_not_finite_is_told():
    data = tones(8, 0)
    broken = LabelledExamples(torch.full_like(data.examples, float("nan")), data.labels)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        pretrain_encoder(SmallVGGish(), broken, data, steps=1, batch_size=4)


def test_scores_by_hand():
    # Predicted: 3 of 4 entries positive, 2 of them right; true: 3.
    logits = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    labels = torch.tensor([[True, False], [True, True]])

    class Echo(nn.Module):
        def forward(self, examples):
            return logits[: len(examples)]

    examples = LabelledExamples(torch.zeros(2, 1, 96, 64), labels)
    scores = classification_scores(Echo(), nn.Identity(), examples)
    # Of the second class the true example comes second: average precision 1/2.
    expected = {"precision": 200 / 3, "recall": 200 / 3, "f1": 200 / 3, "map": 75.0}
    assert scores == pytest.approx(expected, abs=0.01)
    nothing = LabelledExamples(examples.examples, torch.zeros(2, 2, dtype=torch.bool))
    logits = -torch.ones(2, 2)
    assert np.isfinite(list(classification_scores(Echo(), nn.Identity(), nothing).values())).all()
