"""Recordings of sounds by class, listed in a table, and random mixtures of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from transavs.audio import SAMPLE_RATE_HZ, load_waveform, log_mel_examples, samples_of_examples
from transavs.utils.progress import progress_bar

SPLITS = ("train", "heldout")
#: Mixtures of one item, which is how many are worked on at once.
BLOCK = 32
# Of each recording, in seconds: what is kept in memory.
_MOST_SECONDS = 10
_VOICE_COUNTS = (1, 1, 2, 2, 3)
_SILENT_SHARE = 0.03
_GAIN_DB = (-18.0, 0.0)
# Root mean square of a voice before its gain, and the largest peak that it may come to.
_LOUDNESS = 0.1
_MOST_PEAK = 0.9
# A stretch of a recording is taken where its energy is above this share of the mean.
_LEAST_ENERGY = 0.1
_TRIES = 4
_FULL_SCALE = 32767


@dataclass(frozen=True)
class RecordingFile:
    """A row of the table.

    Attributes:
        path: of the sound file.
        label: its class.
        split: "train" or "heldout".
    """

    path: Path
    label: str
    split: str


def read_manifest(table: Path, folders: Sequence[Path]) -> list[RecordingFile]:
    """Returns the recordings of a table that lie below one of some folders.

    Args:
        table: csv in UTF-8 with the columns ``file`` (relative to the table), ``class``, ``split``
            (train or heldout) and perhaps ``kind``, whose other rows than ``sound`` are passed.
        folders: below which the recordings lie.

    Raises:
        FileNotFoundError: no table, or no file of a row.
        ValueError: columns are missing, a split is unknown, or nothing lies below the folders.
    """
    if not table.is_file():
        raise FileNotFoundError(
            f"no table of recordings at {table}: write one with the columns file, class, split, "
            "or name it with --manifest"
        )
    inside = [folder.resolve() for folder in folders]
    found = []
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"file", "class", "split"} - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f"{table}: expected the columns {', '.join(sorted(missing))} too")
            for row in reader:
                if (row.get("kind") or "sound") != "sound":
                    continue
                path = (table.parent / (row["file"] or "")).resolve()
                if not any(path.is_relative_to(folder) for folder in inside):
                    continue
                if row["split"] not in SPLITS or not row["class"]:
                    raise ValueError(
                        f"{table}, line {reader.line_num}: expected a class and the split train or "
                        f"heldout, got {row['class']!r} and {row['split']!r}"
                    )
                if not path.is_file():
                    raise FileNotFoundError(f"{table}, line {reader.line_num}: no file {path}")
                found.append(RecordingFile(path, row["class"], row["split"]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is no readable csv in UTF-8 ({error})") from None
    for split in SPLITS:
        if not any(recording.split == split for recording in found):
            raise ValueError(
                f"{table} lists no recordings of the split {split} below "
                f"{', '.join(map(str, folders))}: mend the table or name other folders"
            )
    return found


class RecordingMixtures(Dataset[tuple[Tensor, Tensor]]):
    """Single log-mel examples of one to three recordings of different classes, or of none.

    Each voice is a stretch of its recording, which may begin or end within the example, at a
    loudness of its own. Item i is a pure function of the seed and i: ``(examples, labels)``,
    float32 ``[32, 1, 96, 64]`` and bool ``[32, classes]``.

    Args:
        files: recordings to mix, read now.
        classes: of the labels. Those without a recording are never heard.
        count: of mixtures, rounded up to whole items.
        seed: not negative.
    """

    def __init__(
        self, files: Sequence[RecordingFile], classes: Sequence[str], count: int, seed: int
    ) -> None:
        self._num_classes = len(classes)
        self._length = -(-count // BLOCK)
        self._seed = seed
        places = {label: place for place, label in enumerate(classes)}
        self._recordings: dict[int, list[NDArray[np.int16]]] = {}
        for file in progress_bar(files, "reading", "recording"):
            if file.label in places:
                waveform = load_waveform(file.path)[: _MOST_SECONDS * SAMPLE_RATE_HZ]
                samples = (waveform.clamp(-1, 1) * _FULL_SCALE).round().to(torch.int16).numpy()
                self._recordings.setdefault(places[file.label], []).append(samples)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self._length:
            raise IndexError(index)
        rng = np.random.default_rng((self._seed, index))
        labels = torch.zeros(BLOCK, self._num_classes, dtype=torch.bool)
        examples = []
        for row in range(BLOCK):
            waveform = np.zeros(samples_of_examples(1))
            for label in self._draw_classes(rng):
                options = self._recordings[label]
                waveform += _voice(options[int(rng.integers(len(options)))], rng)
                labels[row, label] = True
            examples.append(log_mel_examples(waveform))
        return torch.cat(examples), labels

    def _draw_classes(self, rng: np.random.Generator) -> list[int]:
        if rng.random() < _SILENT_SHARE:
            return []
        count = min(int(rng.choice(_VOICE_COUNTS)), len(self._recordings))
        return [int(label) for label in rng.permutation(list(self._recordings))[:count]]


def _voice(recording: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.float64]:
    """A stretch in which the recording is heard, zeros where it has not begun or is over."""
    needed = samples_of_examples(1)
    mean = float(np.square(recording, dtype=np.float64).mean())
    best, best_energy = np.zeros(needed), -1.0
    for _ in range(_TRIES):
        start = int(rng.integers(-needed // 2, max(len(recording) - needed // 2, 1)))
        stretch = np.zeros(needed)
        piece = recording[max(start, 0) : start + needed]
        begin = max(-start, 0)
        stretch[begin : begin + len(piece)] = piece / _FULL_SCALE
        energy = float(np.square(stretch).mean()) * _FULL_SCALE**2
        if energy > best_energy:
            best, best_energy = stretch, energy
        if energy > _LEAST_ENERGY * mean:
            break
    level = np.sqrt(best_energy) / _FULL_SCALE
    peak = float(np.abs(best).max())
    if peak == 0:
        return best
    gain = 10 ** (rng.uniform(*_GAIN_DB) / 20)
    return best * gain * min(_LOUDNESS / level, _MOST_PEAK / peak)
