"""A worker process whose death is an answer like others: started anew, and items that kill it told.

A segmentation fault in a decoder, ``os._exit``, the kernel's memory killer: none of them reaches
whoever asks.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from transavs.engine.prediction import worker
from transavs.engine.prediction.manifest import Item
from transavs.engine.prediction.outcome import Outcome
from transavs.engine.prediction.settings import Settings

logger = logging.getLogger(__name__)

# Not by ``-m``: the package imports the module that would be run.
WORKER = (sys.executable, "-c", f"from {worker.__name__} import main; main()")
# How often in a row a process may die while it loads the model.
_MOST_DEATHS_AT_START = 3


class Stopped(Exception):
    """The worker was stopped by another thread."""


class GuardedWorker:
    """Predicts items in a process of its own, which is started with the first of them.

    Args:
        settings: how.
        description: of the model, which the process must have as well; None asks for nothing.
        attempts: an item is set aside when so many processes died over it.
        timeout_seconds: an item is set aside, and its process ended, when it takes longer; None
            waits for ever.
        command: that starts the process; descriptors are added to it.
    """

    def __init__(
        self,
        settings: Settings,
        description: Any = None,
        attempts: int = 2,
        timeout_seconds: float | None = None,
        command: Sequence[str] = WORKER,
    ) -> None:
        self._settings, self._description = settings, description
        self._attempts, self._timeout = attempts, timeout_seconds
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._alive = -1
        self._turn = threading.Lock()
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    def ask(self, item: Item) -> Outcome:
        """Returns what became of an item.

        Raises:
            ValueError: the process cannot load the model, or has another one.
            RuntimeError: it dies while it loads it, again and again.
            Stopped: :meth:`stop` was called.
        """
        end = ""
        for attempt in range(1, self._attempts + 1):
            self._start()
            try:
                kind, content = self._exchange(item.as_dict(), self._timeout)
            except TimeoutError:
                self._end()
                return Outcome(item.index, error=f"took longer than {self._timeout:g} s")
            except (EOFError, OSError):
                end = self._end()
                logger.warning("a worker ended (%s) over %s, time %d", end, item.id, attempt)
                continue
            if kind == worker.ROWS:
                return Outcome(item.index, rows=content)
            if kind == worker.BROKEN:
                self._end()
            return Outcome(item.index, error=str(content))
        times = "once" if self._attempts == 1 else f"{self._attempts} times"
        return Outcome(item.index, error=f"its worker process died {times} ({end})")

    def stop(self) -> None:
        """Ends the process at once, and for good; other threads may call it."""
        with self._turn:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Ends the process."""
        self._end()

    def _start(self) -> None:
        for _ in range(_MOST_DEATHS_AT_START):
            if self._process is not None and self._process.poll() is None:
                return
            self._end()
            self._spawn()
            try:
                kind, content = self._exchange(self._settings.as_dict(), None)
            except (EOFError, OSError):
                end = self._end()
                logger.warning("a worker ended (%s) while it loaded the model", end)
                continue
            if kind != worker.READY:
                raise ValueError(str(content))
            if self._description is not None and content != self._description:
                raise ValueError(
                    f"the model that a worker loaded from {self._settings.weights} is another than "
                    "the one here: all machines must have the same checkpoint and version"
                )
        if self._process is None:
            raise RuntimeError(
                f"worker processes died {_MOST_DEATHS_AT_START} times ({end}) while they loaded "
                "the model: there may be too little memory for so many; take fewer --workers"
            )

    def _spawn(self) -> None:
        with self._turn:
            if self._stopped:
                raise Stopped
            ours, theirs = socket.socketpair()
            alive, self._alive = os.pipe()
            with theirs:
                descriptors = (theirs.fileno(), alive)
                # A session of its own: Ctrl-C is ours to handle.
                self._process = subprocess.Popen(
                    [*self._command, *map(str, descriptors)],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            os.close(alive)
            self._connection = Connection(ours.detach())

    def _exchange(self, message: Any, timeout: float | None) -> tuple[str, Any]:
        assert self._connection is not None
        self._connection.send_bytes(json.dumps(message).encode())
        if timeout is not None and not self._connection.poll(timeout):
            raise TimeoutError
        kind, content = json.loads(self._connection.recv_bytes())
        return kind, content

    def _end(self) -> str:
        """Ends the process, if there is one; returns how it ended, in words."""
        with self._turn:
            if self._process is None:
                return ""
            process, self._process = self._process, None
            assert self._connection is not None
            self._connection.close()
            os.close(self._alive)
            try:
                code = process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if self._stopped:
                raise Stopped
            return _told(code)


def _told(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
