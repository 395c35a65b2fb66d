"""Log-mel examples of a clip from its sound file, with a memory of the clips read last."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import Tensor

from transavs.audio import SAMPLE_RATE_HZ, clip_log_mel, load_waveform, white_noise
from transavs.utils.safe_pickle import read_log_mel_pickle

# The examples of a clip of 5 s are 123 kB: at most 250 MB in each worker.
_REMEMBERED_CLIPS = 2048


def read_wav_examples(path: str, clip_seconds: int) -> Tensor:
    """Returns the log-mel examples float32 ``[T, 1, 96, 64]`` of a wav file.

    Examples are not augmented and cost half of a training sample's time, so a small data set's are
    kept in memory. A file that changes is read anew.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no finite, non-empty sound.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"no {path}; restore it from the data set's archive") from None
    # Cloned, so that whoever gets the tensor may write into it.
    return _wav_examples(path, status.st_mtime_ns, status.st_size, clip_seconds).clone()


def read_pickle_examples(path: str, clip_seconds: int) -> Tensor:
    """Returns the log-mel examples float32 ``[T, 1, 96, 64]`` of an official log-mel pickle.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds something else, or another number of seconds.
    """
    examples = read_log_mel_pickle(path)
    if len(examples) != clip_seconds:
        raise ValueError(
            f"{path}: expected {clip_seconds} log-mel examples, one a second, got {len(examples)}; "
            "set INPUT.AUDIO_SOURCE to 'wav' to compute them from the waveform"
        )
    return examples


def silent_examples(clip_seconds: int) -> Tensor:
    """Returns the log-mel examples float32 ``[T, 1, 96, 64]`` of digital silence."""
    return clip_log_mel(torch.zeros(clip_seconds * SAMPLE_RATE_HZ), clip_seconds)


def noise_examples(clip_seconds: int, seed: int) -> Tensor:
    """Returns the log-mel examples float32 ``[T, 1, 96, 64]`` of seeded white noise."""
    return clip_log_mel(white_noise(clip_seconds * SAMPLE_RATE_HZ, seed), clip_seconds)


@lru_cache(maxsize=_REMEMBERED_CLIPS)
def _wav_examples(path: str, modified: int, size: int, clip_seconds: int) -> Tensor:
    return clip_log_mel(load_waveform(path), clip_seconds)
