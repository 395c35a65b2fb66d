"""Clips of five seconds to try without a video of one's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from transavs.data.avsbench import dataset_root
from transavs.data.demo.clip_writer import cast_of_clip, describe, files_of_clip, write_clip
from transavs.data.demo.drawn import make_drawn_assets
from transavs.data.demo.layout import SET_FOLDER, ClipFiles, clip_files, objects_file
from transavs.data.demo.manifest import read_manifest

logger = logging.getLogger(__name__)


class Example(NamedTuple):
    """A clip: its title, the folder of its frames (one a second), and its wav file."""

    title: str
    frames: Path
    audio: Path


def find_examples(folder: Path, count: int = 4) -> list[Example]:
    """Returns clips that no model was trained on: the demo set's, then drawn ones.

    Args:
        folder: where clips of shapes, each with a timbre of its own, are drawn now.
        count: of each kind, the most.
    """
    root = Path(dataset_root()) / SET_FOLDER
    found: list[Example] = []
    try:
        if (read_manifest(root) or {}).get("source", "drawn") != "drawn":
            clips = json.loads((root / objects_file("ms3")).read_text(encoding="utf-8"))
            found = list(islice(_demo_examples(root, clips), count))
    except (OSError, ValueError, KeyError) as error:
        logger.warning("no examples from the demo set in %s: %s", root, error)
    assets = make_drawn_assets()
    for index in range(count):
        write_clip(assets, folder, 0, "ms3", "test", index)
        files = files_of_clip(assets.classes, "ms3", "test", index)
        clip = describe(cast_of_clip(assets, 0, "ms3", "test", index), "test")
        found.append(_example(f"drawn {index + 1}", clip, folder, files))
    return found


def _demo_examples(root: Path, clips: Mapping[str, Any]) -> Iterator[Example]:
    for split in ("unseen", "test"):
        names = [name for name, clip in clips.items() if clip["split"] == split]
        for number, name in enumerate(names, start=1):
            files = clip_files("ms3", split, name, "")
            example = _example(f"demo set, {split} {number}", clips[name], root, files)
            if example.audio.is_file() and example.frames.is_dir():
                yield example


def _example(title: str, clip: Mapping[str, Any], root: Path, files: ClipFiles) -> Example:
    heard = sorted({each["class"] for each in clip["objects"] if any(each["sounding"])})
    title = f"{title}: {', '.join(heard) or 'nothing sounds'}"
    return Example(title, root / files.frames[0].parent, root / files.audio)
