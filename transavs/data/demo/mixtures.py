"""Mixtures for pretraining: the recordings of a composed set, varied and mixed anew.

A composed clip plays its recordings as they are, and there are only one to three of a class. An
encoder that is to recognise recordings that it never heard needs more than these: here every voice
is a variation of its recording (:func:`transavs.data.demo.sounds.vary_recording`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from transavs.audio import clip_log_mel
from transavs.data.demo.casting import CLIP_SECONDS, draw_schedules
from transavs.data.demo.layout import SET_FOLDER, recordings_file
from transavs.data.demo.sounds import Recording, Voice, mix, object_track, vary_recording

_VOICE_COUNTS = (1, 1, 2, 3)
# Share of the mixtures whose voices all sound throughout.
_THROUGHOUT_SHARE = 0.4
_GAIN_DB = (-6.0, 0.0)
_NOISE_SHARE = 0.5
_NOISE_DB = (-75.0, -62.0)
_FULL_SCALE = 32768.0


class Mixtures(Dataset[tuple[Tensor, Tensor]]):
    """Mixtures of one to three voices of different classes, going on and off by whole seconds.

    Item i is a pure function of the seed and i: ``(examples, labels)``, float32
    ``[5, 1, 96, 64]`` and bool ``[5, classes]``.

    Args:
        recordings: class -> its recordings, in the order of the labels.
        count: number of mixtures.
        seed: not negative.
    """

    def __init__(
        self, recordings: Mapping[str, Sequence[Recording]], count: int, seed: int
    ) -> None:
        self._recordings = list(recordings.values())
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self._seed, index))
        voice_count = min(int(rng.choice(_VOICE_COUNTS)), len(self._recordings))
        classes = rng.permutation(len(self._recordings))[:voice_count]
        schedules = draw_schedules(voice_count, CLIP_SECONDS, rng)
        if rng.random() < _THROUGHOUT_SHARE:
            schedules[:] = True
        voices = []
        for label, schedule in zip(classes, schedules, strict=True):
            options = self._recordings[label]
            recording = vary_recording(options[int(rng.integers(len(options)))], rng)
            track = object_track(recording, schedule.tolist(), rng)
            voices.append(Voice(track, rng.uniform(*_GAIN_DB), pan=0.5))
        noise_db = rng.uniform(*_NOISE_DB) if rng.random() < _NOISE_SHARE else None
        stereo = mix(voices, CLIP_SECONDS, noise_db, int(rng.integers(2**32)))
        waveform = torch.from_numpy(stereo.mean(axis=1) / _FULL_SCALE).float()
        labels = torch.zeros(CLIP_SECONDS, len(self._recordings), dtype=torch.bool)
        labels[:, torch.from_numpy(classes)] = torch.from_numpy(schedules.T)
        return clip_log_mel(waveform, CLIP_SECONDS), labels


def read_recordings(data_root: str | Path) -> dict[str, list[Recording]]:
    """Returns the recordings of the composed set below ``data_root``, by class.

    Raises:
        FileNotFoundError: there is no composed set, or one of an older composer.
        ValueError: the table is damaged.
    """
    path = Path(data_root) / SET_FOLDER / recordings_file()
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}, the recordings of the demo set; compose the set (again) with "
            "datasets/prepare_demo.py"
        )
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        # Plain names beside the table: nothing leads out of the set.
        names = {label: [Path(name).name for name in files] for label, files in table.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected JSON {{class: [file, ...]}} ({error})") from error
    return {
        label: [Recording(name, _read(path.with_name(name))) for name in files]
        for label, files in names.items()
    }


def _read(path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32")
    return np.asarray(samples)
