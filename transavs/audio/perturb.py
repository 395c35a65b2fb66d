"""Negative audio: what a model hears in the place of the true sound, waveform -> waveform.

All of it passes through the same front-end as true sound, or a model could tell the two apart by
their recipe. Nothing here draws from a global random state: the same seed gives the same sound.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from transavs.audio.waveform import as_waveform

DEFAULT_NOISE_PEAK = 0.5


def silence(waveform: Tensor | np.ndarray) -> Tensor:
    """Returns digital silence, float ``[L]``, as long as ``waveform`` (float ``[L]``)."""
    return torch.zeros_like(as_waveform(waveform))


def white_noise(length: int, seed: int, peak: float = DEFAULT_NOISE_PEAK) -> Tensor:
    """Returns uniform white noise.

    Args:
        length: L, in samples.
        seed: the same seed gives the same samples.
        peak: samples are uniform in [-peak, peak], 0 < peak <= 1.

    Returns:
        float32 ``[L]``.

    Raises:
        ValueError: negative length, or a peak outside (0, 1].
    """
    if length < 0:
        raise ValueError(f"expected a length of 0 samples or more, got {length}")
    if not 0 < peak <= 1:
        raise ValueError(f"expected a peak in (0, 1], got {peak}: use silence() for none")
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(length, generator=generator) - 1) * peak


def replace_with_white_noise(
    waveform: Tensor | np.ndarray, seed: int, peak: float = DEFAULT_NOISE_PEAK
) -> Tensor:
    """Returns white noise, float32 ``[L]``, as long as ``waveform`` (float ``[L]``)."""
    return white_noise(len(as_waveform(waveform)), seed, peak)


def add_white_noise(waveform: Tensor | np.ndarray, seed: int, signal_to_noise_db: float) -> Tensor:
    """Returns the waveform with white noise mixed in.

    Args:
        waveform: float ``[L]``.
        seed: seed of the noise.
        signal_to_noise_db: ten times the decimal logarithm of the ratio of mean powers; 0 is as
            loud as the sound itself.

    Returns:
        float ``[L]`` of the waveform's type; its peak may exceed 1. Digital silence has no power
        to compare with and comes back as it is.
    """
    samples = as_waveform(waveform)
    if len(samples) == 0:
        return samples
    noise = white_noise(len(samples), seed, peak=1.0).to(samples)
    gain = samples.square().mean() / noise.square().mean() * 10 ** (-signal_to_noise_db / 10)
    return samples + gain.sqrt() * noise
