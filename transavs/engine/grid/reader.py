"""Reads a grid from its YAML file, and checks all of it before any training runs."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog

from transavs.config import add_transavs_config, setup_cfg
from transavs.data import CONDITIONS
from transavs.engine.grid import fields
from transavs.engine.grid.spec import Grid, Row
from transavs.utils.package_files import find_grid
from transavs.utils.plain_yaml import read_plain_yaml

GRID_FIELDS = ("config", "overrides", "seeds", "test", "conditions", "rows")
ROW_FIELDS = ("name", "title", "group", "config", "overrides", "seeds", "baseline")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?")


def read_grid(path: str | os.PathLike[str], extra: Mapping[str, str] | None = None) -> Grid:
    """Returns the grid of a file, with every row's configuration built once.

    Args:
        path: YAML with the fields ``config``, ``overrides``, ``seeds``, ``test``, ``conditions``
            and ``rows``; see ``configs/README.md``. Also the name of a shipped grid.
        extra: further common overrides; they win over the file's, rows win over them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: any mistake in it; the message names file, row and field.
    """
    path = find_grid(path)
    data = read_plain_yaml(path)
    fields.check_fields(path, data, GRID_FIELDS, needed=("seeds", "test", "rows"))
    test = _test(path, data["test"], data.get("conditions", list(CONDITIONS)))
    common = {
        "config": data.get("config"),
        "overrides": {
            **fields.overrides(path, data.get("overrides")),
            **fields.overrides("--set", extra),
        },
        "seeds": fields.seeds(path, data["seeds"]),
    }
    entries = data["rows"]
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: rows: expected a list of rows, got {entries!r}")
    rows: list[Row] = []
    for number, entry in enumerate(entries, start=1):
        row = _row(path, number, entry, common)
        for former in rows:
            # File systems that do not tell cases apart would give them one folder.
            if former.name.lower() == row.name.lower():
                raise ValueError(f"{path}: two rows are called {row.name!r}: rename one")
        rows.append(row)
    marked = [row.name for row in rows if row.baseline]
    if len(marked) > 1:
        raise ValueError(f"{path}: expected at most one row with baseline: true, got {marked}")
    return Grid(path, tuple(rows), test)


def _test(path: str, value: Any, common: Any) -> dict[str, tuple[str, ...]]:
    """Conditions by data set; a list of data sets, or None for one, stands for the common ones."""
    names = fields.names(f"{path}: test", list(value) if isinstance(value, dict) else value)
    own = value if isinstance(value, dict) else dict.fromkeys(names)
    fields.check_known(path, "data set", own, DatasetCatalog.list())
    test = {}
    for name, words in own.items():
        place = f"{path}: conditions" if words is None else f"{path}: test: {name}"
        conditions = fields.names(place, common if words is None else words)
        fields.check_known(path, "audio condition", conditions, list(CONDITIONS))
        if "original" not in conditions:
            raise ValueError(f"{place}: 'original' must be among them, got {conditions}")
        test[name] = tuple(conditions)
    return test


def _row(path: str, number: int, entry: Any, common: Mapping[str, Any]) -> Row:
    name = entry.get("name") if isinstance(entry, dict) else None
    place = f"{path}, row {name!r}" if isinstance(name, str) else f"{path}, row number {number}"
    fields.check_fields(place, entry, ROW_FIELDS, needed=("name",))
    if not isinstance(name, str) or not _FOLDER_NAME.fullmatch(name):
        raise ValueError(
            f"{place}: name: expected a name for a folder (letters, digits, '.', '_', '-'; at "
            f"most 80, from a letter or digit on), got {name!r}"
        )
    config = entry.get("config", common["config"])
    if not isinstance(config, str):
        raise ValueError(f"{place}: config: expected a file, got {config!r}")
    baseline = entry.get("baseline", False)
    if not isinstance(baseline, bool):
        raise ValueError(f"{place}: baseline: expected true or false, got {baseline!r}")
    seeds = fields.seeds(place, entry["seeds"]) if "seeds" in entry else common["seeds"]
    overrides = {**common["overrides"], **fields.overrides(place, entry.get("overrides"))}
    options = [word for pair in overrides.items() for word in pair]
    try:
        cfg = setup_cfg(config, options)
    except FileNotFoundError as error:
        raise ValueError(f"{place}: config: {error}") from error
    except (KeyError, AssertionError, ValueError, yaml.YAMLError) as error:
        # KeyError quotes its message; yacs asserts what it is given.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ValueError(f"{place}: {text}") from error
    return Row(
        name=name,
        title=fields.text(place, "title", entry.get("title", name)),
        group=fields.text(place, "group", entry.get("group", "")),
        config=config,
        options=tuple(options),
        seeds=seeds,
        baseline=baseline,
        settings=_settings(cfg),
        iterations=cfg.SOLVER.MAX_ITER,
        validated=bool(cfg.DATASETS.VAL) and cfg.TEST.EVAL_PERIOD > 0,
    )


def _settings(cfg: CfgNode) -> dict[str, Any]:
    """What differs from the defaults: a key that the library gains later changes no settings."""
    defaults = _default_values()
    return {
        key: value
        for key, value in _flat_values(cfg).items()
        if key not in fields.RESERVED_KEYS and (key not in defaults or defaults[key] != value)
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
