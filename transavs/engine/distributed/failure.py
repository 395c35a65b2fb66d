"""What ended a job: told by the process that knows best, and to all the others."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import traceback
from dataclasses import asdict, dataclass, field

from torch.distributed import Store

from transavs.utils.whole_files import write_text

_KEY = "failure"
#: What gloo, NCCL and the store say of a process that another one left alone.
_LOST = re.compile(r"gloo/|NCCL|Connection (?:closed|reset)|Broken pipe|[Tt]imed? ?out|recvValue")


class JobFailed(RuntimeError):
    """A process of the job died; the message holds its own traceback."""


@dataclass(frozen=True)
class Failure:
    """The end of one process.

    Attributes:
        name: of the process.
        message: the error in a line or more, without traceback.
        details: its traceback; "" where there is none.
        mistake: of the user, to be told in a line: a ValueError or OSError.
        echo: perhaps only the answer to the end of another process.
        moment: in seconds since the epoch.
    """

    name: str
    message: str
    details: str = ""
    mistake: bool = False
    echo: bool = False
    moment: float = field(default_factory=time.time)

    @classmethod
    def of(cls, name: str, error: BaseException) -> Failure:
        """Returns the failure of a process that raised ``error``."""
        text = str(error) or type(error).__name__
        echo = isinstance(error, RuntimeError) and bool(_LOST.search(text))
        mistake = isinstance(error, (ValueError, OSError))
        details = "".join(traceback.format_exception(error))
        return cls(name, text, details, mistake, echo)

    @classmethod
    def of_exit(cls, name: str, code: int) -> Failure:
        """Returns the failure of a process that ended without a word."""
        if code >= 0:
            return cls(name, f"ended with exit code {code}")
        try:
            cause = signal.Signals(-code).name
        except ValueError:
            cause = f"signal {-code}"
        memory = "; out of memory, perhaps: see dmesg" if -code == signal.SIGKILL else ""
        return cls(name, f"was killed by {cause}{memory}")

    def error(self) -> Exception:
        """Returns what to raise where the job was started."""
        told = f"{self.name} {self.message}"
        if self.details:
            told = f"{self.name} failed:\n{self.details.rstrip()}"
        told += "\nThe whole job was ended; a training goes on with --resume."
        failed = JobFailed(told)
        if not self.mistake:
            return failed
        mistake = ValueError(self.message)
        mistake.__cause__ = failed
        return mistake

    def publish(self, store: Store) -> Failure:
        """Tells all processes, unless they know of another one; returns the one they know of."""
        try:
            known = store.compare_set(_KEY, "", json.dumps(asdict(self)))
        except RuntimeError:  # the store is gone, and whoever kept it
            return self
        return Failure(**json.loads(known))

    def write(self, path: str) -> None:
        """Writes the failure for :func:`read_failure`."""
        write_text(path, json.dumps(asdict(self)))


def read_failure(path: str) -> Failure | None:
    """Returns what :meth:`Failure.write` wrote; None where it did not."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        return Failure(**json.load(file))


def published(store: Store, seconds: float = 0.0) -> Failure | None:
    """Returns the failure that the job ends with; None if there is none within some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if store.check([_KEY]):
                return Failure(**json.loads(store.get(_KEY)))
        except RuntimeError:
            return None
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)
