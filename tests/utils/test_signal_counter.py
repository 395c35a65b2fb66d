"""Signals are counted in place of ending the process, and handlers come back afterwards."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from transavs.utils.signal_counter import SignalCounter

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """As in a terminal, also where nohup has pytest ignore that one is closed."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in HANDLED]


def test_signals_are_counted() -> None:
    before = handlers()
    with SignalCounter() as counter:
        for number in HANDLED:
            os.kill(os.getpid(), number)
        assert counter.count == 3
    assert handlers() == before


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with SignalCounter() as counter:
        os.kill(os.getpid(), signal.SIGHUP)
        assert counter.count == 0


def test_other_threads_leave_signals_alone() -> None:
    before = handlers()
    seen: list[object] = []

    def work() -> None:
        with SignalCounter():
            seen.extend(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
