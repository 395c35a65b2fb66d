"""Checks data sets in AVSBench's layout: what is there, what is missing, what is broken.

Usage: ``python -m transavs.tools.check_avsbench ROOT [--full]``, ROOT being the value of
``DETECTRON2_DATASETS``. The exit status is 0 if all is well, 1 if there are problems, and 2 if
there was nothing to check.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import soundfile

from transavs.audio import load_waveform
from transavs.data.audio_files import read_pickle_examples
from transavs.data.avsbench import Record, load_avsbench, read_csv, subset_folder
from transavs.data.avsbench_spec import REGISTERED_SUBSETS, SubsetSpec
from transavs.data.class_maps import read_class_map
from transavs.tools.command_line import CommandParser, command
from transavs.utils.image_files import (
    Image,
    check_same_size,
    read_frame,
    read_label_map,
    read_mask,
    read_picture_size,
)
from transavs.utils.progress import progress_bar

ALL_WELL, PROBLEMS = 0, 1


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Prints what there is and what is wrong; returns the exit code."""
    parser = CommandParser(
        prog="check_avsbench",
        description="Checks the AVSBench and demo subsets under ROOT against their csv and the "
        "published counts, and lists every missing or broken file.",
    )
    parser.add_argument("root", metavar="ROOT", help="the folder that holds Single-source/ etc.")
    parser.add_argument(
        "--full",
        action="store_true",
        help="decode every picture and sound instead of looking at their headers (minutes)",
    )
    arguments = parser.parse_args(argv)
    root = arguments.root
    if not os.path.isdir(root):
        raise ValueError(f"ROOT must be a folder, got {root!r}: see datasets/README.md")
    known = [spec for specs in REGISTERED_SUBSETS.values() for spec in specs]
    here = os.path.normpath(os.path.abspath(root))
    inner_folders = {name for spec in known for name in (spec.folder, spec.root_folder)}
    if os.path.basename(here) in inner_folders:
        raise ValueError(f"ROOT is the folder above, {os.path.dirname(here)}: name that")
    found = [spec for spec in known if os.path.isdir(subset_folder(spec, root))]
    if not found:
        expected = ", ".join(
            dict.fromkeys(os.path.join(spec.root_folder, spec.folder) for spec in known)
        )
        raise ValueError(f"no subset under {root}: expected one of {expected}")
    absent = _absent_forms(found, root)
    for spec in absent:
        print(f"{spec.title}: no such masks; not checked")
    told: set[str] = set()
    for spec in found:
        if spec not in absent:
            _report_subset(spec, root, arguments.full, told)
    count = len(told)
    print(f"{count} problems found" if count else "no problem found")
    return PROBLEMS if count else ALL_WELL


def _absent_forms(found: Sequence[SubsetSpec], root: str) -> list[SubsetSpec]:
    """Returns the subsets without any mask, where masks of another form are in the same folder."""

    def has_masks(spec: SubsetSpec) -> bool:
        for split in spec.split_names:
            with _noting([]):
                records = load_avsbench(spec, root, split, check_files=False)
                names = (name for record in records for name in record["mask_file_names"] if name)
                if any(map(os.path.exists, names)):
                    return True
        return False

    absent = []
    for spec in found:
        folder = subset_folder(spec, root)
        others = [
            each for each in found if each is not spec and subset_folder(each, root) == folder
        ]
        if others and not has_masks(spec) and any(map(has_masks, others)):
            absent.append(spec)
    return absent


def _class_index_problems(spec: SubsetSpec, root: str) -> list[str]:
    """Returns a line if the file of class names, where there is one, lists others than ours."""
    path = os.path.join(subset_folder(spec, root), spec.class_index_name or "")
    if spec.class_index_name is None or not os.path.exists(path):
        return []
    try:
        with open(path, encoding="utf-8") as file:
            names = list(json.load(file))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return [f"{path} is no list of class names in JSON ({error})"]
    for label, (expected, got) in enumerate(
        itertools.zip_longest(spec.pixel_classes, names, fillvalue="nothing")
    ):
        if expected != got:
            return [
                f"{path}: expected {len(spec.pixel_classes)} classes with {expected!r} at place "
                f"{label}, got {len(names)} with {got!r} there"
            ]
    return []


