"""A folder that one command works in at a time, as long as anything it started still runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class FolderLock:
    """Holds a lock on a folder; processes that inherit its descriptor hold it as well.

    The system lets go of it when the last of them ends, in whatever way, so that none is ever left
    behind.

    Args:
        folder: made if it is not there; gets a file ``.lock``.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._path = Path(folder) / ".lock"
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        """To be passed on to processes, such as by ``subprocess.Popen(..., pass_fds=...)``."""
        return self._descriptor

    def note(self, process: int) -> None:
        """Notes a process that inherited the lock, to be named to whoever meets it."""
        os.write(self._descriptor, f"{process}\n".encode())

    def __enter__(self) -> FolderLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(self._path, flags, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise ValueError(
                f"another command is at work in {self._path.parent}, or something that it left "
                f"behind: processes {', '.join(self._running()) or 'unknown'}. Wait for it, or end "
                "it with: kill -INT PROCESS"
            ) from None
        os.ftruncate(self._descriptor, 0)
        self.note(os.getpid())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def _running(self) -> list[str]:
        return [word for word in self._path.read_text().split() if _is_alive(word)]


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
