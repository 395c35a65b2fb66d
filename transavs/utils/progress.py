"""One progress bar for all long work, and messages that do not end up on its line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

# Seconds between two updates: on a terminal, and in a log file, where each is a line's worth.
_TERMINAL_INTERVAL = 0.2
_LOG_INTERVAL = 20.0


class LogAroundBars(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes messages to stderr on lines of their own: bars make room, and are drawn again."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def progress_bar(
    items: Iterable[Item] | None,
    doing: str,
    unit: str,
    total: int | None = None,
    *,
    leave: bool = True,
    disable: bool | None = False,
) -> tqdm:
    """Returns ``items`` with a bar on stderr that shows count, speed and remaining time.

    Args:
        items: what is worked on; None for a bar that is moved by its ``update``.
        doing: the bar's title.
        unit: of one item.
        total: how many, where ``items`` does not know its length.
        leave: whether the bar stays when it is full.
        disable: True shows nothing; None shows nothing where stderr is no terminal.
    """
    interval = _TERMINAL_INTERVAL if sys.stderr.isatty() else _LOG_INTERVAL
    return tqdm(
        items,
        desc=doing,
        unit=unit,
        total=total,
        mininterval=interval,
        maxinterval=2 * interval,
        leave=leave,
        disable=disable,
    )
