"""The grid file of an ablation: which trainings it has, and how each model is evaluated."""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog

from transavs.config import add_transavs_config
from transavs.data import CONDITIONS
from transavs.tools.command_line import read_cfg
from transavs.utils.package_files import find_grid
from transavs.utils.plain_yaml import read_plain_yaml

_GRID_FIELDS = ("config", "overrides", "seeds", "test", "conditions", "rows")
_ROW_FIELDS = ("name", "title", "group", "config", "overrides", "seeds", "baseline")
#: Keys that the command sets itself -> where their value comes from.
_RESERVED = {"SEED": "seeds", "OUTPUT_DIR": "--output", "DATASETS.TEST": "test"}
_FOLDER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?")


@dataclass(frozen=True)
class Row:
    """One line of the table: a configuration, trained once with each seed.

    Attributes:
        name, title: its names as a folder's, and for people.
        group: the heading under which neighbouring rows stand; "" for none.
        options: overrides of ``config`` as words of a command line: KEY VALUE KEY VALUE ...
        baseline: whether the other rows are compared with it.
        settings: every value that differs from the library's defaults, by dotted key; without
            the keys that the command sets itself. Equal settings train alike.
        iterations: the length of a training.
        validated: whether a training keeps its best model by validation.
    """

    name: str
    title: str
    group: str
    config: str
    options: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: bool
    settings: Mapping[str, Any]
    iterations: int
    validated: bool

    @property
    def command(self) -> str:
        """The line that trains it with its first seed, as a person would type it."""
        words = ["python", "tools/train_net.py", "--config-file", self.config, *self.options]
        return shlex.join([*words, "SEED", str(self.seeds[0])])


@dataclass(frozen=True)
class Grid:
    """All rows of a grid file, and how their models are evaluated.

    Attributes:
        path: the file.
        rows: the rows in the file's order.
        test: the data sets to evaluate on, each with its audio conditions, "original" among them;
            most scores of the table are those of the first data set.
    """

    path: str
    rows: tuple[Row, ...]
    test: Mapping[str, tuple[str, ...]]

    @property
    def main_test(self) -> str:
        """The data set that most scores are of."""
        return next(iter(self.test))

    def choose(self, rows: Sequence[str], seeds: Sequence[int]) -> list[tuple[Row, int]]:
        """Returns rows with seeds, seed by seed: an interrupted grid has all rows of the first.

        Of the rows and seeds those that are named; () stands for all.
        """
        every_seed = list(dict.fromkeys(seed for row in self.rows for seed in row.seeds))
        _check_known(f"{self.path}: rows", rows, [row.name for row in self.rows])
        _check_known(f"{self.path}: seeds", seeds, every_seed)
        return [
            (row, seed)
            for seed in every_seed
            for row in self.rows
            if seed in row.seeds and (not rows or row.name in rows) and (not seeds or seed in seeds)
        ]


def read_grid(path: str | os.PathLike[str], extra: Mapping[str, str] | None = None) -> Grid:
    """Returns the grid of a file, with every row's configuration built once.

    Args:
        path: YAML as ``configs/README.md`` describes it, or the name of a shipped grid.
        extra: further common overrides; they win over the file's, rows win over them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: any mistake in it; the message names file, row and field.
    """
    path = find_grid(path)
    data = _fields(path, read_plain_yaml(path), _GRID_FIELDS, needed=("seeds", "test", "rows"))
    overrides = _overrides(path, data.get("overrides")) | _overrides("--set", extra)
    common = {"config": data.get("config"), "seeds": data["seeds"]}
    test = _test(path, data["test"], data.get("conditions", list(CONDITIONS)))
    entries = data["rows"]
    _check(isinstance(entries, list) and entries, f"{path}: rows", "a list of rows", entries)
    rows = tuple(_row(path, i, entry, common, overrides) for i, entry in enumerate(entries, 1))
    # File systems that do not tell cases apart would give two names one folder.
    _check_names(f"{path}: rows", [row.name.lower() for row in rows])
    marked = [row.name for row in rows if row.baseline]
    _check(len(marked) < 2, f"{path}: baseline", "one row at most", marked)
    return Grid(path, rows, test)


