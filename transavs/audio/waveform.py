"""The waveform that every function of this room takes: mono, float32, 16 kHz, in [-1, 1]."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE_HZ = 16_000

#: Full scale is 1; floats of loud recordings exceed it. What exceeds it by more than 18 dB holds
#: integers as floats (13 087 of 16 bits), which would be heard 90 dB too loud.
LOUDEST = 8.0
LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 1_000_000

# The filter is a sinc of 64 zero crossings on each side under a Kaiser window, with the parameters
# of resampy's "kaiser_best", through which AVSBench's script reads sounds: on the way to 16 kHz,
# what lies below 7.2 kHz passes, and what lies above 8 kHz is lowered by 70 dB and more.
_ZERO_CROSSINGS = 64
_ROLLOFF = 0.9475937167399596
_KAISER_BETA = 14.769656459379492
# Weights of all outputs until input and output meet again; 16 MB. Rates that share hardly a factor
# (22 254 Hz of old Macintosh files, 44 099 Hz) would need gigabytes.
_MOST_WEIGHTS = 1 << 21
# For those, places of the filter within a zero crossing, between which it is taken as straight:
# 5e-6 of the input, or -106 dB.
_PLACES = 512
# Numbers that are worked on at once, 8 MB.
_BLOCK_NUMBERS = 1 << 20


def as_waveform(waveform: Tensor | np.ndarray, source: str = "the waveform") -> Tensor:
    """Returns ``waveform`` as a float tensor without gradient after checking what it is.

    Args:
        waveform: ``[L]``, any float type, torch or NumPy, finite, within ±:data:`LOUDEST`. float64
            stays float64, so that nothing is lost before the front-end; half precision becomes
            float32.
        source: how error messages name it.

    Raises:
        ValueError: not one-dimensional, not floating point, with NaN or infinite samples, or far
            louder than full scale.
    """
    if isinstance(waveform, np.ndarray):
        # A copy: torch takes no foreign byte order, read-only memory or negative strides.
        waveform = waveform.astype(waveform.dtype.newbyteorder("="), order="C")
    tensor = torch.as_tensor(waveform).detach()
    if tensor.dim() != 1:
        raise ValueError(
            f"{source} must be mono with shape [L], got {list(tensor.shape)}: "
            "take the mean over the channels first"
        )
    if not tensor.is_floating_point():
        raise ValueError(
            f"{source} must hold floating point samples in [-1, 1], got {tensor.dtype}: "
            "divide 16-bit integers by 32768"
        )
    finite = torch.isfinite(tensor)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ValueError(
            f"{source} must be finite, but {int((~finite).sum())} of {len(tensor)} samples are NaN "
            f"or infinite, the first at index {first}: repair or re-export the recording"
        )
    check_peak(tensor, source)
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_peak(samples: Tensor | np.ndarray, source: str) -> None:
    """Raises ValueError if one of the samples (float, any shape) is beyond :data:`LOUDEST`."""
    peak = float(torch.as_tensor(samples).abs().max()) if math.prod(samples.shape) else 0.0
    if LOUDEST < peak < math.inf:
        raise ValueError(
            f"{source} must hold samples in [-1, 1], but one is {peak:g}: integers as floating "
            "point numbers, it seems. Divide those of 16 bits by 32768, in a file for example with "
            "`ffmpeg -i IN -af volume=1/32768 -c:a pcm_s16le OUT.wav`"
        )


def resample_waveform(waveform: Tensor, sample_rate: int, new_rate: int = SAMPLE_RATE_HZ) -> Tensor:
    """Returns the waveform at ``new_rate``, without what that cannot hold (windowed sinc).

    Equals ``torchaudio.functional.resample`` with ``lowpass_filter_width=64``,
    ``rolloff=0.9475937167399596``, ``resampling_method="sinc_interp_kaiser"`` and
    ``beta=14.769656459379492``, up to the rounding of float32; rates that share hardly a factor
    agree to 1e-5, in bounded memory.

    Args:
        waveform: float ``[L]``; beyond both ends it counts as silent.
        sample_rate: its rate in Hz, 1 000 to 1 000 000.
        new_rate: wanted, in Hz, likewise.

    Returns:
        ``[ceil(L * new_rate / sample_rate)]`` of the same type. The filter may overshoot the range
        of its input by a few percent at steep edges.

    Raises:
        ValueError: a rate outside of these bounds.
    """
    for rate in (sample_rate, new_rate):
        if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
            raise ValueError(
                f"the sample rate must lie between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ} Hz, "
                f"got {rate}"
            )
    if sample_rate == new_rate or len(waveform) == 0:
        return waveform
    common = math.gcd(sample_rate, new_rate)
    step, outputs = sample_rate // common, new_rate // common
    reach = filter_reach(sample_rate, new_rate)
    # Short steps are joined, so that neighbours share what a filter spans.
    joined = -(-2 * reach // step)
    step, outputs = step * joined, outputs * joined
    if outputs * (step + 2 * reach) <= _MOST_WEIGHTS:
        return _by_steps(waveform, step, outputs, reach)
    return _by_places(waveform, sample_rate, new_rate, reach)


def filter_reach(sample_rate: int, new_rate: int) -> int:
    """Returns how many input samples before, and behind, its own place an output depends on."""
    return math.ceil(_ZERO_CROSSINGS / _ROLLOFF * max(1.0, sample_rate / new_rate))


def _by_steps(waveform: Tensor, step: int, outputs: int, reach: int) -> Tensor:
    """Resamples ``step`` inputs to ``outputs`` at a time, all steps by the same weights."""
    length = -(-len(waveform) * outputs // step)
    steps = -(-length // outputs)
    weights = _step_weights(step, outputs, reach).to(waveform.device)
    behind = (steps - 1) * step + len(weights) - reach - len(waveform)
    windows = torch.nn.functional.pad(waveform, (reach, behind)).unfold(0, len(weights), step)
    parts = [
        (part.double() @ weights).to(waveform.dtype)
        for part in windows.split(max(1, _BLOCK_NUMBERS // len(weights)))
    ]
    return torch.cat(parts).reshape(-1)[:length]


def _by_places(waveform: Tensor, sample_rate: int, new_rate: int, reach: int) -> Tensor:
    """Resamples by the weights of the nearest two places of the filter, for each output."""
    length = -(-len(waveform) * new_rate // sample_rate)
    table = _place_weights(sample_rate, new_rate, reach).to(waveform.device)
    places, taps = len(table) - 1, table.shape[1]
    windows = torch.nn.functional.pad(waveform, (reach, reach + 1)).unfold(0, taps, 1)
    parts = []
    for numbers in torch.arange(length, device=waveform.device).split(_BLOCK_NUMBERS // taps):
        begin = numbers * sample_rate // new_rate
        place = (numbers * sample_rate % new_rate) * places
        low = place // new_rate
        share = (place % new_rate)[:, None].double() / new_rate
        weights = torch.lerp(table[low], table[low + 1], share)
        parts.append((windows[begin].double() * weights).sum(dim=1).to(waveform.dtype))
    return torch.cat(parts)


@functools.lru_cache(maxsize=4)
def _step_weights(step: int, outputs: int, reach: int) -> Tensor:
    """Returns float64 ``[reach + step + reach, outputs]``: input sample by output sample."""
    inputs = torch.arange(-reach, step + reach, dtype=torch.float64)
    wanted = torch.arange(outputs, dtype=torch.float64) * (step / outputs)
    return _filter(inputs[:, None] - wanted, min(1.0, outputs / step))


@functools.lru_cache(maxsize=4)
def _place_weights(sample_rate: int, new_rate: int, reach: int) -> Tensor:
    """Returns float64 ``[places + 1, 2 * reach + 2]`` for outputs between two input samples."""
    bandwidth = min(1.0, new_rate / sample_rate)
    places = torch.linspace(0, 1, math.ceil(_PLACES * bandwidth) + 1, dtype=torch.float64)
    return _filter(torch.arange(-reach, reach + 2) - places[:, None], bandwidth)


def _filter(distance: Tensor, bandwidth: float) -> Tensor:
    """Returns the low-pass filter at distances in input samples.

    Args:
        distance: float64, any shape.
        bandwidth: what is kept, as a share of what the input can hold, in (0, 1].
    """
    cutoff = _ROLLOFF * bandwidth
    crossings = (distance * cutoff).clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    beta = torch.tensor(_KAISER_BETA, dtype=torch.float64)
    window = torch.i0(beta * (1 - (crossings / _ZERO_CROSSINGS).square()).sqrt()) / torch.i0(beta)
    # Behind its last crossing it is nothing at all, so that digital silence stays that.
    return cutoff * torch.sinc(crossings) * window * (crossings.abs() < _ZERO_CROSSINGS)
