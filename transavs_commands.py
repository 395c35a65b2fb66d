"""Starts the commands that pip installs: ``transavs_commands:train_net`` is ``transavs-train``.

Outside of the package, whose import takes seconds: Ctrl-C ends those seconds without a traceback.
"""

import importlib
import importlib.util
from collections.abc import Callable

_INTERRUPTED = 130


def __getattr__(name: str) -> Callable[[], int]:
    """Returns what runs the command ``NAME`` of ``transavs/apps``, or of ``transavs/tools``."""
    if name.startswith("_"):
        raise AttributeError(name)

    def start() -> int:
        try:
            room = "apps" if importlib.util.find_spec(f"transavs.apps.{name}") else "tools"
            main: Callable[[], int] = importlib.import_module(f"transavs.{room}.{name}").main
        except KeyboardInterrupt:
            return _INTERRUPTED
        return main()

    return start
