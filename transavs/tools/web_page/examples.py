"""Clips that can be tried without a film of one's own: the demo set's, and drawn ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from transavs.data.avsbench import dataset_root
from transavs.data.demo.clip_writer import cast_of_clip, files_of_clip, write_clip
from transavs.data.demo.drawn import make_drawn_assets
from transavs.data.demo.layout import SET_FOLDER, clip_files, objects_file
from transavs.data.demo.manifest import read_manifest

logger = logging.getLogger(__name__)

# Four of each: all of them fit into a list.
_COUNT = 4
_SPLITS = ("unseen", "test")
_DRAWN_SEED = 0


@dataclass(frozen=True)
class Example:
    """A clip of five seconds.

    Attributes:
        title: what is heard in it, and a number.
        names: of the classes that are heard.
        frames: folder of its pictures, one a second.
        sound: its wav.
        drawn: it shows shapes, which only models of the drawn demo set know.
    """

    title: str
    names: tuple[str, ...]
    frames: Path
    sound: Path
    drawn: bool = False


def find_examples(folder: Path) -> list[Example]:
    """Returns examples: clips that no model was trained on, of the demo set where it is composed.

    Args:
        folder: for clips of shapes with a timbre each, which are drawn now.
    """
    return [*_of_demo_set(), *draw_examples(folder)]


def draw_examples(folder: Path, count: int = _COUNT) -> list[Example]:
    """Draws clips of the demo set's shapes into a folder and returns them."""
    assets = make_drawn_assets()
    examples = []
    for index in range(count):
        write_clip(assets, folder, _DRAWN_SEED, "ms3", "test", index)
        files = files_of_clip(assets.classes, "ms3", "test", index)
        cast = cast_of_clip(assets, _DRAWN_SEED, "ms3", "test", index)
        names = _sorted_names(actor.name for actor in cast.actors if any(actor.sounding))
        title = _title("drawn", names, index + 1)
        frames = folder / files.frames[0].parent
        examples.append(Example(title, names, frames, folder / files.audio, drawn=True))
    return examples


def _of_demo_set() -> list[Example]:
    root = Path(dataset_root()) / SET_FOLDER
    try:
        manifest = read_manifest(root)
        if manifest is None or manifest.get("source") == "drawn":
            return []
        described = json.loads((root / objects_file("ms3")).read_text(encoding="utf-8"))
        return list(islice(_demo_clips(root, described), _COUNT))
    except (OSError, ValueError, KeyError) as error:
        logger.warning("no examples from the demo set in %s: %s", root, error)
        return []


def _demo_clips(root: Path, described: dict) -> Iterator[Example]:
    for split in _SPLITS:
        number = 0
        for clip, entry in described.items():
            if entry["split"] != split:
                continue
            files = clip_files("ms3", split, clip, "")
            names = _sorted_names(
                each["class"] for each in entry["objects"] if any(each["sounding"])
            )
            sound, first = root / files.audio, root / files.frames[0]
            if names and sound.is_file() and first.is_file():
                number += 1
                title = _title(f"demo set, {split}", names, number)
                yield Example(title, names, first.parent, sound)


def _sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _title(source: str, names: tuple[str, ...], number: int) -> str:
    return f"{source} {number}: {', '.join(names) or 'nothing sounds'}"
