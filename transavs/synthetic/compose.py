"""Composes a set of scenes in AVSBench's layout: many processes, resumable, seeded."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from transavs.data.avsbench_spec import SCENES_FOLDER
from transavs.data.demo import manifest as manifests
from transavs.data.demo.casting import CLIP_SECONDS
from transavs.data.demo.clip_writer import (
    sounding_masks,
    write_file,
    write_pictures,
    write_sound,
)
from transavs.data.demo.compose import write_in_processes
from transavs.data.demo.layout import (
    ClipFiles,
    classes_file,
    clip_files,
    metadata_file,
    objects_file,
)
from transavs.synthetic.plan import SPLITS, Plan, Planner
from transavs.synthetic.scene import render_pictures, render_sound
from transavs.synthetic.sources import Sources

logger = logging.getLogger(__name__)

COMPOSER_VERSION = 1
"""Raised whenever the composer writes other bytes from the same settings."""

CLASS_MASKS = "class_masks"
"""Folder, beside ``gt_masks``, of maps whose values are 1 + the label of the class that sounds."""

_SUBSET = "ms3"
_PLAN, _PICTURES, _SOUND = range(3)


@dataclass(frozen=True)
class SceneSettings:
    """What decides a set beside its files.

    Attributes:
        seed: not negative.
        counts: clips by split; a set can be made longer, for a clip depends on its number alone.
        size: longest side of the frames, in pixels.
    """

    seed: int
    counts: Mapping[str, int]
    size: int = 256

    def __post_init__(self) -> None:
        unknown = set(self.counts) - set(SPLITS)
        if unknown or not all(0 <= count < 10**6 for count in self.counts.values()):
            raise ValueError(
                f"expected numbers of clips from 0 to 999999 for {', '.join(SPLITS)}, got "
                f"{dict(self.counts)}"
            )
        if self.seed < 0 or not 32 <= self.size <= 2048:
            raise ValueError(
                f"expected a seed of 0 or more and frames of 32 to 2048 pixels, got {self.seed} "
                f"and {self.size}"
            )

    def clips(self) -> Iterator[tuple[str, int]]:
        """Split and number of every clip, the long training split last."""
        for split in reversed(SPLITS):
            for index in range(self.counts.get(split, 0)):
                yield split, index


def compose_scenes(
    sources: Sources,
    data_root: Path,
    settings: SceneSettings,
    workers: int = 1,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Composes a set below ``data_root``, or completes one; a clip that is there is kept.

    Args:
        sources: what to compose of.
        data_root: folder that holds (or gets) ``transavs_scenes``.
        settings: seed and sizes.
        workers: number of processes; does not change a byte.
        force: delete a set of other files or settings instead of refusing.
        progress: show a bar on stderr.

    Returns:
        The folder of the set.

    Raises:
        ValueError: the folder holds a set of other files or settings, or something else; a split
            has no photographs or recordings.
        RuntimeError: a worker process died.
    """
    if workers < 1:
        raise ValueError(f"expected at least one worker, got {workers}")
    root = data_root / SCENES_FOLDER
    planners = {split: Planner(sources, split) for split, count in settings.counts.items() if count}
    manifest = {
        "composer_version": COMPOSER_VERSION,
        "seed": settings.seed,
        "size": settings.size,
        "classes": {name: repr(each) for name, each in sources.classes.items()},
        "files": sources.digest,
    }
    manifests.claim(root, manifest, force)
    manifests.delete_leftovers(root)
    missing = [
        clip for clip in settings.clips() if not all((root / f).is_file() for f in _paths(*clip))
    ]
    total = sum(settings.counts.values())
    if len(missing) < total:
        logger.info("%d of %d clips are there already", total - len(missing), total)
    labels = {name: label for label, name in enumerate(sources.classes)}
    write_in_processes(
        partial(_write_clip, planners, labels, root, settings), missing, workers, progress
    )
    _write_tables(planners, sources, root, settings)
    manifests.write_manifest(root, manifest)
    logger.info("Composed %s: %d clips", root, total)
    return root


def _rng(settings: SceneSettings, split: str, index: int, aspect: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, list(SPLITS).index(split), index, aspect])


def _files(split: str, index: int) -> ClipFiles:
    files = clip_files(_SUBSET, split, f"{split}_{index:06d}", "")
    return replace(files, frames=tuple(path.with_suffix(".jpg") for path in files.frames))


def _class_masks(files: ClipFiles) -> tuple[Path, ...]:
    return tuple(Path(str(path).replace("gt_masks", CLASS_MASKS)) for path in files.masks)


def _paths(split: str, index: int) -> tuple[Path, ...]:
    files = _files(split, index)
    return (*files.all(), *_class_masks(files))


def _write_clip(
    planners: Mapping[str, Planner],
    labels: Mapping[str, int],
    root: Path,
    settings: SceneSettings,
    split: str,
    index: int,
) -> None:
    plan = planners[split].draw(_rng(settings, split, index, _PLAN))
    files = _files(split, index)
    scene = render_pictures(plan, settings.size, _rng(settings, split, index, _PICTURES))
    masks = sounding_masks([thing.sounding for thing in plan.things], scene.labels)
    values = np.array([0, *(1 + labels[thing.name] for thing in plan.things)], dtype=np.uint8)
    write_pictures(root, files.frames, scene.frames)
    write_pictures(root, files.masks, masks)
    write_pictures(root, files.object_masks, scene.labels)
    write_pictures(root, _class_masks(files), np.where(masks > 0, values[scene.labels], 0))
    varied = SPLITS[split][1] == "train"
    sound = render_sound(plan, varied, _rng(settings, split, index, _SOUND))
    write_sound(root / files.audio, sound)


def _describe(plan: Plan) -> list[dict[str, object]]:
    """Entries of ``objects.json``; what is heard from off screen is an object without a pixel."""
    shown = {thing.name for thing in plan.things if any(thing.sounding)}
    found = [(thing.name, thing.sounding) for thing in plan.things]
    found += [(v.name, v.sounding) for v in plan.voices if v.name and v.name not in shown]
    return [
        {"id": number, "class": name, "sounding": list(sounding)}
        for number, (name, sounding) in enumerate(found, start=1)
    ]


def _write_tables(
    planners: Mapping[str, Planner], sources: Sources, root: Path, settings: SceneSettings
) -> None:
    """Writes the csv file and the object descriptions; logs how long each class sounds."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("vid", "split"))
    objects: dict[str, dict[str, object]] = {}
    seconds: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for split, index in settings.clips():
        clip_id = _files(split, index).clip_id
        writer.writerow((clip_id, split))
        plan = planners[split].draw(_rng(settings, split, index, _PLAN))
        objects[clip_id] = {"split": split, "background": plan.photo.path.name}
        objects[clip_id]["objects"] = _describe(plan)
        for second in range(CLIP_SECONDS):
            seconds[split].update({e.name for e in plan.things if e.sounding[second]})
    write_file(root / metadata_file(_SUBSET), table.getvalue().encode())
    write_file(root / objects_file(_SUBSET), json.dumps(objects).encode())
    groups = {name: each.group for name, each in sources.classes.items()}
    write_file(root / classes_file(_SUBSET), json.dumps(groups).encode())
    for split, counts in seconds.items():
        if counts:
            told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            logger.info("Seconds in which a class is shown and sounds, %s: %s", split, told)
