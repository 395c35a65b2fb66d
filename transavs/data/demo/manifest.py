"""The settings and the manifest of a composed set: what it was made from, and whether it is whole.

Two sets with equal manifests are equal byte for byte. A set whose composition was interrupted keeps
its manifest under another name, so that it can be completed but is not taken for a whole one.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transavs.data.demo.casting import SPLITS, SUBSETS, DemoClass
from transavs.data.demo.clip_writer import TEMPORARY_SUFFIX, files_of_clip, write_file
from transavs.data.demo.layout import (
    SET_FOLDER,
    classes_file,
    metadata_file,
    most_clips,
    objects_file,
    recordings_file,
)

logger = logging.getLogger(__name__)

COMPOSER_VERSION = 2
"""Raised whenever the composer writes other bytes from the same settings."""

DEFAULT_COUNTS: dict[str, dict[str, int]] = {
    "s4": {"train": 900, "val": 60, "test": 120, "unseen": 100},
    "ms3": {"train": 1200, "val": 60, "test": 120, "unseen": 100},
}

MANIFEST = "demo.json"
CREDITS = "CREDITS.md"
_UNFINISHED = "demo.unfinished.json"

Clip = tuple[str, str, int]
"""Subset, split, index within the split."""

Manifest = dict[str, Any]


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

    def clips(self) -> Iterator[Clip]:
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


def make_manifest(
    source: str, origin: Sequence[str], classes: Sequence[DemoClass], settings: Settings
) -> Manifest:
    """Everything that decides the bytes of a set; arguments as in `DemoAssets`."""
    return {
        "composer_version": COMPOSER_VERSION,
        "source": source,
        "origin": list(origin),
        "seed": settings.seed,
        "counts": {subset: dict(splits) for subset, splits in settings.counts.items()},
        "classes": [
            {"name": each.name, "category": each.category, "group": each.group} for each in classes
        ],
    }


def read_manifest(root: Path) -> Manifest | None:
    """Manifest of the complete set in ``root``; None if there is no complete one.

    Raises:
        ValueError: the manifest is damaged.
    """
    return _read(root / MANIFEST)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Declare the set in ``root`` complete."""
    write_file(root / MANIFEST, _to_json(manifest))
    (root / _UNFINISHED).unlink(missing_ok=True)


def claim(root: Path, manifest: Manifest, force: bool) -> None:
    """Make sure that ``root`` is empty, or holds a set with the same manifest.

    Args:
        root: folder of the set.
        manifest: what is about to be composed there.
        force: delete a set with another manifest. What is not a set is never deleted.

    Raises:
        ValueError: ``root`` holds something else.
    """
    if root.exists() and any(root.iterdir()):
        names = [name for name in (MANIFEST, _UNFINISHED) if (root / name).exists()]
        if not names:
            raise ValueError(
                f"{root} holds something that is not a composed set; move it away first"
            )
        try:
            found = _read(root / names[0])
        except ValueError:
            if not force:
                raise
            found = None
        if found == manifest:
            return
        if not force:
            changed = [key for key in manifest if (found or {}).get(key) != manifest[key]]
            raise ValueError(
                f"{root} was composed with other settings ({', '.join(changed)} differ): "
                "pass --force to compose it anew, or choose another --root"
            )
        logger.info("Deleting %s, which was composed with other settings", root)
        shutil.rmtree(root)
    write_file(root / _UNFINISHED, _to_json(manifest))


def missing_clips(root: Path, classes: Sequence[DemoClass], settings: Settings) -> list[Clip]:
    """Clips of which at least one file does not exist."""
    return [
        clip
        for clip in settings.clips()
        if not all((root / path).is_file() for path in files_of_clip(classes, *clip).all())
    ]


def tables_exist(root: Path) -> bool:
    """True if the csv files, the object descriptions and the credits are there."""
    tables = [metadata_file(subset) for subset in SUBSETS]
    tables += [objects_file(subset) for subset in SUBSETS]
    tables += [classes_file(subset) for subset in SUBSETS]
    tables.append(recordings_file())
    return all((root / path).is_file() for path in (*tables, Path(CREDITS)))


def delete_leftovers(root: Path) -> None:
    """Delete half-written files that a killed process left behind."""
    for path in root.rglob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def find_complete_set(
    data_root: Path, source: str, classes: Sequence[DemoClass], settings: Settings
) -> Path | None:
    """Folder of a whole set of this kind, whatever version of the packages it came from.

    Needs no assets, so it answers at once; None if there is no such set.
    """
    root = data_root / SET_FOLDER
    manifest = read_manifest(root)
    if manifest is None:
        return None
    if manifest != make_manifest(source, manifest.get("origin", ()), classes, settings):
        return None
    if missing_clips(root, classes, settings) or not tables_exist(root):
        return None
    return root


def find_covering_set(
    data_root: Path, source: str, classes: Sequence[DemoClass], settings: Settings
) -> Path | None:
    """Folder of a whole set whose splits are those of ``settings``; None if there is no such set.

    Splits that ``settings`` has no clip of may be of any size there. A clip depends on its subset,
    split and index alone, so the others are the same bytes as in a set of their own. A set with a
    damaged manifest is none.
    """
    root = data_root / SET_FOLDER
    try:
        manifest = read_manifest(root)
    except ValueError as error:
        logger.warning("%s", error)
        return None
    if manifest is None:
        return None
    expected = make_manifest(source, manifest.get("origin", ()), classes, settings)
    if any(manifest.get(key) != value for key, value in expected.items() if key != "counts"):
        return None
    for subset, splits in settings.counts.items():
        found = manifest.get("counts", {}).get(subset, {})
        if any(count and found.get(split) != count for split, count in splits.items()):
            return None
    if missing_clips(root, classes, settings) or not tables_exist(root):
        return None
    return root


def _read(path: Path) -> Manifest | None:
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); compose again with --force") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{path} holds no manifest; compose again with --force")
    return manifest


def _to_json(content: Manifest) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
