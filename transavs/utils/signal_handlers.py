"""Signals that are handled for a while, in another way than before."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TypeVar

Handler = Callable[[int, FrameType | None], Any]
Self = TypeVar("Self", bound="SignalHandlers")


class SignalHandlers:
    """Handles signals while it is entered, and then as before.

    In another thread than the main one (that of a notebook server, say) signals are not ours to
    handle, and nothing happens.

    Args:
        handler: given the number and the frame, as by ``signal.signal``.
        numbers: of the signals.
        unless_ignored: those of them that stay ignored where they are, as nohup has it.
    """

    def __init__(
        self, handler: Handler, numbers: Iterable[int], unless_ignored: Iterable[int] = ()
    ) -> None:
        self._handler = handler
        self._numbers, self._unless_ignored = tuple(numbers), frozenset(unless_ignored)
        self._former: dict[int, Any] = {}

    def __enter__(self: Self) -> Self:
        try:
            for number in self._numbers:
                ignored = signal.getsignal(number) == signal.SIG_IGN
                if not ignored or number not in self._unless_ignored:
                    self._former[number] = signal.signal(number, self._handler)
        except ValueError:  # not the main thread
            self._former = {}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
