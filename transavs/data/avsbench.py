"""Reads AVSBench-shaped folders into clip records; one reader for every subset.

A record is a dict of plain types:
    clip_id: str, the identity of the clip.
    file_names: T paths, the frame of each second.
    mask_file_names: T paths of ground-truth masks, None for a frame without label.
    audio_file: path of the wav file.
    log_mel_file: path of the official log-mel pickle, or None where there is none.
    category: str, or None where the subset has none.
    sound_labels (where known): T lists of indices into the sound classes, heard in that second.
    heard_classes, visible_classes (where known): names of the classes that are heard in any second,
        and of those known to be in the picture.
    object_mask_file_names, sounding_objects (sets with an objects file): T paths of label maps,
        and T lists of the label values of the objects that sound in that second.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transavs.data.avsbench_spec import SubsetSpec
from transavs.data.objects_file import ObjectsFile

Record = dict[str, Any]

ROOT_VARIABLE = "DETECTRON2_DATASETS"
_NAMED_MISSING_FILES = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CsvRow:
    """One clip of the metadata csv."""

    name: str
    category: str | None
    split: str
    line: int


def dataset_root() -> str:
    """Returns the folder of all data sets: ``$DETECTRON2_DATASETS``, or else ``datasets``."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE) or "datasets")


def subset_folder(spec: SubsetSpec, root: str) -> str:
    """Returns the folder that holds the csv of a subset."""
    return os.path.join(root, spec.root_folder, spec.folder)


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
    labelled_seconds = spec.split(split).labelled_seconds
    rows = [row for row in read_csv(spec, root) if row.split == split]
    if not rows:
        raise ValueError(
            f"{_csv_path(spec, root)} lists no clip of the split {split!r} ({spec.title})"
        )
    data_folder = os.path.join(subset_folder(spec, root), spec.data_folder)
    objects = ObjectsFile.read(spec, data_folder)
    sound_classes = objects.sound_classes if objects else spec.sound_classes
    records = []
    for row in rows:
        record = _media_paths(spec, data_folder, row, labelled_seconds)
        if objects:
            record.update(objects.describe(record["clip_id"], spec.clip_seconds))
        elif row.category in sound_classes:
            # One source a clip: its category is what is heard in every second.
            label = sound_classes.index(row.category)
            record["sound_labels"] = [[label] for _ in range(spec.clip_seconds)]
            record["heard_classes"] = record["visible_classes"] = [row.category]
        records.append(record)
    if check_files:
        _check_files(spec, root, split, records)
    for record in records:
        if not os.path.exists(record["log_mel_file"]):
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


def read_csv(spec: SubsetSpec, root: str) -> list[CsvRow]:
    """Returns the clips of all splits.

    Raises:
        FileNotFoundError: the root or the csv is not there.
        ValueError: no split column, a short row, an unknown split or category, a name that is no
            plain file name, or a clip listed twice.
    """
    path = _csv_path(spec, root)
    if not os.path.isfile(path):
        raise FileNotFoundError(_explain_missing_csv(spec, root))
    # utf-8-sig: tables saved by spreadsheet programs may start with a byte order mark.
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [title.strip() for title in next(reader, [])]
        if spec.split_header not in header:
            raise ValueError(
                f"{path}: the first line must be a header with a column "
                f"{spec.split_header!r}, got {header}"
            )
        split_column = header.index(spec.split_header)
        rows = [
            _parse_row(spec, path, reader.line_num, [cell.strip() for cell in cells], split_column)
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    first_line: dict[str, int] = {}
    for row in rows:
        clip_id = _clip_id(spec, row)
        if clip_id in first_line:
            raise ValueError(
                f"{path}: clip {clip_id!r} is listed twice, on lines {first_line[clip_id]} and "
                f"{row.line}; keep one of them"
            )
        first_line[clip_id] = row.line
    return rows


def _csv_path(spec: SubsetSpec, root: str) -> str:
    return os.path.join(subset_folder(spec, root), spec.csv_name)


def _clip_id(spec: SubsetSpec, row: CsvRow) -> str:
    return spec.clip_id_template.format(name=row.name, category=row.category)


def _explain_missing_csv(spec: SubsetSpec, root: str) -> str:
    expected = _csv_path(spec, root)
    if not os.path.isdir(root):
        return (
            f"{spec.title} needs the folder of your data sets, but {root!r} does not exist. Set "
            f"the environment variable {ROOT_VARIABLE} to the folder that holds "
            f"{os.path.join(spec.root_folder, spec.folder)}/ (see datasets/README.md)"
        )
    message = f"{spec.title}: no {expected}. "
    if os.path.basename(os.path.normpath(root)) == spec.folder:
        return message + (
            f"{ROOT_VARIABLE} points into the subset; let it point to the folder above, "
            f"{os.path.dirname(os.path.normpath(root)) or os.curdir}"
        )
    return message + (
        f"Expected the tree of datasets/README.md under {root!r}, the value of {ROOT_VARIABLE}"
    )


def _parse_row(
    spec: SubsetSpec, path: str, line: int, cells: list[str], split_column: int
) -> CsvRow:
    where = f"{path}, line {line}"
    columns = [spec.name_column, split_column]
    if spec.category_column is not None:
        columns.append(spec.category_column)
    if len(cells) <= max(columns):
        raise ValueError(f"{where}: expected at least {max(columns) + 1} columns, got {cells}")
    split = cells[split_column]
    if split not in spec.split_names:
        raise ValueError(
            f"{where}: expected a split out of {', '.join(spec.split_names)}, got {split!r}"
        )
    name = _path_component(cells[spec.name_column], where)
    category = None
    if spec.category_column is not None:
        category = _path_component(cells[spec.category_column], where)
        if spec.sound_classes and category not in spec.sound_classes:
            raise ValueError(f"{where}: {category!r} is no category of {spec.title}")
    return CsvRow(name, category, split, line)


def _path_component(text: str, where: str) -> str:
    # Names come from a downloaded table and become paths: they must not lead out of the data set.
    if text in ("", ".", "..") or any(sign in text for sign in "/\\:\0"):
        raise ValueError(
            f"{where}: {text!r} cannot be part of a file name; a name or category must be plain, "
            "without separators"
        )
    return text


def _media_paths(
    spec: SubsetSpec, data_folder: str, row: CsvRow, labelled_seconds: tuple[int, ...]
) -> Record:
    def path(template: str, second: int = 0) -> str:
        number = second + spec.first_frame_number
        relative = template.format(
            split=row.split, name=row.name, category=row.category, number=number
        )
        return os.path.join(data_folder, relative)

    seconds = range(spec.clip_seconds)
    record: Record = {
        "clip_id": _clip_id(spec, row),
        "file_names": [path(spec.frame_template, second) for second in seconds],
        "mask_file_names": [
            path(spec.mask_template, second) if second in labelled_seconds else None
            for second in seconds
        ],
        "audio_file": path(spec.wav_template),
        "log_mel_file": path(spec.log_mel_template),
        "category": row.category,
    }
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