def _row(
    path: str, number: int, entry: Any, common: Mapping[str, Any], overrides: Mapping[str, str]
) -> Row:
    name = entry.get("name") if isinstance(entry, dict) else None
    place = f"{path}, row {number if name is None else repr(name)}"
    given = _fields(place, entry, _ROW_FIELDS, needed=("name",))
    fields = {**common, "title": name, "group": "", "baseline": False, **given}
    named = isinstance(name, str) and _FOLDER_NAME.fullmatch(name)
    _check(named, f"{place}: name", "1 to 80 letters, digits, '.', '_', '-' for a folder", name)
    for field in ("title", "group", "config"):
        line = isinstance(fields[field], str) and "\n" not in fields[field].strip()
        _check(line, f"{place}: {field}", "a line of text", fields[field])
    flag = fields["baseline"]
    _check(isinstance(flag, bool), f"{place}: baseline", "true or false", flag)
    seeds = fields["seeds"]
    valid = isinstance(seeds, list) and seeds and all(type(s) is int and s >= 0 for s in seeds)
    expected = "a list of different whole numbers from 0 on"
    _check(valid and len(set(seeds)) == len(seeds), f"{place}: seeds", expected, seeds)
    words = {**overrides, **_overrides(place, fields.get("overrides"))}
    options = tuple(word for pair in words.items() for word in pair)
    try:
        cfg = read_cfg(fields["config"], options)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{place}: {error}") from error
    return Row(
        name=str(name),
        title=fields["title"].strip(),
        group=fields["group"].strip(),
        config=fields["config"],
        options=options,
        seeds=tuple(seeds),
        baseline=flag,
        settings=_settings(cfg),
        iterations=cfg.SOLVER.MAX_ITER,
        validated=bool(cfg.DATASETS.VAL) and cfg.TEST.EVAL_PERIOD > 0,
    )


def _test(path: str, value: Any, common: Any) -> dict[str, tuple[str, ...]]:
    """Conditions by data set; a list of data sets, or None for one, stands for the common ones."""
    _check_names(f"{path}: test", list(value) if isinstance(value, dict) else value)
    _check_known(f"{path}: test", value, DatasetCatalog.list())
    own = value if isinstance(value, dict) else dict.fromkeys(value)
    test = {}
    for name, words in own.items():
        place = f"{path}: conditions" if words is None else f"{path}: test: {name}"
        conditions = common if words is None else words
        _check_names(place, conditions)
        _check_known(place, conditions, list(CONDITIONS))
        _check("original" in conditions, place, "'original' among them", conditions)
        test[name] = tuple(conditions)
    return test


def _overrides(place: str, value: Any) -> dict[str, str]:
    """Values by key as words of a command line; text stays as one would type it there."""
    value = {} if value is None else value
    _check(isinstance(value, Mapping), f"{place}: overrides", "lines 'KEY: value'", value)
    for key, entry in value.items():
        _check(key not in _RESERVED, place, f"{_RESERVED.get(key)} in the place of {key}", entry)
        valid = isinstance(key, str) and isinstance(entry, str | int | float | list | None)
        _check(valid, f"{place}: overrides: {key}", "a number, text, true, false or a list", entry)
    return {k: entry if isinstance(entry, str) else repr(entry) for k, entry in value.items()}


def _fields(
    place: str, data: Any, known: Sequence[str], needed: Sequence[str]
) -> Mapping[str, Any]:
    valid = isinstance(data, dict) and all(field in data for field in needed)
    _check(valid, place, f"the fields {', '.join(known)} ({' and '.join(needed)} needed)", data)
    _check_known(place, data, known)
    return dict(data)


def _check_names(place: str, value: Any) -> None:
    valid = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    _check(valid and len(set(value)) == len(value), place, "a list of different names", value)


def _check_known(place: str, words: Iterable[Any], known: Sequence[Any]) -> None:
    for word in words:
        near = difflib.get_close_matches(str(word), list(map(str, known)), n=3)
        hint = f"near it: {', '.join(near)}" if near else f"one of {', '.join(map(str, known))}"
        _check(word in known, place, f"a known name ({hint})", word)


def _check(valid: object, place: str, expected: str, got: Any) -> None:
    if not valid:
        raise ValueError(f"{place}: expected {expected}, got {got!r}")


def _settings(cfg: CfgNode) -> dict[str, Any]:
    """What differs from the defaults: a key that the library gains later changes no settings."""
    missing = object()
    return {
        key: value
        for key, value in _flat_values(cfg).items()
        if key not in _RESERVED and _default_values().get(key, missing) != value
    }


@functools.cache
def _default_values() -> dict[str, Any]:
    cfg = get_cfg()
    add_transavs_config(cfg)
    return _flat_values(cfg)


def _flat_values(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, CfgNode):
            values |= _flat_values(value, f"{prefix}{name}.")
        else:
            # As it comes back from a file: tuples are lists.
            values[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return values
