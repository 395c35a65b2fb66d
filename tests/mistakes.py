"""Calls a command with something bad, and holds what every command promises about mistakes.

The exit code is 2; one line on stderr names the thing and says how to mend it; there is no
traceback; and no file is new, gone or changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Case(NamedTuple):
    """A mistake.

    Attributes:
        name: of the case.
        tool: module of ``transavs.apps`` or ``transavs.tools``.
        words: of the command line; ``{}`` stands for the test's folder.
        names: what the line must name: a file, or an option.
        told: regular expression of what the line must say: what is wrong, and the way out.
        prepare: makes the bad thing in the test's folder.
    """

    name: str
    tool: str
    words: str
    names: str
    told: str
    prepare: Callable[[Path], Any] | None = None


def command_module(name: str) -> Any:
    """The module of a command, where it has moved to or where it still is."""
    name = {"webdemo": "web", "demo_report": "report"}.get(name, name)
    room = "apps" if importlib.util.find_spec(f"transavs.apps.{name}") else "tools"
    return importlib.import_module(f"transavs.{room}.{name}")


def cases(*entries: Case) -> Any:
    """Decorates a test of one case."""
    return pytest.mark.parametrize("case", entries, ids=lambda case: f"{case.tool}: {case.name}")


def write(name: str, content: str | bytes) -> Callable[[Path], Any]:
    """Returns what writes a file of the test's folder."""

    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return prepare


def check(case: Case, folder: Path, capsys: Any, options: Sequence[str] = ()) -> None:
    """Prepares the case in a folder, runs the command, and holds the promises."""
    if case.prepare:
        case.prepare(folder)
    before = contents(folder)
    words = [word.replace("{}", str(folder)) for word in case.words.split()]
    capsys.readouterr()
    main = command_module(case.tool).main
    try:
        code = main([*words, *options])
    except SystemExit as ended:  # argparse
        code = ended.code
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert "Traceback" not in printed.err + printed.out
    lines = [line for line in printed.err.splitlines() if re.match(r"\S+: error: ", line)]
    assert len(lines) == 1, printed.err
    assert printed.err.endswith(f"{lines[0]}\n")
    assert case.names in lines[0], lines[0]
    assert re.search(case.told, lines[0]), lines[0]
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
