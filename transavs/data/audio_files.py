"""Examples of a clip for the audio encoder, with a memory of the sound files read last."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import Tensor

from transavs.audio import VGGISH_LOG_MEL, FrontEnd, load_waveform, white_noise
from transavs.pretrained.restricted_pickle import read_log_mel_pickle

# The examples of a clip of 5 s are 123 kB: at most 250 MB in each worker.
_REMEMBERED_CLIPS = 2048


def read_wav_examples(path: str, clip_seconds: int, front_end: FrontEnd = VGGISH_LOG_MEL) -> Tensor:
    """Returns the front-end's examples float32 ``[T, *example_shape]`` of a wav file.

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
    return _wav_examples(path, status.st_mtime_ns, status.st_size, clip_seconds, front_end).clone()


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


def silent_examples(clip_seconds: int, front_end: FrontEnd = VGGISH_LOG_MEL) -> Tensor:
    """Returns the front-end's examples float32 ``[T, *example_shape]`` of digital silence."""
    return front_end.clip_examples(
        torch.zeros(clip_seconds * front_end.sample_rate_hz), clip_seconds
    )


def noise_examples(clip_seconds: int, seed: int, front_end: FrontEnd = VGGISH_LOG_MEL) -> Tensor:
    """Returns the front-end's examples float32 ``[T, *example_shape]`` of seeded white noise."""
    samples = clip_seconds * front_end.sample_rate_hz
    return front_end.clip_examples(white_noise(samples, seed), clip_seconds)


@lru_cache(maxsize=_REMEMBERED_CLIPS)
def _wav_examples(
    path: str, modified: int, size: int, clip_seconds: int, front_end: FrontEnd
) -> Tensor:
    return front_end.clip_examples(load_waveform(path, front_end.sample_rate_hz), clip_seconds)
