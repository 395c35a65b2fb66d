"""The light encoder: size, gradients, batch norm, and that it learns."""

import math

import pytest
import torch

from transavs.audio import SILENCE_LOG_MEL, SmallVGGish, clip_log_mel, white_noise


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SmallVGGish()


def random_examples(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SILENCE_LOG_MEL + 9 * torch.rand(count, 1, 96, 64, generator=generator)


def test_size_and_output(encoder):
    assert 0.9e6 < sum(tensor.numel() for tensor in encoder.parameters()) < 1.1e6
    assert encoder(random_examples(3)).shape == (3, encoder.embedding_dim) == (3, 128)
    assert encoder(random_examples(0)).shape == (0, 128)


def test_every_parameter_gets_a_gradient(encoder):
    encoder(random_examples(4)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_batch_equals_its_examples_alone_in_evaluation(encoder):
    encoder(random_examples(8))  # moves the running statistics away from their start
    encoder.eval()
    examples = random_examples(3, seed=1)
    alone = torch.cat([encoder(example[None]) for example in examples])
    torch.testing.assert_close(encoder(examples), alone, atol=1e-5, rtol=1e-5)


def test_pooling_over_time_leaves_frequency_apart(encoder):
    """A band that sounds at another time hardly matters; another band that sounds does."""
    encoder.eval()
    silent = torch.full((1, 1, 96, 64), SILENCE_LOG_MEL)
    early, late, high = silent.clone(), silent.clone(), silent.clone()
    early[..., 24:32, 8:16] = 3.0
    late[..., 56:64, 8:16] = 3.0
    high[..., 24:32, 40:48] = 3.0
    early, late, high = encoder(early), encoder(late), encoder(high)
    torch.testing.assert_close(early, late, atol=1e-4, rtol=1e-3)
    assert (early - high).norm() > 100 * (early - late).norm()


def test_learns_to_tell_tones_from_noise(encoder):
    samples = torch.arange(80_000) / 16_000
    tones = [0.5 * torch.sin(2 * math.pi * hertz * samples) for hertz in (300, 900)]
    clips = tones + [white_noise(80_000, seed) for seed in (0, 1)]
    examples = torch.cat([clip_log_mel(clip, 5) for clip in clips])
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat_interleave(5)
    head = torch.nn.Linear(encoder.embedding_dim, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    losses = []
    for _ in range(10):
        loss = criterion(head(encoder(examples)).squeeze(1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
