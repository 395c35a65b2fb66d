"""VGGish's log-mel front-end as a graph: whole batches, any number of seconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transavs.audio.log_mel import (
    EXAMPLE_WINDOWS,
    FFT_SAMPLES,
    HOP_SAMPLES,
    LOG_OFFSET,
    WINDOW_SAMPLES,
    mel_matrix,
    samples_of_examples,
)

_HOPS_OF_WINDOW = -(-WINDOW_SAMPLES // HOP_SAMPLES)


class GraphLogMel(nn.Module):
    """``transavs.audio.log_mel.clip_log_mel`` on a batch of waveforms, without Python's checks.

    The spectra are a product with a fixed matrix of cosines and sines, in float64 as there: ONNX
    has no complex numbers, and its Fourier transform knows no windows that overlap.
    """

    def __init__(self) -> None:
        super().__init__()
        bins = FFT_SAMPLES // 2 + 1
        window = torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64)
        steps = torch.arange(WINDOW_SAMPLES)[:, None] * torch.arange(bins)[None]
        angles = (steps % FFT_SAMPLES) * (2 * torch.pi / FFT_SAMPLES)
        angles = angles.double()
        self.register_buffer("cosines", window[:, None] * angles.cos(), persistent=False)
        self.register_buffer("sines", window[:, None] * angles.sin(), persistent=False)
        self.register_buffer("mel", mel_matrix().clone(), persistent=False)

    cosines: Tensor
    sines: Tensor
    mel: Tensor

    def forward(self, waveform: Tensor, seconds: int) -> Tensor:
        """Returns examples float32 ``[B, T, 1, 96, 64]``.

        Args:
            waveform: float32 ``[B, L]`` at 16 kHz; cut, or filled up with silence, at its end.
            seconds: T.
        """
        needed = samples_of_examples(1) + (seconds - 1) * EXAMPLE_WINDOWS * HOP_SAMPLES
        # A window of 400 samples lies within three hops of 160.
        windows = EXAMPLE_WINDOWS * seconds
        hops = windows + _HOPS_OF_WINDOW - 1
        silence = waveform.new_zeros((waveform.shape[0], hops * HOP_SAMPLES))
        # First what is heard, cut where the last window ends, then silence up to whole hops.
        heard = torch.cat((waveform, silence), 1)[:, :needed]
        samples = torch.cat((heard, silence), 1)[:, : hops * HOP_SAMPLES].double()
        parts = samples.unflatten(1, (hops, HOP_SAMPLES))
        framed = torch.cat([parts[:, i : i + windows] for i in range(_HOPS_OF_WINDOW)], dim=2)
        framed = framed[..., :WINDOW_SAMPLES]
        real, imaginary = framed @ self.cosines, framed @ self.sines
        spectrum = (real * real + imaginary * imaginary).sqrt()
        log_mel = torch.log(spectrum @ self.mel + LOG_OFFSET).float()
        return log_mel.unflatten(1, (seconds, EXAMPLE_WINDOWS)).unsqueeze(2)
