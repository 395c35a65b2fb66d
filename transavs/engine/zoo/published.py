"""Numbers that others published, from the package's data file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

#: The data file, which says where its numbers were read.
PUBLISHED_FILE = Path(__file__).with_name("published.yaml")

#: Columns of the tables.
SUBSETS = ("S4", "MS3", "AVSS")

_READ = ("primary", "second-hand")


@dataclass(frozen=True)
class Family:
    """Metrics that compare with each other.

    Attributes:
        title: its name.
        values: what a cell holds, in this order.
        about: how they are computed.
        data_sets: registered name of the data set that a column is of, where we have the metric.
        others: of a subset whose cells hold other metrics than ``values``: their titles, and our
            names of them.
    """

    title: str
    values: tuple[str, ...]
    about: str
    data_sets: dict[str, str]
    others: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def has_f_clips(self) -> bool:
        """Whether its numbers depend on how many clips share a threshold."""
        return "M_F" in self.values

    def columns(self, subset: str) -> dict[str, str]:
        """Titles of what a subset's cells hold, and our names of it."""
        return self.others.get(subset, {value: value for value in self.values})


@dataclass(frozen=True)
class PublishedRow:
    """A model's published numbers.

    Attributes:
        method: its name, with venue and year or a number of arXiv.
        backbone: of images (and sound, where it is not VGGish); "" where unknown.
        pixels: side of the frames; None where unknown.
        cells: values by subset, as many as the family has; None for one that is not given.
        read: "primary" or "second-hand".
        configs: ours of the same model, by subset.
        note: what to know; "" for nothing.
        f_clips: clips that share a threshold in the method's M_F, by its code; None where its
            authors do not say.
    """

    method: str
    backbone: str
    pixels: int | None
    cells: dict[str, tuple[float | None, ...]]
    read: str
    configs: dict[str, str] = field(default_factory=dict)
    note: str = ""
    f_clips: int | None = None


@dataclass(frozen=True)
class Group:
    """Rows of one table.

    Attributes:
        title: of the table.
        family: what its numbers are.
        rows: in their order.
    """

    title: str
    family: Family
    rows: tuple[PublishedRow, ...]


def read_published(path: str | os.PathLike[str] = PUBLISHED_FILE) -> dict[str, Group]:
    """Returns the tables of a data file, by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row has no group, cells of another number than its family has, or a number of
            clips a threshold that is none.
    """
    with open(path, encoding="utf-8") as file:
        data = yaml.safe_load(file)
    families = {
        name: Family(
            entry["title"],
            tuple(entry["values"]),
            entry["about"],
            dict(entry["data_sets"]),
            dict(entry.get("others", {})),
        )
        for name, entry in data["families"].items()
    }
    rows: dict[str, list[PublishedRow]] = {name: [] for name in data["groups"]}
    for entry in data["rows"]:
        name = entry["group"]
        if name not in rows:
            raise ValueError(f"{path}: {entry['method']}: there is no group {name!r}")
        rows[name].append(_row(path, entry, families[data["groups"][name]["family"]]))
    return {
        name: Group(entry["title"], families[entry["family"]], tuple(rows[name]))
        for name, entry in data["groups"].items()
    }


def _row(path: str | os.PathLike[str], entry: dict[str, Any], family: Family) -> PublishedRow:
    cells = {subset: tuple(entry[subset]) for subset in SUBSETS if subset in entry}
    count = len(family.values)
    if not cells or any(len(cell) != count for cell in cells.values()):
        raise ValueError(
            f"{path}: {entry['method']}: expected cells of {count} value(s) "
            f"({', '.join(family.values)}), got {cells or 'none'}"
        )
    if entry["read"] not in _READ:
        raise ValueError(
            f"{path}: {entry['method']}: read must be one of {', '.join(_READ)}, got "
            f"{entry['read']!r}"
        )
    f_clips = entry.get("f_clips")
    if f_clips is not None and not (family.has_f_clips and type(f_clips) is int and f_clips > 0):
        raise ValueError(
            f"{path}: {entry['method']}: f_clips must be a number of clips, and only where the "
            f"family {family.title!r} has M_F, got {f_clips!r}; leave it out where it is not known"
        )
    return PublishedRow(
        entry["method"],
        entry["backbone"],
        entry["pixels"],
        cells,
        entry["read"],
        dict(entry.get("configs", {})),
        entry.get("note", ""),
        f_clips,
    )
