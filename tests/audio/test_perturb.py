"""Negative audio."""

import numpy as np
import pytest
import torch

from transavs.audio import add_white_noise, replace_with_white_noise, silence, white_noise


def tone():
    return 0.3 * torch.sin(torch.arange(16_000) * 0.4)


def test_silence_is_zero_and_as_long():
    assert torch.equal(silence(tone()), torch.zeros(16_000))
    assert torch.equal(silence(np.ones(7, dtype=np.float32)), torch.zeros(7))


def test_noise_is_seeded_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(white_noise(1000, seed=3), white_noise(1000, seed=3))
    assert not torch.equal(white_noise(1000, seed=3), white_noise(1000, seed=4))
    assert torch.equal(torch.rand(3), expected)


def test_noise_is_uniform_and_white():
    """Uniform in [-p, p]: mean 0, power p^2 / 3; white: neighbours are uncorrelated."""
    samples = white_noise(100_000, seed=0, peak=0.8).double()
    assert samples.shape == (100_000,) and samples.abs().max() <= 0.8
    assert samples.abs().max() > 0.79 and abs(samples.mean()) < 0.01
    power = samples.square().mean()
    assert power == pytest.approx(0.64 / 3, rel=0.01)
    assert abs((samples[1:] * samples[:-1]).mean()) < 0.01 * power


def test_replacing_keeps_the_length():
    assert torch.equal(replace_with_white_noise(tone(), seed=1), white_noise(16_000, seed=1))


@pytest.mark.parametrize("decibel", [-10.0, 0.0, 20.0])
def test_added_noise_has_the_power_asked_for(decibel):
    mixture = add_white_noise(tone(), seed=0, signal_to_noise_db=decibel)
    noise_power = (mixture - tone()).double().square().mean()
    ratio = tone().double().square().mean() / noise_power
    assert 10 * torch.log10(ratio) == pytest.approx(decibel, abs=1e-3)


def test_noise_is_not_added_to_nothing():
    assert torch.equal(add_white_noise(torch.zeros(100), 0, 0.0), torch.zeros(100))
    assert len(add_white_noise(torch.zeros(0), 0, 0.0)) == 0


@pytest.mark.parametrize(("length", "peak"), [(-1, 0.5), (10, 0.0), (10, 1.5), (10, float("nan"))])
def test_impossible_noise_is_refused(length, peak):
    with pytest.raises(ValueError, match="expected a"):
        white_noise(length, seed=0, peak=peak)


def test_only_waveforms_are_perturbed():
    for function in (silence, lambda w: replace_with_white_noise(w, 0)):
        with pytest.raises(ValueError, match="mono"):
            function(torch.zeros(2, 10))
