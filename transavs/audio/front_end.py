"""Front-ends: what stands between a sound and an audio encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from transavs.audio.log_mel import (
    EXAMPLE_WINDOWS,
    MEL_BANDS,
    SILENCE_LOG_MEL,
    check_examples,
    clip_log_mel,
    samples_of_examples,
)
from transavs.audio.waveform import SAMPLE_RATE_HZ


class FrontEnd(ABC):
    """Turns the waveform of a clip into examples, one a second, that its encoder embeds.

    True and false sound (silence, noise, another clip's) pass through the same one, so that no
    model can tell them by their recipe. A front-end has no weights and no state; it runs in the
    workers that read data.

    Attributes:
        version: names what it computes; it must change whenever the numbers do, those of
            ``resample_waveform`` too, because precomputed embeddings are kept under it.
        sample_rate_hz: of the waveforms that it is given.
        example_shape: of one example.
        value_range: of an example, from digital silence to loud sound, for pictures.
        example_samples: of the waveform that one example hears; a second unless a front-end says
            otherwise.
        hop_samples: from the beginning of one example to that of the next; likewise.
        hop_windows: how many of an example's time windows pass until the next one begins, for
            pictures; the length of its time axis unless a front-end says otherwise.
    """

    version: str
    sample_rate_hz: int
    example_shape: tuple[int, ...]
    value_range: tuple[float, float]

    @property
    def example_samples(self) -> int:
        return self.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        return self.sample_rate_hz

    @property
    def hop_windows(self) -> int:
        return self.example_shape[-2]

    def samples_of(self, count: int) -> int:
        """Returns how many samples the first ``count`` (>= 1) examples of a sound hear."""
        return (count - 1) * self.hop_samples + self.example_samples

    @abstractmethod
    def clip_examples(self, waveform: Tensor | np.ndarray, clip_seconds: int) -> Tensor:
        """Returns float32 ``[T, *example_shape]``.

        Args:
            waveform: float ``[L]`` at ``sample_rate_hz``, L >= 1; what lies behind the clip is cut,
                what is missing is silence.
            clip_seconds: T, at least 1.

        Raises:
            ValueError: not a finite mono float waveform, an empty one, or ``clip_seconds`` below 1.
        """

    def check(self, examples: Tensor) -> None:
        """Raises ValueError unless ``examples`` is a float tensor ``[S, *example_shape]``."""
        if tuple(examples.shape[1:]) != self.example_shape or not examples.is_floating_point():
            raise ValueError(
                f"examples of {self.version} must be floating point of shape "
                f"[S, {', '.join(map(str, self.example_shape))}], got {examples.dtype} "
                f"{list(examples.shape)}: make them with the encoder's own front-end"
            )


class VGGishLogMel(FrontEnd):
    """AudioSet's VGGish recipe, ``transavs.audio.log_mel``: examples ``[1, 96, 64]``."""

    version = "vggish log-mel 2"
    sample_rate_hz = SAMPLE_RATE_HZ
    example_shape = (1, EXAMPLE_WINDOWS, MEL_BANDS)
    value_range = (SILENCE_LOG_MEL, 3.0)
    example_samples = samples_of_examples(1)
    hop_samples = samples_of_examples(2) - samples_of_examples(1)

    def clip_examples(self, waveform: Tensor | np.ndarray, clip_seconds: int) -> Tensor:
        return clip_log_mel(waveform, clip_seconds)

    def check(self, examples: Tensor) -> None:
        check_examples(examples)


VGGISH_LOG_MEL = VGGishLogMel()
