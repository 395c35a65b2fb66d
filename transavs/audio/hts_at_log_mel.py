"""The front-end of HTS-AT and of CLAP: decibels of 64 mel bands of each second.

As torchlibrosa computes it with the settings of HTS-AT (arXiv 2202.00874) and LAION-CLAP
(arXiv 2211.06687): periodic Hann windows of 1024 samples every 10 ms, centred, reflected at both
ends; power spectra; triangles of Slaney's mel scale, each of the same area; 10 log10.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torchaudio
from torch import Tensor

from transavs.audio.front_end import FrontEnd
from transavs.audio.waveform import as_waveform

WINDOW_SAMPLES = 1024
MEL_BANDS = 64
MIN_MEL_HZ = 50.0
MAX_MEL_HZ = 14000.0
SMALLEST_POWER = 1e-10
HOPS_A_SECOND = 100
# Windows stand on both ends of the second.
WINDOWS = HOPS_A_SECOND + 1


class HTSATLogMel(FrontEnd):
    """One example for each second: ``[1, 101, 64]`` (channel, time window, mel band), in dB.

    Args:
        sample_rate_hz: 32 000 for HTS-AT trained on AudioSet, 48 000 for CLAP.
    """

    example_shape = (1, WINDOWS, MEL_BANDS)
    value_range = (-100.0, 30.0)
    hop_windows = HOPS_A_SECOND

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.version = f"hts-at log-mel {sample_rate_hz} Hz 2"

    def clip_examples(self, waveform: Tensor | np.ndarray, clip_seconds: int) -> Tensor:
        if clip_seconds < 1:
            raise ValueError(f"a clip lasts at least 1 second, got clip_seconds = {clip_seconds}")
        samples = as_waveform(waveform).double()
        if len(samples) == 0:
            raise ValueError(
                "expected a waveform with at least one sample, got none: "
                "pass zeros where a silent clip is meant"
            )
        needed = clip_seconds * self.sample_rate_hz
        samples = torch.nn.functional.pad(samples[:needed], (0, max(0, needed - len(samples))))
        seconds = samples.view(clip_seconds, self.sample_rate_hz)
        window = torch.hann_window(WINDOW_SAMPLES, dtype=torch.float64, device=samples.device)
        spectrum = torch.stft(
            seconds,
            WINDOW_SAMPLES,
            self.sample_rate_hz // HOPS_A_SECOND,
            window=window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.abs().square().transpose(1, 2)  # [T, 101, 513]
        mel = power @ mel_matrix(self.sample_rate_hz).to(power)
        return (10 * mel.clamp(min=SMALLEST_POWER).log10()).float()[:, None]


@functools.cache
def mel_matrix(sample_rate_hz: int) -> Tensor:
    """Returns the float32 matrix ``[513, 64]`` from power spectra to mel bands."""
    return torchaudio.functional.melscale_fbanks(
        WINDOW_SAMPLES // 2 + 1,
        MIN_MEL_HZ,
        MAX_MEL_HZ,
        MEL_BANDS,
        sample_rate_hz,
        norm="slaney",
        mel_scale="slaney",
    )
