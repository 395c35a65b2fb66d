"""Where the files of a clip lie: AVSBench's official layout plus the object label maps.

The single-source and multi-source archives differ in small ways (a split level or none, ``.mp4``
inside frame names, one labelled frame in single-source training); all of them are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transavs.data.demo.casting import CLIP_SECONDS

SET_FOLDER = "transavs_demo"
SUBSET_FOLDERS = {"s4": "Single-source", "ms3": "Multi-sources"}
_CLIP_NUMBERS = {"train": range(0, 60000), "val": range(60000, 70000), "test": range(70000, 80000)}
_CLIP_NUMBERS["unseen"] = range(80000, 90000)
_SUBSET_STEP = 100000


@dataclass(frozen=True)
class ClipFiles:
    """Paths of one clip, relative to the set's folder.

    Attributes:
        clip_id: ``"<category>/<name>"`` (s4) or ``"<name>"`` (ms3).
        frames: RGB PNG, one a second.
        masks: PNG {0, 255} of the labelled seconds, which are the first ones.
        object_masks: PNG label maps, one a second.
        audio: 16-bit stereo wav.
    """

    clip_id: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    object_masks: tuple[Path, ...]
    audio: Path

    def all(self) -> tuple[Path, ...]:
        """Every file of the clip."""
        return (*self.frames, *self.masks, *self.object_masks, self.audio)


def data_folder(subset: str) -> Path:
    """Folder of a subset's files, such as ``Single-source/s4_data``."""
    return Path(SUBSET_FOLDERS[subset]) / f"{subset}_data"


def metadata_file(subset: str) -> Path:
    """Path of a subset's csv file."""
    return Path(SUBSET_FOLDERS[subset]) / f"{subset}_meta_data.csv"


def objects_file(subset: str) -> Path:
    """Path of the description of every object of every clip."""
    return data_folder(subset) / "objects.json"


def classes_file(subset: str) -> Path:
    """Path of the list of class names, in the order of their labels."""
    return data_folder(subset) / "classes.json"


def recordings_file() -> Path:
    """Path of ``{class: [wav, ...]}``, the recordings of train, val and test by class.

    The files are named relative to the folder of the table.
    """
    return Path("recordings") / "recordings.json"


def recording_name(class_name: str, number: int) -> str:
    """File name of a class's recording, beside the table."""
    return f"{class_name.replace(' ', '_')}_{number}.wav"


def most_clips(split: str) -> int:
    """How many clips of a split can be numbered."""
    return len(_CLIP_NUMBERS[split])


def clip_name(subset: str, split: str, index: int) -> str:
    """Name that no other clip of the set has, such as ``d100042``.

    It does not depend on the sizes of the splits, so a smaller set is a part of a larger one.
    """
    return f"d{list(SUBSET_FOLDERS).index(subset) * _SUBSET_STEP + _CLIP_NUMBERS[split][index]:06d}"


def clip_files(subset: str, split: str, name: str, category: str) -> ClipFiles:
    """Paths of a clip; ``category`` is used by s4 only."""
    data = data_folder(subset)
    seconds = range(1, CLIP_SECONDS + 1)
    if subset == "s4":
        folder, stem, labelled = f"{split}/{category}/{name}", name, 1 if split == "train" else None
        frames = data / "visual_frames" / split / category / name
        return ClipFiles(
            clip_id=f"{category}/{name}",
            frames=tuple(frames / f"{name}_{second}.png" for second in seconds),
            masks=tuple(data / "gt_masks" / folder / f"{stem}_{k}.png" for k in seconds)[:labelled],
            object_masks=tuple(data / "object_masks" / folder / f"{stem}_{k}.png" for k in seconds),
            audio=data / "audio_wav" / split / category / f"{name}.wav",
        )
    frames = data / "visual_frames" / name
    return ClipFiles(
        clip_id=name,
        frames=tuple(frames / f"{name}.mp4_{second}.png" for second in seconds),
        masks=tuple(data / "gt_masks" / split / name / f"{name}_{k}.png" for k in seconds),
        object_masks=tuple(
            data / "object_masks" / split / name / f"{name}_{k}.png" for k in seconds
        ),
        audio=data / "audio_wav" / split / f"{name}.wav",
    )
