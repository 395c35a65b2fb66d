"""The log-mel front-end of VGGish, which encoders have that bring none of their own.

Follows the front-end that AVSBench and its successors use (AudioSet's VGGish recipe): magnitude
spectra of 25 ms windows every 10 ms, 64 triangular mel bands, natural log, patches of 96 windows.
An **example** is such a patch. Examples lie 0.96 s apart while frames lie 1 s apart: example k of a
clip starts at 0.96 k s, so that the fifth one spans 3.84 to 4.815 s. AVSBench pairs example k with
frame k all the same, and so do we.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from transavs.audio.waveform import SAMPLE_RATE_HZ, as_waveform, resample_waveform

WINDOW_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512  # the windowed samples are zero-padded at their end
MEL_BANDS = 64
MIN_MEL_HZ = 125.0
MAX_MEL_HZ = 7500.0
LOG_OFFSET = 0.01
EXAMPLE_WINDOWS = 96
EXAMPLE_SECONDS = 0.96  # from the start of one example to the start of the next
# Every value of an example made of digital silence.
SILENCE_LOG_MEL = math.log(LOG_OFFSET)


def samples_of_examples(count: int) -> int:
    """Returns how many samples at 16 kHz the first ``count`` (>= 1) examples span.

    The last window of the last example reaches 15 ms beyond its hop:
    ``15360 * count + 240``, that is 15 600 for one example and 77 040 for five.
    """
    windows = EXAMPLE_WINDOWS * count
    return (windows - 1) * HOP_SAMPLES + WINDOW_SAMPLES


def log_mel_examples(waveform: Tensor | np.ndarray, sample_rate: int = SAMPLE_RATE_HZ) -> Tensor:
    """Returns all complete log-mel examples of a waveform.

    Args:
        waveform: float ``[L]`` in [-1, 1], torch or NumPy.
        sample_rate: its rate in Hz; resampled when it is not 16 000.

    Returns:
        float32 ``[S, 1, 96, 64]`` (example, channel, time window, mel band) on the waveform's
        device, with values from ln 0.01 = -4.605 (silence) to about 5. An incomplete tail is
        dropped: S is 0 below 15 600 samples (0.975 s), 5 from 77 040 (4.815 s) on.

    Raises:
        ValueError: not a finite mono float waveform, or an impossible rate.
    """
    # Through float64: a loud tone is 10^4 times the log offset, so that float32's rounding of the
    # spectrum moves the quiet bands beside it by up to 6e-4. A clip of 5 s costs 4 ms either way.
    samples = resample_waveform(as_waveform(waveform), sample_rate).double()
    count = max(0, (len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1) // EXAMPLE_WINDOWS
    if count == 0:
        return torch.zeros((0, 1, EXAMPLE_WINDOWS, MEL_BANDS), device=samples.device)
    windows = samples[: samples_of_examples(count)].unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)
    # Periodic Hann: 0.5 - 0.5 cos(2 pi n / 400), the window that tiles evenly.
    hann = torch.hann_window(
        WINDOW_SAMPLES, periodic=True, dtype=samples.dtype, device=samples.device
    )
    spectrum = torch.fft.rfft(windows * hann, n=FFT_SAMPLES).abs()  # [96 S, 257]
    mel = spectrum @ mel_matrix().to(samples.device)
    log_mel = torch.log(mel + LOG_OFFSET).float()
    return log_mel.reshape(count, 1, EXAMPLE_WINDOWS, MEL_BANDS)


def clip_log_mel(
    waveform: Tensor | np.ndarray, clip_seconds: int, sample_rate: int = SAMPLE_RATE_HZ
) -> Tensor:
    """Returns exactly one log-mel example for every second of a clip.

    The rule: at 16 kHz the waveform is cut at its end, or padded there with digital silence, to
    the ``15360 * T + 240`` samples that T examples span. A recording of T seconds or longer thus
    gives its first T examples, as AVSBench's script does for T = 5; one that stops early is
    silent from there on, which is what a listener would hear. (AVSBench repeats the last complete
    example instead; ``fit_examples`` does so.)

    Args:
        waveform: float ``[L]``, L >= 1.
        clip_seconds: T, seconds (and frames) of the clip, at least 1.
        sample_rate: rate of the waveform in Hz.

    Returns:
        float32 ``[T, 1, 96, 64]``.

    Raises:
        ValueError: not a finite mono float waveform, an empty one, or ``clip_seconds`` below 1.
    """
    if clip_seconds < 1:
        raise ValueError(f"a clip lasts at least 1 second, got clip_seconds = {clip_seconds}")
    samples = resample_waveform(as_waveform(waveform), sample_rate)
    if len(samples) == 0:
        raise ValueError(
            "expected a waveform with at least one sample, got none: "
            "pass zeros where a silent clip is meant"
        )
    needed = samples_of_examples(clip_seconds)
    samples = torch.nn.functional.pad(samples[:needed], (0, max(0, needed - len(samples))))
    return log_mel_examples(samples)


def fit_examples(examples: Tensor, count: int) -> Tensor:
    """Returns exactly ``count`` examples: the last one repeated when short, cut when long.

    Repeating is the rule of AVSBench's own script for S4 and MS3, meant here for its pickles of
    another length. Use ``clip_log_mel`` where the waveform is at hand.

    Args:
        examples: ``[S, 1, 96, 64]``, S >= 1.
        count: examples wanted, at least 1.

    Returns:
        ``[count, 1, 96, 64]``.

    Raises:
        ValueError: another shape, no example at all, or ``count`` below 1.
    """
    check_examples(examples)
    if count < 1:
        raise ValueError(f"expected a count of at least 1, got {count}")
    if len(examples) == 0:
        raise ValueError("cannot repeat the last of 0 examples: use clip_log_mel on the waveform")
    missing = max(0, count - len(examples))
    return torch.cat([examples[:count], examples[-1:].expand(missing, -1, -1, -1)])


def check_examples(examples: Tensor) -> None:
    """Raises ValueError unless ``examples`` is a float tensor ``[S, 1, 96, 64]``."""
    if examples.dim() != 4 or examples.shape[1:] != (1, EXAMPLE_WINDOWS, MEL_BANDS):
        raise ValueError(
            f"log-mel examples must have shape [S, 1, {EXAMPLE_WINDOWS}, {MEL_BANDS}], got "
            f"{list(examples.shape)}: flatten clips and seconds into S and make them with "
            "log_mel_examples or clip_log_mel"
        )
    if not examples.is_floating_point():
        raise ValueError(f"log-mel examples must be floating point, got {examples.dtype}")


@functools.cache
def mel_matrix() -> Tensor:
    """Returns the float64 matrix ``[257, 64]`` from magnitude spectra to mel bands.

    Band b is a triangle from edge b over edge b + 1 (height 1) to edge b + 2, for 66 edges evenly
    spaced in mel, ``1127 ln(1 + f / 700)``, from 125 to 7500 Hz. The triangles are straight in mel,
    not in Hz, which sets this bank apart from torchaudio's and librosa's. The constant part (0 Hz)
    lies below the first edge and counts nowhere.
    """
    bins_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    bins = _hz_to_mel(bins_hz)[:, None]
    low, high = _hz_to_mel(torch.tensor([MIN_MEL_HZ, MAX_MEL_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, MEL_BANDS + 2, dtype=torch.float64)
    start, centre, end = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - start) / (centre - start)
    falling = (end - bins) / (end - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def _hz_to_mel(frequency_hz: Tensor) -> Tensor:
    return 1127 * torch.log1p(frequency_hz / 700)
