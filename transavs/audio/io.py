"""Sound files in and out: any rate, sample type and number of channels -> one waveform."""

from __future__ import annotations

import functools
import logging
import os
import struct
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from transavs.audio.waveform import SAMPLE_RATE_HZ, as_waveform, resample_waveform

logger = logging.getLogger(__name__)

INT16_SCALE = 32768
# Power of a sum of channels, relative to the sum of their powers: 1 where they are independent, as
# many as there are channels where they are equal. Below this they are each other's inverse.
_CANCELLED_SHARE = 0.01
# Programs that write to a pipe cannot know the length and declare about 2 or 4 GiB instead.
UNKNOWN_LENGTH_BYTES = 0x7FFF_0000
# Samples read at once.
_BLOCK_SAMPLES = 1 << 20
#: Of all channels of a file, a gigabyte as float32: a small compressed file can hold hours of
#: silence, or promise days that are not there. 93 minutes of mono at 48 kHz.
MOST_SAMPLES = 1 << 28


def load_waveform(path: str | os.PathLike[str], sample_rate_hz: int = SAMPLE_RATE_HZ) -> Tensor:
    """Returns the sound of a file as mono, at 16 kHz unless asked for another rate.

    Channels are averaged before resampling, as AVSBench's own reader does.

    Args:
        path: a wav file (8, 16, 24 or 32 bit, float or double, plain or extensible header), or
            anything else that libsndfile reads (FLAC, Ogg Vorbis, ...).
        sample_rate_hz: of the result.

    Returns:
        float32 ``[L]``, L >= 1. Integer samples are divided by their full scale (32768 for 16 bit)
        and lie in [-1, 1]. Samples of float files are kept as they are, above 1.0 too: scaling
        one loud file would make it quieter than its neighbours. A warning names a file whose
        channels cancel each other.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, empty, cut short, longer than :data:`MOST_SAMPLES`, with NaN or
            infinite samples, or with integers as floats, see ``as_waveform``.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no sound file at {path}: check the path or fetch the data again")
    if not path.is_file():
        raise ValueError(f"expected a sound file, but {path} is not a file")
    _check_declared_length(path)
    try:
        samples, sample_rate = _read_mono(path)
    except (soundfile.SoundFileError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"cannot read {path} as sound ({error}): expected a wav file; "
            "convert it, for example with `ffmpeg -i IN -ar 16000 OUT.wav`"
        ) from error
    if len(samples) == 0:
        raise ValueError(f"{path} holds no samples: fetch or export the recording again")
    mono = torch.from_numpy(samples)
    try:
        return resample_waveform(mono, sample_rate, sample_rate_hz).contiguous()
    except ValueError as error:
        raise ValueError(f"cannot resample {path}: {error}") from error


def _read_mono(path: Path) -> tuple[np.ndarray, int]:
    """Returns the mean of the channels float32 ``[L]``, L >= 0, and the rate in Hz."""
    with soundfile.SoundFile(path) as file:
        promised = file.frames * file.channels
        if promised > MOST_SAMPLES:
            raise ValueError(
                f"{path} announces {promised} samples, more than the {MOST_SAMPLES} that are "
                "read at once: cut it"
            )
        blocks = [np.zeros(0, np.float32)]
        size = max(1, _BLOCK_SAMPLES // file.channels)
        mixdown = Mixdown(str(path))
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            blocks.append(mixdown.mix(block))
        mixdown.tell()
        return np.concatenate(blocks), file.samplerate


class Mixdown:
    """Averages the channels of a sound block by block, and tells whether they cancel each other.

    Args:
        name: of the sound, for the warning and for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._apart = self._mixed = 0.0
        self._read = 0

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """Mixes float32 ``[L, channels]`` to float32 ``[L]``, in float64.

        NumPy's mean over so short an axis takes ten times as long, a millisecond for 5 s of stereo.

        Raises:
            ValueError: a channel with NaN or infinite samples, or with integers as floats, which
                the mean or a filter may hide.
        """
        channels = samples.shape[1]
        source = f"{self._name}, from sample {self._read} on," if self._read else self._name
        for channel in range(channels):
            as_waveform(torch.from_numpy(samples[:, channel]), source)
        self._read += len(samples)
        total = samples[:, 0].astype(np.float64)
        if channels > 1:
            self._apart += float(total @ total)
            for channel in range(1, channels):
                column = samples[:, channel].astype(np.float64)
                self._apart += float(column @ column)
                total += column
            self._mixed += float(total @ total)
        return (total / channels).astype(np.float32)

    def tell(self) -> None:
        """Warns, once for each name, if the mix so far has lost 20 dB and more."""
        if self._mixed < _CANCELLED_SHARE * self._apart:
            _warn_of_cancelling(self._name)


@functools.lru_cache(maxsize=1024)
def _warn_of_cancelling(name: str) -> None:
    logger.warning(
        "%s: its channels cancel each other, so that their mean, which the model hears, is almost "
        "silent; take one of them, for example with `ffmpeg -i IN -af 'pan=mono|c0=c0' OUT.wav`",
        name,
    )


def save_waveform(
    path: str | os.PathLike[str],
    waveform: Tensor | np.ndarray,
    sample_rate: int = SAMPLE_RATE_HZ,
) -> None:
    """Writes a mono 16-bit wav file; nobody ever sees half of it under the final name.

    Args:
        path: where to write; an existing file is replaced, the folder must exist.
        waveform: float ``[L]``, L >= 1. Louder than full scale, the whole clip is scaled down to a
            peak of 1.0 rather than clipped.
        sample_rate: in Hz.

    Raises:
        ValueError: not a waveform, or empty.
    """
    path = Path(path)
    samples = as_waveform(waveform).cpu().double()
    if len(samples) == 0:
        raise ValueError(f"expected at least one sample to write to {path}, got none")
    peak = float(samples.abs().max())
    if peak > 1.0:
        samples = samples / peak
    # 1.0 itself has no 16-bit code: the loudest positive one is 32767 / 32768.
    codes = (samples * INT16_SCALE).round().clamp(-INT16_SCALE, INT16_SCALE - 1)
    # The writer's process id keeps two processes that compose the same clip apart.
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        soundfile.write(
            partial, codes.to(torch.int16).numpy(), sample_rate, format="WAV", subtype="PCM_16"
        )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_declared_length(path: Path) -> None:
    """Raises ValueError for a wav file that ends before its header says so.

    libsndfile silently returns what is there, and a clip of half a second would pass as a short
    recording.
    """
    lengths = declared_and_present(path)
    if lengths is not None and lengths[1] < lengths[0]:
        raise ValueError(
            f"{path} is cut short: its header announces {lengths[0]} bytes of sound, "
            f"{lengths[1]} are there; fetch or export it again"
        )


def declared_and_present(path: Path) -> tuple[int, int] | None:
    """Returns how many bytes of sound a wav file announces, and how many are behind its header.

    None for other containers, and for headers that declare an unknown length (0 or about 2 or
    4 GiB, of programs that write to a pipe) or no sound at all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name != b"data":
                file.seek(length + length % 2, os.SEEK_CUR)  # chunks are padded to even lengths
                continue
            known = 0 < length < UNKNOWN_LENGTH_BYTES
            return (length, size - file.tell()) if known else None
    return None
