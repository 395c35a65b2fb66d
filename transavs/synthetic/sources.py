"""What scenes are composed of: classes, photographs with masked instances, cut-outs, recordings.

Nothing is decoded here. Every file is of one part, "train" or "heldout": that which a manifest (a
csv with the columns ``file`` and ``split``) or the ``split`` of a COCO image names; where neither
does, a fifth of the files is held out, by a hash of their names, the same ones in every run.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transavs.utils.plain_yaml import read_plain_yaml

logger = logging.getLogger(__name__)

#: The classes that come along.
CLASSES = Path(__file__).with_name("classes.yaml")
PARTS = ("train", "heldout")
GROUPS = ("human", "animal", "music", "vehicle", "device")
_HELD_OUT_OF = 5
_SOUND_SUFFIXES = (".wav", ".ogg", ".flac")
_LEAST_SHARE = 0.0004  # of a photograph's area: smaller instances are not objects of a clip
_MOST_INSTANCES = 60


@dataclass(frozen=True)
class SceneClass:
    """One class of ``classes.yaml``.

    Attributes:
        name: of the class.
        group: super-category, one of :data:`GROUPS`; what is of "music" is played by people.
        weight: how often it leads a clip, relative to other classes.
        coco: names of its COCO categories.
        cutouts, sounds: names of its folders, in lower case with "_" between words.
    """

    name: str
    group: str
    weight: float
    coco: tuple[str, ...]
    cutouts: tuple[str, ...]
    sounds: tuple[str, ...]

    def resembles(self, other: SceneClass) -> bool:
        """Whether both share recordings or cut-outs, so that nobody could tell which one sounds."""
        return bool({*self.sounds} & {*other.sounds} or {*self.cutouts} & {*other.cutouts})


@dataclass(frozen=True)
class Instance:
    """An annotated object of a class.

    Attributes:
        name: of its class.
        segmentation: polygons or run lengths, in COCO's form.
        share: of the photograph's area, 0 to 1.
        box: left, top, width, height, each as a share of the photograph's width or height.
        crowd: whether it stands for several.
    """

    name: str
    segmentation: Any
    share: float
    box: tuple[float, float, float, float]
    crowd: bool


@dataclass(frozen=True)
class Photo:
    """A photograph, the size of its annotations in pixels, and its instances, largest first."""

    path: Path
    width: int
    height: int
    instances: tuple[Instance, ...]

    def share(self, name: str) -> float:
        """Share of the area that instances of a class cover."""
        return sum(each.share for each in self.instances if each.name == name)


@dataclass
class Sources:
    """Everything that clips are composed of; the files are listed by part.

    Attributes:
        classes: by name, in the order of their labels.
        photos: by part.
        cutouts: by part and class.
        sounds: by part and class: the recordings of each of its folders.
        ambience: by part: recordings that belong to no class, and mark nothing.
        digest: hash of the names of all files and of their parts.
    """

    classes: dict[str, SceneClass]
    photos: dict[str, list[Photo]] = field(default_factory=lambda: {part: [] for part in PARTS})
    cutouts: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    sounds: dict[str, dict[str, list[list[Path]]]] = field(default_factory=dict)
    ambience: dict[str, list[Path]] = field(default_factory=dict)
    digest: str = ""


def read_classes(path: Path) -> tuple[dict[str, SceneClass], tuple[str, ...]]:
    """Returns the classes of a ``classes.yaml`` by name, and the folders of ambience.

    Raises:
        ValueError: the file has another form, or a COCO category is of two classes.
        OSError: it cannot be read.
    """
    content = read_plain_yaml(path)
    entries = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries or len(entries) > 255:
        raise ValueError(f"{path}: expected 'classes: {{NAME: {{group: ...}}, ...}}', at most 255")
    classes: dict[str, SceneClass] = {}
    owners: dict[str, str] = {}
    for name, entry in entries.items():
        where = f"{path}, class {name!r}"
        if not isinstance(entry, dict) or entry.get("group") not in GROUPS:
            raise ValueError(f"{where}: expected a 'group' out of {', '.join(GROUPS)}, got {entry}")
        unknown = set(entry) - {"group", "weight", "coco", "cutouts", "sounds"}
        if unknown:
            raise ValueError(f"{where}: unknown keys {', '.join(map(str, sorted(unknown)))}")
        weight = entry.get("weight", 1)
        if not isinstance(weight, (int, float)) or not weight > 0:
            raise ValueError(f"{where}: expected a positive weight, got {weight!r}")
        lists = {
            key: _names(where, entry.get(key, [name])) for key in ("coco", "cutouts", "sounds")
        }
        for category in lists["coco"]:
            other = owners.setdefault(category, name)
            if other != name:
                raise ValueError(f"{where}: the category {category!r} is that of {other!r} already")
        classes[str(name)] = SceneClass(str(name), entry["group"], float(weight), **lists)
    return classes, _names(f"{path}, ambience", content.get("ambience", []))


def _names(where: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: expected a list of names, got {names!r}")
    return tuple(_plain(name) for name in names)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


class Split:
    """Says which part a file is of.

    Args:
        manifests: csv files with the columns ``file`` (relative to the csv) and ``split``.

    Raises:
        ValueError: such a column is missing, or a split is none of :data:`PARTS`.
    """

    def __init__(self, manifests: Sequence[Path] = ()) -> None:
        self._known: dict[Path, str] = {}
        self.told = hashlib.sha256()
        for path in manifests:
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if row.get("split") not in PARTS or not row.get("file"):
                        raise ValueError(
                            f"{path}: expected the columns 'file' and 'split' (train or heldout), "
                            f"got {dict(list(row.items())[:4])}"
                        )
                    self._known[(path.parent / row["file"]).resolve()] = row["split"]

    def part(self, path: Path, named: Any = None) -> str:
        """Returns the part of a file; ``named`` is what an annotation says of it, or None."""
        part = named if named in PARTS else self._known.get(path.resolve())
        if part is None:
            # ESC-50 calls pieces of one recording FOLD-RECORDING-PIECE-CLASS: they stay together.
            key = re.sub(r"-[A-Z]-\d+$", "", path.stem)
            part = PARTS[hashlib.sha256(key.encode()).digest()[0] % _HELD_OUT_OF == 0]
        self.told.update(f"{path.parent.name}/{path.name} {part}\n".encode())
        return str(part)


def read_sources(
    classes_file: Path,
    coco: Path,
    images: Path,
    sounds: Sequence[Path],
    cutouts: Sequence[Path] = (),
    manifests: Sequence[Path] = (),
) -> Sources:
    """Lists what scenes can be composed of, and warns of classes that lack sounds or pictures.

    Args:
        classes_file: see :func:`read_classes`.
        coco: instance annotations in COCO's form.
        images: folder of the photographs.
        sounds: folders with a folder of recordings for each name.
        cutouts: folders with a folder of RGBA pictures for each name.
        manifests: see :class:`Split`.

    Raises:
        ValueError: a file has another form, or the train part has no photograph or no recording.
        OSError: a file or folder is not there.
    """
    classes, ambience = read_classes(classes_file)
    split = Split(manifests)
    sources = Sources(classes)
    for photo, part in _read_photos(coco, images, classes, split):
        sources.photos[part].append(photo)
    recordings = _list_files(sounds, _SOUND_SUFFIXES, split)
    pictures = _list_files(cutouts, (".png",), split)
    for part in PARTS:
        sources.cutouts[part] = {
            each.name: [path for name in each.cutouts for path in pictures[part].get(name, ())]
            for each in classes.values()
        }
        sources.sounds[part] = {
            each.name: [recordings[part][name] for name in each.sounds if name in recordings[part]]
            for each in classes.values()
        }
        sources.ambience[part] = [
            path for name in ambience for path in recordings[part].get(name, ())
        ]
    if not sources.photos["train"] or not any(sources.sounds["train"].values()):
        raise ValueError(
            f"nothing to compose of: {len(sources.photos['train'])} photographs of {coco} lie in "
            f"{images}, and {', '.join(map(str, sounds))} has no folder of a class of "
            f"{classes_file} with {', '.join(_SOUND_SUFFIXES)} files"
        )
    sources.digest = split.told.hexdigest()
    _warn(sources)
    return sources


def _warn(sources: Sources) -> None:
    silent = [name for name, found in sources.sounds["train"].items() if not found]
    shown = {each.name for photo in sources.photos["train"] for each in photo.instances}
    shown |= {name for name, found in sources.cutouts["train"].items() if found}
    unseen = [name for name in sources.classes if name not in shown]
    if silent:
        logger.warning("No recordings, never heard: %s", ", ".join(silent))
    if unseen:
        logger.warning("No pictures, heard from off screen alone: %s", ", ".join(unseen))


def _list_files(
    folders: Iterable[Path], suffixes: Sequence[str], split: Split
) -> dict[str, dict[str, list[Path]]]:
    """Files by part and by plain name of their folder."""
    found: dict[str, dict[str, list[Path]]] = {part: {} for part in PARTS}
    for root in folders:
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}: expected one with a folder for each class")
        for path in sorted(root.glob("*/*")):
            if path.suffix.lower() in suffixes:
                found[split.part(path)].setdefault(_plain(path.parent.name), []).append(path)
    return found


def _read_photos(
    coco: Path, images: Path, classes: dict[str, SceneClass], split: Split
) -> Iterable[tuple[Photo, str]]:
    owners = {category: each.name for each in classes.values() for category in each.coco}
    try:
        content = json.loads(coco.read_text(encoding="utf-8"))
        names = {each["id"]: owners.get(_plain(each["name"])) for each in content["categories"]}
        instances: dict[Any, list[Any]] = {each["id"]: [] for each in content["images"]}
        for each in content["annotations"]:
            if names[each["category_id"]] is not None:
                instances[each["image_id"]].append(each)
        for image in content["images"]:
            path = images / Path(image["file_name"]).name
            if not path.is_file():
                continue
            width, height = int(image["width"]), int(image["height"])
            found = [
                Instance(
                    str(names[each["category_id"]]),
                    each["segmentation"],
                    float(each["area"]) / (width * height),
                    _box(each["bbox"], width, height),
                    bool(each.get("iscrowd", 0)),
                )
                for each in instances[image["id"]]
            ]
            found = [each for each in found if each.share >= _LEAST_SHARE]
            found.sort(key=lambda each: -each.share)
            photo = Photo(path, width, height, tuple(found[:_MOST_INSTANCES]))
            yield photo, split.part(path, image.get("split"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{coco}: expected COCO's instance annotations (images, annotations, categories), got "
            f"{type(error).__name__}: {error}"
        ) from error


def _box(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    left, top, wide, high = map(float, box)
    return left / width, top / height, wide / width, high / height
