"""Folders and files that one command works on at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# A folder that others make and remove all the time is there in one of them.
_TRIES = 100


class FolderLock:
    """Holds a lock on a folder; processes that inherit its descriptor hold it as well.

    One command works in the folder at a time, as long as anything it started still runs. The
    system lets go when the last of them ends, in whatever way, so that no lock is ever left behind.

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
        _lock(self._descriptor, self._held)
        os.ftruncate(self._descriptor, 0)
        self.note(os.getpid())
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def _held(self) -> str:
        running = [word for word in self._path.read_text().split() if _is_alive(word)]
        return (
            f"another command is at work in {self._path.parent}, or something that it left behind: "
            f"processes {', '.join(running) or 'unknown'}. Wait for it, or end it with: kill -INT "
            "PROCESS"
        )


class FileLock:
    """Holds a lock on a file that is about to be written, and that need not be there yet.

    Args:
        path: of the file; its folder is there. While the lock is held a file ``.NAME.lock`` lies
            beside it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Path(path)
        self._path = self._file.with_name(f".{self._file.name}.lock")
        self._descriptor = -1

    def __enter__(self) -> FileLock:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o644)
            self._lock()
            try:
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    return self
            except FileNotFoundError:
                pass
            # Whoever held the lock has just removed this file.
            os.close(self._descriptor)

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _lock(self) -> None:
        _lock(self._descriptor, self._held)

    def _held(self) -> str:
        return (
            f"another command is writing {self._file}: wait until it has ended, or name another "
            "file"
        )


class ProcessLock(FileLock):
    """Holds a lock on a folder for this process alone, not for those that it starts.

    They may outlive it by seconds after a kill, and the work can begin again at once. A second lock
    in the same process is not refused.

    Args:
        folder: made if it is not there, with those above it, and then removed again if nothing was
            put into it. While the lock is held a file ``.work.lock`` lies in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder).absolute()
        self._made: list[Path] = []
        super().__init__(self._folder / "work")

    def __enter__(self) -> ProcessLock:
        self._made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        for _ in range(_TRIES):
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another one has just removed the folder
                super().__enter__()
                return self
        raise ValueError(f"another command is at work in {self._folder}: try again")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        with suppress(OSError):  # not empty, as it should be
            for folder in self._made:
                folder.rmdir()

    def _lock(self) -> None:
        _lock(self._descriptor, self._held, fcntl.lockf)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def _held(self) -> str:
        process = ""
        with suppress(FileNotFoundError):  # just ended
            process = self._path.read_text().strip()
        return (
            f"another command is at work in {self._folder}: process {process or 'unknown'}. Wait "
            "until it has ended, or name another folder"
        )


def _lock(
    descriptor: int, held: Callable[[], str], lock: Callable[[int, int], object] | None = None
) -> None:
    """Locks an open file; if somebody else has, closes it and raises ValueError that says so."""
    try:
        (lock or fcntl.flock)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(held()) from None


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
