"""Reads the JSON file of a composed set: which objects a clip has, and when each one sounds.

Form: ``{clip_id: {"objects": [{"id": 1, "class": "dog", "sounding": [true, false, ...]}, ...]}}``
with one value of ``sounding`` a second. Further keys (where a picture came from) are not read.
``classes.json`` beside it, ``{class: super-category}``, lists the class names, so that a label
means the same in all sets that are composed of the same classes, however few of them are heard.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from transavs.data.avsbench_spec import CLASSES_FILE_NAME, SubsetSpec


@dataclass(frozen=True)
class ObjectsFile:
    """The objects of every clip of a composed set, and the classes that are heard in it.

    Attributes:
        path: of the JSON file.
        clips: its content.
        sound_groups: super-category of each class, in the order of the labels.
    """

    path: str
    clips: dict[str, Any]
    sound_groups: dict[str, str]

    @property
    def sound_classes(self) -> tuple[str, ...]:
        """The names that labels index."""
        return tuple(self.sound_groups)

    @classmethod
    def read(cls, spec: SubsetSpec, data_folder: str) -> ObjectsFile | None:
        """Returns the objects file of a subset, or None for a subset without one."""
        if spec.objects_name is None:
            return None
        path = os.path.join(data_folder, spec.objects_name)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{spec.title}: no {path}; compose the set again (see datasets/README.md)"
            )
        with open(path, encoding="utf-8") as file:
            try:
                clips = json.load(file)
                heard = {
                    str(item["class"])
                    for clip in clips.values()
                    for item in clip["objects"]
                    if any(item["sounding"])
                }
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(
                    f"{path}: expected {{clip: {{'objects': [{{'id', 'class', 'sounding'}}]}}}}, "
                    f"got {type(error).__name__}: {error}"
                ) from error
        return cls(path, clips, _read_groups(data_folder, heard))

    def describe(self, clip_id: str, clip_seconds: int) -> dict[str, list[Any]]:
        """Returns what is known of a clip: ``sounding_objects``, ``sound_labels``,
        ``heard_classes`` and ``visible_classes`` (see ``transavs.data.avsbench``)."""
        if clip_id not in self.clips:
            raise ValueError(f"{self.path}: no entry for the clip {clip_id!r} that the csv lists")
        items = self.clips[clip_id]["objects"]
        for item in items:
            if len(item["sounding"]) != clip_seconds or not 1 <= item.get("id", 0) <= 255:
                raise ValueError(
                    f"{self.path}, clip {clip_id!r}: an object needs an id in 1..255 and "
                    f"{clip_seconds} values of 'sounding', got {item}"
                )
        sounding = [
            [item for item in items if item["sounding"][second]] for second in range(clip_seconds)
        ]
        labels = [{self.sound_classes.index(item["class"]) for item in now} for now in sounding]
        return {
            "sounding_objects": [[item["id"] for item in now] for now in sounding],
            "sound_labels": [sorted(now) for now in labels],
            "heard_classes": sorted({item["class"] for now in sounding for item in now}),
            "visible_classes": sorted({item["class"] for item in items}),
        }


def _read_groups(data_folder: str, heard: set[str]) -> dict[str, str]:
    """Returns the super-category of each class of the set; where no file lists the classes, those
    that are heard, in order, without any."""
    path = os.path.join(data_folder, CLASSES_FILE_NAME)
    if not os.path.isfile(path):
        return dict.fromkeys(sorted(heard), "")
    with open(path, encoding="utf-8") as file:
        try:
            groups = json.load(file)
        except ValueError as error:
            raise ValueError(
                f"{path}: expected JSON {{class: super-category}} ({error})"
            ) from error
    if not isinstance(groups, dict) or not all(isinstance(name, str) for name in groups.values()):
        raise ValueError(f"{path}: expected JSON {{class: super-category}}, got {groups!r}")
    unlisted = sorted(heard - set(groups))
    if unlisted:
        raise ValueError(f"{path} lacks classes that are heard: {', '.join(unlisted)}")
    return groups
