"""Ctrl-C and its kin as a number, for work that ends in an orderly way."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class SignalCounter:
    """Counts Ctrl-C, SIGTERM and a closed terminal while it is entered.

    Processes that are started meanwhile can be stopped by SIGINT: a handler of ours becomes the
    system's own in them, even where a shell had us ignore Ctrl-C, as shells do with what runs in
    the background.

    Attributes:
        count: how many came.
    """

    def __init__(self) -> None:
        self.count = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> SignalCounter:
        self.count = 0
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # nohup means it.
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._note)
        except ValueError:
            # Not in the main thread (a notebook server, say): signals are not ours to handle.
            self._former = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
