"""Films whose sounding objects somebody marked at some moments, and scores of masks there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

DONT_CARE = 255
# Standard deviation in pixels of the labels: the best pixel is the middle of a place, not a speck.
_SIGMA = 3.0
# Width and height of the reference "middle half": half of the picture.
_MIDDLE = 0.5**0.5
_GROUPS = {
    "people": "person man woman child boy girl baby speech singing laughing crying",
    "animals": "dog cat bird horse sheep cow goat pig lion wolf rooster hen duck elephant tiger "
    "leopard monkey mouse frog donkey",
    "vehicles": "car bus train truck motorcycle airplane helicopter ambulance boat tractor",
    "instruments": "guitar,acoustic guitar,electric guitar,ukulele,violin,cello,double bass,harp,"
    "piano,keyboard,accordion,drum,drum kit,tabla,conga,bongo,marimba,xylophone,glockenspiel,flute,"
    "clarinet,saxophone,oboe,bassoon,trumpet,trombone,tuba,french horn,banjo,mandolin,pipa,erhu,"
    "guzheng,sitar,bagpipes,harmonica,organ,tambourine,cymbal,gong,handpan,steel drum",
}
_GROUP_OF = {
    name: group
    for group, names in _GROUPS.items()
    for name in (names.split(",") if "," in names else names.split())
}
_OTHER_GROUP = "things"
INSTRUMENTS = "instruments"


@dataclass(frozen=True)
class LabelledMoment:
    """A frame of a film with the mask of what sounds.

    Attributes:
        file: name of the film.
        seconds: the frame's own timestamp.
        classes: value in the mask -> class of the object.
        distractors: what is seen, could sound, and is silent then.
        mask: file of the mask, PNG: 0 background, the values of ``classes``, 255 don't care.
        distractor_mask: likewise, value i being the i-th of the distractors; None without one.
    """

    file: str
    seconds: float
    classes: dict[int, str]
    distractors: tuple[str, ...]
    mask: Path
    distractor_mask: Path | None = None

    @property
    def groups(self) -> set[str]:
        """Kinds of the sounding classes: people, animals, vehicles, instruments or things."""
        return {_GROUP_OF.get(plain_name(name), _OTHER_GROUP) for name in self.classes.values()}

    @property
    def players(self) -> list[int]:
        """Values in the mask of distractors: the people beside instruments that sound alone."""
        if self.groups != {INSTRUMENTS}:
            return []
        return [i for i, name in enumerate(self.distractors, 1) if "person" in plain_name(name)]


def plain_name(name: str) -> str:
    """Returns the name of a class in small letters, with spaces between its words."""
    return name.replace("_", " ").strip().lower()


def read_labels(table: Path) -> list[LabelledMoment]:
    """Returns the labelled moments of a file in JSON lines.

    Args:
        table: each line has ``file``, ``seconds``, ``classes`` and ``mask`` (a file in ``masks``
            beside the table), perhaps ``distractors`` and ``distractor_mask``. Other entries are
            left alone.

    Raises:
        FileNotFoundError: no table, or no mask.
        ValueError: no lines, or one that is not as described.
    """
    if not table.is_file():
        raise FileNotFoundError(f"no table of labelled moments at {table}")
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: expected text in UTF-8 ({error})") from None
    moments = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                moments.append(_moment(json.loads(line), table.parent / "masks"))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise ValueError(
                    f"{table}, line {number}: expected file, seconds, classes {{value: name}} and "
                    f"mask ({type(error).__name__}: {error}); see docs/own_labels.md"
                ) from None
    if not moments:
        raise ValueError(f"{table} labels no moment: see docs/own_labels.md")
    for moment in moments:
        for file in (moment.mask, moment.distractor_mask):
            if file is not None and not file.is_file():
                raise FileNotFoundError(f"{table} names the mask {file}, which is not there")
    return moments


def _moment(entry: dict[str, Any], folder: Path) -> LabelledMoment:
    names = [entry["file"], entry["mask"]]
    if "distractor_mask" in entry:
        names.append(entry["distractor_mask"])
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{name!r} is no plain file name")
    classes = {int(value): str(name) for value, name in entry["classes"].items()}
    seconds = float(entry["seconds"])
    if not classes or not all(0 < value < DONT_CARE for value in classes):
        raise ValueError(f"values of classes lie in 1 to 254, got {sorted(classes)}")
    if not 0 <= seconds < 1e6:
        raise ValueError(f"seconds {seconds}")
    return LabelledMoment(
        names[0],
        seconds,
        classes,
        tuple(map(str, entry.get("distractors", ()))),
        folder / names[1],
        folder / names[2] if len(names) > 2 else None,
    )


@dataclass(frozen=True)
class MaskScores:
    """How a mask fits a label.

    Attributes:
        jaccard: intersection over union, in [0, 1], don't-care pixels left out.
        marked: share of the picture that is marked, in [0, 1].
        outside: share of what is marked that is no sounding object, don't-care pixels left out;
            None where nothing is marked.
    """

    jaccard: float
    marked: float
    outside: float | None


def score_mask(mask: NDArray[np.bool_], label: NDArray[np.uint8]) -> MaskScores:
    """Returns the scores of a mask ``[H, W]`` against a label ``[H, W]`` with 255 for don't care.

    Where nothing is marked and nothing sounds, the Jaccard index is 1.
    """
    sounding, valid = (label > 0) & (label != DONT_CARE), label != DONT_CARE
    counted = mask & valid
    union = int((counted | sounding).sum())
    inside = int((counted & sounding).sum())
    return MaskScores(
        inside / union if union else 1.0,
        float(mask.mean()),
        1 - inside / int(counted.sum()) if counted.any() else None,
    )


def points_at(score: NDArray[np.float32], label: NDArray[np.uint8]) -> bool:
    """Returns whether the best pixel of a smoothed score map ``[H, W]`` lies on an object."""
    smoothed = cv2.GaussianBlur(score, (0, 0), _SIGMA)
    value = int(label.flat[int(smoothed.argmax())])
    return value not in (0, DONT_CARE)


def reference_masks(size: tuple[int, int]) -> dict[str, NDArray[np.bool_]]:
    """Returns masks ``[H, W]`` that need no model: everything, the middle half, and nothing."""
    height, width = size
    middle = np.zeros(size, bool)
    top, left = round(height * (1 - _MIDDLE) / 2), round(width * (1 - _MIDDLE) / 2)
    middle[top : height - top, left : width - left] = True
    return {
        "everything": np.ones(size, bool),
        "middle_half": middle,
        "nothing": np.zeros(size, bool),
    }


def distant_partner(moments: Sequence[LabelledMoment], index: int) -> int | None:
    """Returns a moment whose sounds are of another kind altogether than those of one.

    The search begins half a table away, so that all sounds are lent about equally often. None
    where all moments share a kind.
    """
    count = len(moments)
    for step in range(count):
        other = (index + count // 2 + step) % count
        if not moments[other].groups & moments[index].groups:
            return other
    return None


def mean_of(values: Iterable[float | None], scale: float = 100.0) -> float | None:
    """Returns the mean of those that are not None, in percent; None where there is none."""
    known = [value for value in values if value is not None]
    return round(scale * sum(known) / len(known), 2) if known else None
