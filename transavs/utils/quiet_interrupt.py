"""Ctrl-C amid the imports of a command."""

from __future__ import annotations

import sys
from types import TracebackType

_INTERRUPTED = 130


def exit_quietly_on_interrupt(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Ends the process with code 130 in the place of a traceback; meant for ``sys.excepthook``.

    Every other error is shown as ever.
    """
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    sys.__excepthook__(kind, error, traceback)
