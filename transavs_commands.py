"""Starts the commands that pip installs: ``transavs_commands:train_net`` is ``transavs-train``.

Outside of the package, whose import takes seconds: Ctrl-C ends those seconds without a traceback.
"""

import importlib
from collections.abc import Callable

_INTERRUPTED = 130


def __getattr__(name: str) -> Callable[[], int]:
    """Returns what runs the command of ``transavs/tools/NAME.py``."""
    if name.startswith("_"):
        raise AttributeError(name)

    def start() -> int:
        try:
            main: Callable[[], int] = importlib.import_module(f"transavs.tools.{name}").main
        except KeyboardInterrupt:
            return _INTERRUPTED
        return main()

    return start
