"""Compose the whole demo set: many processes, resumable, the same bytes whatever happens."""

from __future__ import annotations

import csv
import io
import json
import logging
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.casting import SPLITS, SUBSETS
from transavs.data.demo.clip_writer import (
    cast_of_clip,
    describe,
    files_of_clip,
    write_clip,
    write_file,
)
from transavs.data.demo.credits import credits_text
from transavs.data.demo.layout import SET_FOLDER, metadata_file, most_clips, objects_file

logger = logging.getLogger(__name__)

COMPOSER_VERSION = 1
"""Raised whenever the composer writes other bytes from the same settings."""

DEFAULT_COUNTS: dict[str, dict[str, int]] = {
    "s4": {"train": 900, "val": 60, "test": 120, "unseen": 100},
    "ms3": {"train": 1200, "val": 60, "test": 120, "unseen": 100},
}

MANIFEST = "demo.json"
_UNFINISHED = "demo.unfinished.json"
_CREDITS = "CREDITS.md"

_Clip = tuple[str, str, int]  # subset, split, index


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a set, together with the assets.

    Attributes:
        seed: not negative.
        counts: clips by subset and split.
    """

    seed: int
    counts: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"expected a seed of 0 or more, got {self.seed}")
        for subset, splits in self.counts.items():
            for split, count in splits.items():
                if not 0 <= count <= most_clips(split):
                    raise ValueError(
                        f"expected 0 to {most_clips(split)} clips in {subset} {split}, got {count}"
                    )

    def clips(self) -> Iterator[_Clip]:
        """Every clip, the evaluation splits of both subsets before the long training splits."""
        for split in reversed(SPLITS):
            for subset in SUBSETS:
                for index in range(self.counts[subset][split]):
                    yield subset, split, index


def scaled_counts(scale: float) -> dict[str, dict[str, int]]:
    """Default sizes times ``scale``, at least one clip each.

    Raises:
        ValueError: ``scale`` is not positive.
    """
    if not scale > 0:
        raise ValueError(f"expected a positive scale, got {scale}")
    return {
        subset: {split: max(1, round(count * scale)) for split, count in splits.items()}
        for subset, splits in DEFAULT_COUNTS.items()
    }


def compose_set(
    assets: DemoAssets,
    data_root: Path,
    settings: Settings,
    workers: int = 1,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Compose the demo set below ``data_root``, or complete one that was interrupted.

    A clip whose files all exist is left alone. The csv files, the object descriptions and the
    manifest are written last, so that a set with a manifest is complete.

    Args:
        assets: what to compose from.
        data_root: folder that holds (or gets) ``transavs_demo``.
        settings: seed and sizes.
        workers: number of processes; 1 composes in this one. Does not change a byte.
        force: delete a set that was made with other settings instead of refusing.
        progress: show a bar on stderr.

    Returns:
        The folder of the set.

    Raises:
        ValueError: the folder holds a set with other settings, or something else.
    """
    if workers < 1:
        raise ValueError(f"expected at least one worker, got {workers}")
    root = data_root / SET_FOLDER
    manifest = make_manifest(assets, settings)
    _claim(root, manifest, force)
    clips = list(settings.clips())
    missing = [
        clip
        for clip in clips
        if not all((root / path).is_file() for path in files_of_clip(assets, *clip).all())
    ]
    if not missing and read_manifest(root) == manifest:
        logger.info("%s is there already: %d clips", root, len(clips))
        return root
    if len(missing) < len(clips):
        logger.info("%d of %d clips are there already", len(clips) - len(missing), len(clips))
    _write_clips(assets, root, settings.seed, missing, workers, progress)
    _write_tables(assets, root, settings)
    write_file(root / _CREDITS, credits_text(assets).encode())
    write_file(root / MANIFEST, _to_json(manifest))
    (root / _UNFINISHED).unlink(missing_ok=True)
    logger.info("Composed %s: %d clips", root, len(clips))
    return root


def make_manifest(assets: DemoAssets, settings: Settings) -> dict[str, Any]:
    """Everything that decides the bytes of the set; two sets with equal manifests are equal."""
    return {
        "composer_version": COMPOSER_VERSION,
        "source": assets.source,
        "origin": list(assets.origin),
        "seed": settings.seed,
        "counts": {subset: dict(splits) for subset, splits in settings.counts.items()},
        "classes": [
            {"name": each.name, "category": each.category, "group": each.group}
            for each in assets.classes
        ],
    }


def read_manifest(root: Path, name: str = MANIFEST) -> dict[str, Any] | None:
    """Manifest of the complete set in ``root``; None if there is no complete one.

    Raises:
        ValueError: the manifest is damaged.
    """
    path = root / name
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); compose again with --force") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{path} holds no manifest; compose again with --force")
    return manifest


def _claim(root: Path, manifest: dict[str, Any], force: bool) -> None:
    """Make sure that ``root`` is empty, or holds a set with the same manifest."""
    if root.exists() and any(root.iterdir()):
        if not (root / MANIFEST).exists() and not (root / _UNFINISHED).exists():
            raise ValueError(
                f"{root} holds something that is not a composed set; move it away first"
            )
        try:
            found = read_manifest(root) or read_manifest(root, _UNFINISHED)
        except ValueError:
            if not force:
                raise
            found = None
        if found == manifest:
            return
        if not force:
            changed = sorted(key for key in manifest if (found or {}).get(key) != manifest[key])
            raise ValueError(
                f"{root} was composed with other settings ({', '.join(changed)} differ): "
                "pass --force to compose it anew, or choose another --root"
            )
        logger.info("Deleting %s, which was composed with other settings", root)
        shutil.rmtree(root)
    write_file(root / _UNFINISHED, _to_json(manifest))


def _write_tables(assets: DemoAssets, root: Path, settings: Settings) -> None:
    for subset in SUBSETS:
        rows: list[tuple[str, ...]] = []
        objects: dict[str, Any] = {}
        for split in SPLITS:
            for index in range(settings.counts[subset][split]):
                files = files_of_clip(assets, subset, split, index)
                category, _, name = files.clip_id.rpartition("/")
                rows.append((name, "0", category, split) if subset == "s4" else (name, split))
                cast = cast_of_clip(assets, settings.seed, subset, split, index)
                objects[files.clip_id] = describe(cast, split)
        header = ("name", "start", "category", "split") if subset == "s4" else ("vid", "split")
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        write_file(root / metadata_file(subset), table.getvalue().encode())
        write_file(root / objects_file(subset), json.dumps(objects).encode())


def _write_clips(
    assets: DemoAssets, root: Path, seed: int, clips: list[_Clip], workers: int, progress: bool
) -> None:
    bar = tqdm(total=len(clips), unit="clip", desc="Composing", disable=not progress)
    with bar:
        if workers == 1 or len(clips) < 2:
            for clip in clips:
                write_clip(assets, root, seed, *clip)
                bar.update()
            return
        with multiprocessing.Pool(workers, _start_worker, (assets, root, seed)) as pool:
            for _ in pool.imap_unordered(_work, clips, chunksize=4):
                bar.update()


_task: tuple[DemoAssets, Path, int] | None = None


def _start_worker(assets: DemoAssets, root: Path, seed: int) -> None:
    global _task
    _task = (assets, root, seed)


def _work(clip: _Clip) -> None:
    assert _task is not None, "worker was not started by _start_worker"
    write_clip(*_task, *clip)


def _to_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
