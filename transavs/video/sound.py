"""Sound of a film as windows of the waveform that a front-end takes: mono, float32, at its rate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transavs.audio import SAMPLE_RATE_HZ
from transavs.audio.io import Mixdown
from transavs.audio.waveform import LOUDEST, as_waveform, filter_reach, resample_waveform
from transavs.video.clock import FilmClock
from transavs.video.decoding import SoundBlocks, read_clock

# So much of what was read stays at hand for windows that reach back.
_KEPT_SECONDS = 30


class Sound(ABC):
    """A sound that is read window by window.

    Attributes:
        name: for messages.
        is_silence: whether it is known to hold nothing.
        sample_rate_hz: of its windows.
    """

    name: str
    is_silence: bool = False
    sample_rate_hz: int = SAMPLE_RATE_HZ

    @abstractmethod
    def window(self, start: int, count: int) -> Tensor:
        """Returns float32 ``[count]``, digital silence before and behind the sound.

        Args:
            start: first sample, counted from the film's beginning; may be negative.
            count: of samples.
        """

    def at(self, sample_rate_hz: int) -> Sound:
        """Returns the same sound at another sample rate, or itself where it has that already.

        A class that reads files closes this reader and opens another.

        Raises:
            ValueError: the class has one rate alone.
        """
        if sample_rate_hz != self.sample_rate_hz:
            raise ValueError(
                f"{self.name} has {self.sample_rate_hz} Hz, but the audio encoder hears "
                f"{sample_rate_hz} Hz: give a WaveformSound or FileSound, which resample, or let "
                f"{type(self).__name__} override at()"
            )
        return self

    @abstractmethod
    def close(self) -> None:
        """Lets go of files."""


class WaveformSound(Sound):
    """A sound in memory.

    Args:
        waveform: float ``[L]`` in [-1, 1], mono, torch or NumPy; its first sample is heard at the
            film's beginning. An empty one is silence.
        sample_rate: its rate in Hz.
        name: for messages.
        sample_rate_hz: of the windows.
    """

    def __init__(
        self,
        waveform: Tensor | NDArray[np.floating],
        sample_rate: int = SAMPLE_RATE_HZ,
        name: str = "a waveform",
        sample_rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:
        self.name = name
        self.sample_rate_hz = sample_rate_hz
        # As it came: at another rate nothing is resampled twice.
        self._source = (as_waveform(waveform, name), sample_rate)
        self._waveform = resample_waveform(*self._source, sample_rate_hz).float()
        self.is_silence = not bool(self._waveform.any())

    @classmethod
    def silence(cls) -> WaveformSound:
        """Returns digital silence."""
        return cls(torch.zeros(0), name="silence")

    def at(self, sample_rate_hz: int) -> Sound:
        if sample_rate_hz == self.sample_rate_hz:
            return self
        return WaveformSound(*self._source, self.name, sample_rate_hz)

    def window(self, start: int, count: int) -> Tensor:
        window = torch.zeros(count)
        first, last = max(start, 0), min(start + count, len(self._waveform))
        if first < last:
            window[first - start : last - start] = self._waveform[first:last]
        return window

    def close(self) -> None:
        """Does nothing."""


class FileSound(Sound):
    """A track of a film or sound file, read as a stream: memory does not grow with its length.

    Channels are averaged and resampled as ``transavs.audio.load_waveform`` does it, and the samples
    are the same: blocks of a second pass the filter with their neighbours' edges. Where the
    timestamps leave a gap there is silence; what overlaps is dropped. When the sound ends, or is
    closed, a warning tells whether the channels of what was read cancel each other.

    Windows should move forward. One that lies more than 30 s before an earlier one is read from
    the beginning.

    Args:
        path: a file that FFmpeg reads.
        track: which of its tracks, from 1 on; None takes the first.
        clock: of the film that the track belongs to; None reads the file's own.
        sample_rate_hz: of the windows.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, no such track, or a sample rate that no recording has; while it
            is read, NaN or infinite samples of an uncompressed file, or integers that are stored
            as floats, see ``as_waveform``.
    """

    def __init__(
        self,
        path: Path,
        track: int | None = None,
        clock: FilmClock | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:
        self.name = str(path)
        self.sample_rate_hz = sample_rate_hz
        self._path, self._track, self._clock = path, track, clock or read_clock(path, "sound")
        self._open()

    def _open(self) -> None:
        self._blocks = SoundBlocks(self._path, self._track, self._clock)
        self._mixdown = Mixdown(self.name)
        self._stream = _at_rate(self._mono(), self._blocks.sample_rate, self.sample_rate_hz)
        self._kept = np.zeros(0, dtype=np.float32)
        self._kept_from = 0
        self._ended = False

    def window(self, start: int, count: int) -> Tensor:
        if max(start, 0) < self._kept_from:
            self.close()
            self._open()
        while not self._ended and self._kept_from + len(self._kept) < start + count:
            block = next(self._stream, None)
            if block is None:
                self._ended = True
                self._mixdown.tell()
                break
            surplus = min(start, self._kept_from + len(self._kept)) - self._kept_from
            surplus = max(0, min(surplus - _KEPT_SECONDS * self.sample_rate_hz, len(self._kept)))
            self._kept = np.concatenate([self._kept[surplus:], block])
            self._kept_from += surplus
        window = np.zeros(count, dtype=np.float32)
        first = max(start, self._kept_from)
        last = min(start + count, self._kept_from + len(self._kept))
        if first < last:
            window[first - start : last - start] = self._kept[
                first - self._kept_from : last - self._kept_from
            ]
        return torch.from_numpy(window)

    def _mono(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks:
            # Damaged packets of compressed sound decode to any numbers.
            block = block if self._blocks.is_raw else block.clip(-LOUDEST / 2, LOUDEST / 2)
            yield self._mixdown.mix(block.T)

    def at(self, sample_rate_hz: int) -> Sound:
        if sample_rate_hz == self.sample_rate_hz:
            return self
        self.close()
        return FileSound(self._path, self._track, self._clock, sample_rate_hz)

    def close(self) -> None:
        self._mixdown.tell()
        self._stream.close()
        self._blocks.close()


def _at_rate(
    blocks: Iterator[NDArray[np.float32]], rate: int, new_rate: int
) -> Generator[NDArray[np.float32], None, None]:
    """Yields mono blocks at a new rate that follow each other from the film's beginning."""
    # A whole number of input samples that is a whole number of output samples as well.
    step = rate // math.gcd(rate, new_rate)
    margin = step * math.ceil(filter_reach(rate, new_rate) / step)
    cut = margin * new_rate // rate
    # Silence before the beginning, so that all blocks are alike.
    pending = np.zeros(margin, dtype=np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        while len(pending) >= rate + 2 * margin:
            yield _resampled(pending[: rate + 2 * margin], rate, new_rate, cut)
            pending = pending[rate:]
    rest = len(pending) - margin
    if rest > 0:
        # The filter sees the same silence behind the end as it would with the whole waveform.
        padded = np.concatenate([pending, np.zeros(margin, dtype=np.float32)])
        yield _resampled(padded, rate, new_rate, cut)[: math.ceil(rest * new_rate / rate)]


def _resampled(
    samples: NDArray[np.float32], rate: int, new_rate: int, cut: int
) -> NDArray[np.float32]:
    waveform = torch.from_numpy(np.ascontiguousarray(samples))
    resampled = resample_waveform(waveform, rate, new_rate).numpy()
    # At least one sample of margin at a time, so that there is always something to cut.
    kept: NDArray[np.float32] = resampled[cut:-cut]
    return kept
