"""Reads the metadata csv of a subset: which clips there are, and what is told of each."""

from __future__ import annotations

import csv
import logging
import os
from dataclasses import dataclass, replace

from transavs.data.avsbench_spec import SubsetSpec

ROOT_VARIABLE = "DETECTRON2_DATASETS"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CsvRow:
    """One clip of the metadata csv.

    Attributes:
        name: of the clip's files or folder.
        category: None where the subset has none.
        split: one of the subset's.
        line: of the file.
        part: None where the subset has none.
        heard: names of the classes that are heard; () where the csv does not tell.
    """

    name: str
    category: str | None
    split: str
    line: int
    part: str | None = None
    heard: tuple[str, ...] = ()


def dataset_root() -> str:
    """Returns the folder of all data sets: ``$DETECTRON2_DATASETS``, or else ``datasets``."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE) or "datasets")


def subset_folder(spec: SubsetSpec, root: str) -> str:
    """Returns the folder that holds the csv of a subset."""
    return os.path.join(root, spec.root_folder, spec.folder)


def read_csv(spec: SubsetSpec, root: str) -> list[CsvRow]:
    """Returns the clips of all splits.

    Raises:
        FileNotFoundError: the root or the csv is not there.
        ValueError: no readable table, no split column, moved columns, a short row, an unknown
            split, part or category, a name that is no plain file name, or a clip listed twice.
    """
    path = csv_path(spec, root)
    if not os.path.isfile(path):
        raise FileNotFoundError(_explain_missing_csv(spec, root))
    try:
        rows = _read_rows(spec, path)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text in UTF-8, got other bytes ({error.reason} at byte "
            f"{error.start}); save the table as UTF-8"
        ) from None
    except csv.Error as error:
        raise ValueError(f"{path} is no readable csv ({error})") from None
    first_line: dict[str, int] = {}
    for row in rows:
        name = clip_id(spec, row)
        if name in first_line:
            raise ValueError(
                f"{path}: clip {name!r} is listed twice, on lines {first_line[name]} and "
                f"{row.line}; keep one of them"
            )
        first_line[name] = row.line
    _warn_of_unknown_classes(spec, path, rows)
    return [
        replace(row, heard=tuple(name for name in row.heard if name in spec.sound_classes))
        for row in rows
    ]


def _read_rows(spec: SubsetSpec, path: str) -> list[CsvRow]:
    # utf-8-sig: tables saved by spreadsheet programs may start with a byte order mark.
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [title.strip() for title in next(reader, [])]
        if spec.split_header not in header:
            raise ValueError(
                f"{path}: the first line must be a header with a column "
                f"{spec.split_header!r}, got {header}"
            )
        _check_columns(spec, path, header)
        split_column = header.index(spec.split_header)
        return [
            _parse_row(spec, path, reader.line_num, [cell.strip() for cell in cells], split_column)
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]


def _check_columns(spec: SubsetSpec, path: str, header: list[str]) -> None:
    """Refuses a table whose columns were moved, as by an index put before them."""
    for place, title in enumerate(spec.columns):
        if title in header and header.index(title) != place:
            raise ValueError(
                f"{path}: columns are read by position, expected {', '.join(spec.columns)}, got "
                f"{', '.join(header)}; restore the order of the data set's archive"
            )


def csv_path(spec: SubsetSpec, root: str) -> str:
    """Returns the path of the metadata csv."""
    return os.path.join(subset_folder(spec, root), spec.csv_name)


def clip_id(spec: SubsetSpec, row: CsvRow) -> str:
    """Returns the identity of a clip in records, results and objects files."""
    return spec.clip_id_template.format(name=row.name, category=row.category, part=row.part)


def _warn_of_unknown_classes(spec: SubsetSpec, path: str, rows: list[CsvRow]) -> None:
    # They only choose sounds from off screen: no reason to refuse the clips.
    unknown = {name for row in rows for name in row.heard} - set(spec.sound_classes)
    if unknown:
        logger.warning(
            "%s names classes that are none of %s and are left out: %s",
            path,
            spec.title,
            ", ".join(sorted(unknown)),
        )


def _explain_missing_csv(spec: SubsetSpec, root: str) -> str:
    expected = csv_path(spec, root)
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
    optional = (spec.category_column, spec.part_column, spec.heard_column)
    columns = [spec.name_column, split_column, *(each for each in optional if each is not None)]
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
    part = None
    if spec.part_column is not None:
        part = cells[spec.part_column]
        if part not in spec.part_names:
            raise ValueError(
                f"{where}: expected a part out of {', '.join(spec.part_names)}, got {part!r}"
            )
    heard: tuple[str, ...] = ()
    if spec.heard_column is not None:
        heard = tuple(each for each in cells[spec.heard_column].split("_") if each)
    return CsvRow(name, category, split, line, part, heard)


def _path_component(text: str, where: str) -> str:
    # Names come from a downloaded table and become paths: they must not lead out of the data set.
    if text in ("", ".", "..") or any(sign in text for sign in "/\\:\0"):
        raise ValueError(
            f"{where}: {text!r} cannot be part of a file name; a name or category must be plain, "
            "without separators"
        )
    return text
