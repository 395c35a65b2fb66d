"""The waveform that every function of this room takes: mono, float32, 16 kHz, in [-1, 1]."""

from __future__ import annotations

import math

import numpy as np
import torch
import torchaudio
from torch import Tensor

SAMPLE_RATE_HZ = 16_000

# The polyphase kernel of torchaudio holds (new / gcd) * (old / gcd + taps) floats. For rates that
# share hardly a factor with 16 kHz (22 254 Hz of old Macintosh files) this is gigabytes; the rate
# is then read as the nearest multiple of ROUNDED_RATE_HZ: 4 Hz in 22 254 shift a 5 s clip by 1 ms.
LARGEST_KERNEL = 16_000_000
ROUNDED_RATE_HZ = 50
LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 1_000_000


def as_waveform(waveform: Tensor | np.ndarray, source: str = "the waveform") -> Tensor:
    """Returns ``waveform`` as a float tensor without gradient after checking what it is.

    Args:
        waveform: ``[L]``, any float type, torch or NumPy, finite. float64 stays float64, so that
            nothing is lost before the front-end; half precision becomes float32.
        source: how error messages name it.

    Raises:
        ValueError: not one-dimensional, not floating point, or with NaN or infinite samples.
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
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def resample_waveform(waveform: Tensor, sample_rate: int, new_rate: int = SAMPLE_RATE_HZ) -> Tensor:
    """Returns the waveform at ``new_rate`` (windowed-sinc interpolation of torchaudio).

    Args:
        waveform: float ``[L]``.
        sample_rate: its rate in Hz, 1 000 to 1 000 000.
        new_rate: wanted, in Hz.

    Returns:
        float ``[ceil(L * new_rate / sample_rate)]``. The filter may overshoot the range of its
        input by a few percent at steep edges.
    """
    if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
        raise ValueError(
            f"the sample rate must lie between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ} Hz, "
            f"got {sample_rate}"
        )
    if sample_rate == new_rate or len(waveform) == 0:
        return waveform
    common = math.gcd(sample_rate, new_rate)
    if (new_rate // common) * (sample_rate // common) > LARGEST_KERNEL:
        sample_rate = round(sample_rate / ROUNDED_RATE_HZ) * ROUNDED_RATE_HZ
    return torchaudio.functional.resample(waveform, sample_rate, new_rate)
