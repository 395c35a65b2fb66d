"""Folders and files that one command works on at a time.

The system frees a lock when the process that holds it ends, in whatever way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from transavs.utils.whole_files import make_folder


@contextmanager
def lock_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps a folder for this process; ValueError where another command is at work in it.

    The folder is made if it is not there, and removed again if nothing was put into it.
    """
    folder = Path(folder).absolute()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        with _held(folder / ".work.lock", f"at work in {folder}"):
            yield
    finally:
        with suppress(OSError):  # not empty, as it should be
            for path in made:
                path.rmdir()


@contextmanager
def lock_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps a file to be written for this process; ValueError where another one writes it."""
    path = Path(path)
    with _held(path.with_name(f".{path.name}.lock"), f"writing {path}"):
        yield


@contextmanager
def _held(path: Path, what: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        process = path.read_text().strip() if path.exists() else ""
        raise ValueError(
            f"another command is {what}: process {process or 'unknown'}. Wait until it has ended, "
            "or name another place"
        ) from None
    try:
        path.write_text(f"{os.getpid()}\n")
        yield
    finally:
        # Safe while it is held: whoever waits for it sees that the file has lost its name.
        path.unlink(missing_ok=True)
        lock.release()