def _report_subset(spec: SubsetSpec, root: str, full: bool, told: set[str]) -> None:
    """Prints what was found of a subset, and adds its problems to those that were told.

    Two forms of one subset share a csv, frames and sounds: what was told is not told again.
    """
    print(f"{spec.title}: {subset_folder(spec, root)}")
    try:
        rows = read_csv(spec, root)
    except (FileNotFoundError, ValueError) as error:
        # The line above has the title.
        _tell([str(error).removeprefix(f"{spec.title}: ")], told)
        return
    _tell(_class_index_problems(spec, root), told)
    for split in spec.splits:
        problems: list[str] = []
        records: list[Record] = []
        clips = sum(row.split == split.name for row in rows)
        if split.published_clips not in (None, clips):
            problems.append(
                f"{spec.csv_name} lists {clips} clips of the split {split.name!r}, "
                f"published are {split.published_clips}"
            )
        if clips:
            with _noting(problems):
                records = load_avsbench(spec, root, split.name, check_files=False)
        progress = progress_bar(records, f"  {split.name}", "clip", leave=False, disable=None)
        for record in progress:
            problems.extend(check_record(record, full))
        print(f"  {split.name + ':':<8}{_describe_counts(clips, split.published_clips, records)}")
        _tell(problems, told)


def _tell(problems: Sequence[str], told: set[str]) -> None:
    for problem in problems:
        if problem not in told:
            print(f"    problem: {problem}")
            told.add(problem)


def _describe_counts(clips: int, published: int | None, records: Sequence[Record]) -> str:
    frames = [name for record in records for name in record["file_names"]]
    masks = [name for record in records for name in record["mask_file_names"] if name is not None]
    sounds = [record["audio_file"] for record in records]
    pickles = sum(record["log_mel_file"] is not None for record in records)
    announced = "" if published is None else f" (published: {published})"
    return (
        f"{clips} clips{announced}; found {_present(frames)} frames, {_present(masks)} masks, "
        f"{_present(sounds)} wav files, {pickles} log-mel pickles"
    )


def _present(names: Sequence[str]) -> str:
    return f"{sum(os.path.exists(name) for name in names)} of {len(names)}"


def check_record(record: Record, full: bool) -> list[str]:
    """Returns one line for every problem of a clip's files.

    Args:
        record: a clip record; its files need not exist.
        full: decode the files as training would; otherwise only their headers are read.
    """
    problems: list[str] = []
    decoded: dict[str, Image] = {}
    size: tuple[int, int] | None = None
    for read_picture, path in _pictures(record):
        with _noting(problems):
            if full:
                decoded[path] = read_picture(path)
            this_size = decoded[path].shape[:2] if full else read_picture_size(path)
            size = size or this_size
            check_same_size(path, this_size, size, f"the clip (see {record['file_names'][0]})")
    if full:
        problems.extend(_compare_masks_with_objects(record, decoded))
    with _noting(problems):
        if full:
            load_waveform(record["audio_file"])
        else:
            _look_at_wav(record["audio_file"])
    with _noting(problems):
        if full and record["log_mel_file"] is not None:
            read_pickle_examples(record["log_mel_file"], len(record["file_names"]))
    return problems


def _pictures(record: Record) -> Iterator[tuple[Callable[[str], Any], str]]:
    """Yields every picture of a clip with the function that reads it."""
    for path in record["file_names"]:
        yield read_frame, path
    for path in record["mask_file_names"]:
        if path is not None:
            yield partial(_read_any_mask, record), path
    for path in record.get("object_mask_file_names", ()):
        yield read_label_map, path


def _read_any_mask(record: Record, path: str) -> Image:
    if "mask_form" in record:
        return read_class_map(path, record["mask_form"], record["pixel_classes"])
    return read_mask(path)


def _compare_masks_with_objects(record: Record, decoded: dict[str, Image]) -> Iterator[str]:
    """Yields frames whose mask is not the union of the objects that sound in its second."""
    objects_names = record.get("object_mask_file_names", [])
    for second, objects_name in enumerate(objects_names):
        mask = decoded.get(record["mask_file_names"][second])
        labels = decoded.get(objects_name)
        if mask is None or labels is None or mask.shape != labels.shape:
            continue  # no label in this second, or a problem that was told already
        wrong = int((mask != np.isin(labels, record["sounding_objects"][second])).sum())
        if wrong:
            yield (
                f"{record['mask_file_names'][second]}: {wrong} pixels differ from the sounding "
                f"objects of {objects_name}"
            )


def _look_at_wav(path: str) -> None:
    if not os.path.exists(path):
        raise FileNotFoundError(f"no {path}; restore it from the data set's archive")
    try:
        frames = soundfile.info(path).frames
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} is no readable sound: {error}") from error
    if frames == 0:
        raise ValueError(f"{path} holds no sample")


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Turns what a reader raises about a file into a line, so that the check goes on."""
    try:
        yield
    except (OSError, ValueError) as error:
        problems.append(str(error))


if __name__ == "__main__":
    sys.exit(main())
