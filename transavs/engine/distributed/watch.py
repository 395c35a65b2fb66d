"""Threads in every process of a job that notice the end of any other.

Waiting for the exchange that fails is not enough: NCCL waits for its whole timeout, and so does
gloo for a machine that lost its power, because nobody is left to close the connection.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from torch.distributed import Store

from transavs.engine.distributed.failure import Failure, published

#: A process that was silent for so many seconds is dead.
SILENCE_SECONDS = 30.0
_BEATS_PER_SILENCE = 8
#: For a process to end on its own, by the same cause.
_GRACE_SECONDS = 5.0
_LEFT = -(10**12)


class Watch(threading.Thread):
    """Ends this process when the job does.

    Args:
        store: a connection of its own to what all processes share, see ``Store.clone``.
        rank, world_size: of this process.
        end: called with what ended the job, unless :meth:`leave` was called; ends the process.
        silence: seconds after which another process is given up.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world_size: int,
        end: Callable[[Failure], None],
        silence: float = SILENCE_SECONDS,
    ) -> None:
        super().__init__(name="watch over the job", daemon=True)
        self._pulse = _Pulse(store, rank, world_size, silence)
        self._end = end
        self._silence = silence
        self._left = self._pulse.left

    def run(self) -> None:
        """Watches until the job ends or :meth:`leave` is called."""
        self._pulse.start()
        period = self._silence / _BEATS_PER_SILENCE
        # A store whose machine lost its power keeps its callers waiting: hence two threads.
        while not self._left.wait(period):
            failure = self._pulse.failure
            if failure is None and time.monotonic() - self._pulse.answered > self._silence:
                message = f"had no answer from the machine with rank 0 for {self._silence:g} s"
                failure = Failure(self._pulse.own_name, message)
            if failure is not None:
                if not self._left.wait(min(_GRACE_SECONDS, period)):
                    self._end(failure)
                return

    def leave(self) -> None:
        """Ends the watch; nobody shall miss this process from now on."""
        self._left.set()
        self.join()
        self._pulse.join(_GRACE_SECONDS)


class _Pulse(threading.Thread):
    """Says in the store that this process lives, and listens there for all others.

    Attributes:
        left: to be set when this process leaves.
        answered: when the store did, by the monotonic clock.
        failure: what ended the job; None while nothing has.
    """

    def __init__(self, store: Store, rank: int, world_size: int, silence: float) -> None:
        super().__init__(name="pulse", daemon=True)
        self.left = threading.Event()
        self.answered = time.monotonic()
        self.failure: Failure | None = None
        self._store = store
        self._rank = rank
        self._world_size = world_size
        self._silence = silence
        self._parent = os.getppid()
        self._missing = [other for other in range(world_size) if other != rank]
        self._heard: dict[int, tuple[int, float]] = {}

    @property
    def own_name(self) -> str:
        return self._process(self._rank)

    def run(self) -> None:
        try:
            while self.failure is None:
                self._store.add(_alive(self._rank), 1)
                self.failure = published(self._store) or self._find()
                self.answered = time.monotonic()
                if self.left.wait(self._silence / _BEATS_PER_SILENCE):
                    break
            self._store.add(_alive(self._rank), _LEFT)
        except RuntimeError as error:
            message = f"lost the store of the machine with rank 0: {error}"
            self.failure = Failure(self.own_name, message, echo=True)

    def _find(self) -> Failure | None:
        silent = self._silent()
        if silent is not None:
            message = f"has not been heard of for {self._silence:g} s"
            return Failure(self._process(silent), message).publish(self._store)
        if os.getppid() != self._parent:
            return Failure(self.own_name, "lost the process that started it").publish(self._store)
        return None

    def _silent(self) -> int | None:
        """Returns a process that joined, did not leave, and is silent; None if there is none."""
        # Whoever has not joined yet has a timeout of its own.
        joined = [rank for rank in self._missing if self._store.check([_alive(rank)])]
        self._missing = [rank for rank in self._missing if rank not in joined]
        ranks = [*self._heard, *joined]
        values = self._store.multi_get([_alive(rank) for rank in ranks]) if ranks else []
        now = time.monotonic()
        for rank, value in zip(ranks, map(int, values), strict=True):
            beats, moment = self._heard.get(rank, (None, now))
            if value < 0:
                self._heard.pop(rank, None)
            elif value != beats:
                self._heard[rank] = (value, now)
            elif now - moment > self._silence:
                return rank
        return None

    def _process(self, rank: int) -> str:
        return f"process {rank} of {self._world_size}"


def _alive(rank: int) -> str:
    return f"alive/{rank}"
