"""Reads AVSBench-shaped folders into clip records; one reader for every subset.

A record is a dict of plain types:
    clip_id: str, the identity of the clip.
    file_names: T paths, the frame of each second; clips of a data set may differ in T.
    mask_file_names: T paths of ground-truth masks, None for a frame without label.
    audio_file: path of the wav file.
    log_mel_file: path of the official log-mel pickle, or None where there is none.
    category: str, or None where the subset has none.
    sound_labels (where known): T lists of indices into the sound classes, heard in that second.
    heard_classes, visible_classes (where known): names of the classes that are heard in any second,
        and of those known to be in the picture.
    mask_form, pixel_classes (sets with classes in their masks): what a mask file holds ("class_ids"
        or "class_colors"), and the number of classes with the background.
    object_mask_file_names, sounding_objects (sets with an objects file): T paths of label maps,
        and T lists of the label values of the objects that sound in that second.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from transavs.data.avsbench_spec import SubsetSpec
from transavs.data.metadata_csv import (
    CsvRow,
    clip_id,
    csv_path,
    dataset_root,
    read_csv,
    subset_folder,
)
from transavs.data.objects_file import ObjectsFile

__all__ = [
    "Record",
    "dataset_root",
    "load_avsbench",
    "load_sound_groups",
    "read_csv",
    "record_files",
    "subset_folder",
]

Record = dict[str, Any]

_NAMED_MISSING_FILES = 5

logger = logging.getLogger(__name__)


def load_avsbench(
    spec: SubsetSpec, root: str, split: str, check_files: bool = True
) -> list[Record]:
    """Returns the clip records of one split, in the order of the csv.

    Args:
        spec: facts of the subset.
        root: folder of all data sets (the parent of ``Single-source``), not of one subset.
        split: one of ``spec.split_names``.
        check_files: look for every file that the records name, so that a broken download is
            reported at start-up and not hours later.

    Raises:
        FileNotFoundError: no such root, subset or csv; files are missing.
        ValueError: unknown split, or a csv or objects file that contradicts the layout.
    """
    spec.split(split)
    rows = [row for row in read_csv(spec, root) if row.split == split]
    if not rows:
        raise ValueError(
            f"{csv_path(spec, root)} lists no clip of the split {split!r} ({spec.title})"
        )
    data_folder = os.path.join(subset_folder(spec, root), spec.data_folder)
    objects = ObjectsFile.read(spec, data_folder)
    sound_classes = objects.sound_classes if objects else spec.sound_classes
    records = []
    for row in rows:
        record = _media_paths(spec, data_folder, row)
        if objects:
            record.update(objects.describe(record["clip_id"], spec.clip_seconds))
        elif row.category in sound_classes:
            # One source a clip: its category is what is heard in every second.
            label = sound_classes.index(row.category)
            record["sound_labels"] = [[label] for _ in range(spec.clip_seconds)]
            record["heard_classes"] = record["visible_classes"] = [row.category]
        elif row.heard:
            # Of the whole clip: in which of its seconds each is heard nobody tells.
            record["heard_classes"] = record["visible_classes"] = list(row.heard)
        records.append(record)
    if check_files:
        _check_files(spec, root, split, records)
    for record in records:
        if record["log_mel_file"] and not os.path.exists(record["log_mel_file"]):
            record["log_mel_file"] = None
    logger.info("%s, %s: %d clips from %s", spec.title, split, len(records), root)
    return records


def load_sound_groups(spec: SubsetSpec, root: str) -> dict[str, str]:
    """Returns the super-category ("" if unknown) of each class that ``sound_labels`` indexes, in
    the order of the labels; {} for a subset that does not tell."""
    data_folder = os.path.join(subset_folder(spec, root), spec.data_folder)
    objects = ObjectsFile.read(spec, data_folder)
    if objects:
        return objects.sound_groups
    groups = spec.offscreen.groups if spec.offscreen else {}
    return {name: groups.get(name, "") for name in spec.sound_classes}


def record_files(record: Record) -> Iterator[str]:
    """Yields every file that a record needs (the log-mel pickle is optional)."""
    yield from record["file_names"]
    yield from (name for name in record["mask_file_names"] if name is not None)
    yield from record.get("object_mask_file_names", ())
    yield record["audio_file"]


def _media_paths(spec: SubsetSpec, data_folder: str, row: CsvRow) -> Record:
    def path(template: str, second: int = 0) -> str:
        number = second + spec.first_frame_number
        relative = template.format(
            split=row.split, name=row.name, category=row.category, part=row.part, number=number
        )
        return os.path.join(data_folder, relative)

    seconds = range(spec.seconds(row.part))
    labelled_seconds = spec.labelled_seconds(row.split, row.part)
    record: Record = {
        "clip_id": clip_id(spec, row),
        "file_names": [path(spec.frame_template, second) for second in seconds],
        "mask_file_names": [
            path(spec.mask_template, second) if second in labelled_seconds else None
            for second in seconds
        ],
        "audio_file": path(spec.wav_template),
        "log_mel_file": path(spec.log_mel_template) if spec.log_mel_template else None,
        "category": row.category,
    }
    if spec.pixel_classes:
        record["mask_form"] = spec.mask_form
        record["pixel_classes"] = len(spec.pixel_classes)
    if spec.object_mask_template is not None:
        record["object_mask_file_names"] = [
            path(spec.object_mask_template, second) for second in seconds
        ]
    return record


def _check_files(spec: SubsetSpec, root: str, split: str, records: list[Record]) -> None:
    missing = [name for record in records for name in record_files(record)]
    missing = [name for name in missing if not os.path.exists(name)]
    if not missing:
        return
    named = "\n  ".join(missing[:_NAMED_MISSING_FILES])
    more = len(missing) - _NAMED_MISSING_FILES
    raise FileNotFoundError(
        f"{spec.title}, split {split!r}: {len(missing)} of the files that {spec.csv_name} promises "
        f"are missing:\n  {named}\n"
        + (f"  and {more} more\n" if more > 0 else "")
        + f"Complete the data set; `python -m transavs.tools.check_avsbench {root}` lists them all"
    )
