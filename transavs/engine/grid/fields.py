"""Checks of a grid file's fields; each mistake is a ValueError that names its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Keys that the grid sets itself -> where their value comes from.
RESERVED_KEYS = {"SEED": "seeds", "OUTPUT_DIR": "--output", "DATASETS.TEST": "test"}


def check_fields(place: str, data: Any, known: Sequence[str], needed: Sequence[str] = ()) -> None:
    """Checks that something is a mapping with known fields, the needed ones among them."""
    if not isinstance(data, dict):
        raise ValueError(f"{place}: expected the fields {', '.join(known)}, got {data!r}")
    check_known(place, "field", list(data), known)
    missing = [field for field in needed if field not in data]
    if missing:
        raise ValueError(f"{place}: {' and '.join(missing)} must be given")


def check_known(place: str, what: str, words: Iterable[Any], known: Sequence[Any]) -> None:
    """Checks that each word is a known one; the message lists those that are near it."""
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(str(word), list(map(str, known)), n=3)
            hint = f"near it: {', '.join(near)}" if near else f"known: {_listed(known)}"
            raise ValueError(f"{place}: no {what} is called {word!r}; {hint}")


def _listed(words: Sequence[Any], most: int = 12) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(map(str, words[:most])) + more


def names(place: str, value: Any) -> list[str]:
    """Returns a list of different names, at least one."""
    valid = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    if not valid or len(set(value)) < len(value):
        raise ValueError(f"{place}: expected a list of different names, got {value!r}")
    return list(value)


def text(place: str, field: str, value: Any) -> str:
    """Returns a line of text."""
    if not isinstance(value, str) or "\n" in value.strip():
        raise ValueError(f"{place}: {field}: expected a line of text, got {value!r}")
    return value.strip()


def seeds(place: str, value: Any) -> tuple[int, ...]:
    """Returns different seeds, at least one; a negative one would not fix anything."""
    valid = isinstance(value, list) and value and all(type(seed) is int for seed in value)
    if not valid or min(value) < 0 or len(set(value)) < len(value):
        raise ValueError(
            f"{place}: seeds: expected a list of different whole numbers from 0 on, got {value!r}"
        )
    return tuple(value)


def overrides(place: str, value: Any) -> dict[str, str]:
    """Returns values by key as words of a command line; text is as one would type it there."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: overrides: expected lines 'KEY: value', got {value!r}")
    words = {}
    for key, entry in value.items():
        if key in RESERVED_KEYS:
            raise ValueError(f"{place}: {key} is set by the grid: use {RESERVED_KEYS[key]}")
        if not isinstance(key, str) or not _is_plain(entry):
            raise ValueError(
                f"{place}: overrides: expected dotted keys with a number, text, true, false or a "
                f"list of those, got {key!r}: {entry!r}"
            )
        words[key] = entry if isinstance(entry, str) else repr(entry)
    return words


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
