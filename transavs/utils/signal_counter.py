"""Ctrl-C and its kin as a number, for work that ends in an orderly way."""

from __future__ import annotations

import signal
from types import FrameType

from transavs.utils.signal_handlers import SignalHandlers


class SignalCounter(SignalHandlers):
    """Counts Ctrl-C, SIGTERM and a closed terminal while it is entered.

    Processes that are started meanwhile can be stopped by SIGINT: a handler of ours becomes the
    system's own in them, even where a shell had us ignore Ctrl-C, as shells do with what runs in
    the background.

    Attributes:
        count: how many came.
    """

    def __init__(self) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        super().__init__(self._note, numbers, unless_ignored=[signal.SIGHUP])
        self.count = 0

    def __enter__(self) -> SignalCounter:
        self.count = 0
        return super().__enter__()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
