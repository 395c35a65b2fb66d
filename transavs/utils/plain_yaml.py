"""YAML files that hold plain values, looked at before anything acts on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

# As fvcore's configurations call the file, or the list of files, that they stand on.
_BASE = "_BASE_"
_MOST_BASES = 20
# A value that is repeated by name (&a, *a) counts each time: ten short lines can stand for 2^100.
_MOST_VALUES = 100_000
_DEEPEST = 50


class PlainLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        twice = [key for index, key in enumerate(keys) if key in keys[:index]]
        if twice:
            raise ValueError(f"line {node.start_mark.line + 1}: {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def read_plain_yaml(path: str | os.PathLike[str]) -> Any:
    """Returns what a YAML file holds: mappings, lists, texts, numbers, dates, None.

    Raises:
        ValueError: no YAML, tags that make other objects, a key given twice, or values that are
            nested or repeated beyond all use.
        OSError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        root = yaml.compose(text, yaml.SafeLoader)
        _count_values(root, 0, {})
        return yaml.load(text, PlainLoader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A tag such as !!bool takes any text for granted: KeyError and the like.
        raise ValueError(f"{path} is no plain YAML: {error}") from error
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} is no plain YAML: a value that does not fit its tag ({error!r})"
        ) from error


def check_config_file(path: str, within: tuple[str, ...] = ()) -> None:
    """Raises ValueError or OSError for a configuration that cannot be merged: what it holds, or a
    file that it names as its base, is no mapping of words.

    Args:
        path: of the file.
        within: the files that stand on it, the first one first.
    """
    here = os.path.realpath(path)
    if here in within:
        raise ValueError(f"{path} stands on itself by {_BASE}: take it out of that")
    if len(within) >= _MOST_BASES:
        raise ValueError(f"{path}: more than {_MOST_BASES} files stand on each other by {_BASE}")
    content = read_plain_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected YAML of keys and values such as 'SOLVER: {{MAX_ITER: 100}}', got "
            f"something else ({type(content).__name__})"
        )
    _check_keys(path, content)
    bases = content.get(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base or "://" in base or "\0" in base:
            raise ValueError(f"{path}: {_BASE}: expected the name of a file, got {base!r}")
        file = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        if not Path(file).is_file():
            raise FileNotFoundError(f"{path}: {_BASE}: there is no file {file}: mend its name")
        check_config_file(file, (*within, here))


def _check_keys(path: str, content: dict[Any, Any]) -> None:
    for key, value in content.items():
        if not isinstance(key, str):
            raise ValueError(f"{path}: expected words as keys, got {key!r}: put it into quotes")
        if isinstance(value, dict):
            _check_keys(path, value)


def _count_values(node: Any, depth: int, counts: dict[int, int]) -> int:
    """Returns how many values a part of a YAML file stands for; ValueError for too many."""
    if id(node) in counts:
        if not counts[id(node)]:
            raise ValueError("a value that holds itself")
        return counts[id(node)]
    if depth > _DEEPEST:
        raise ValueError(f"values nested more than {_DEEPEST} deep")
    counts[id(node)] = 0
    number = 1
    if isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for inner in item if isinstance(item, tuple) else (item,):
                number += _count_values(inner, depth + 1, counts)
    if number > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values, many of them repeated by name")
    counts[id(node)] = number
    return number
