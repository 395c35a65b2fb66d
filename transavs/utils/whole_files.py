"""Files that are written in one step: nobody ever reads half of one."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

# What a disk, or a user's share of it, says when it is full.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Characters of a file's name in that of its temporary file, which must not grow too long.
_KEPT_OF_NAME = 40


class WholeFile:
    """A file that is written under another name beside its own, and gets its own when it is whole.

    Several may be written to one path at once: each has another name, and what is finished last
    stays.

    Args:
        path: of the file; its folder is made if needed, an existing file is replaced at the end.

    Attributes:
        temporary: where to write, an absolute path; an empty file is there already.

    Raises:
        OSError: there cannot be such a file; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        folder = self.path.parent
        try:
            make_folder(folder)
            if _is_folder(self.path):
                raise IsADirectoryError(0, "it is a folder")
            handle, name = tempfile.mkstemp(
                dir=folder, prefix=f".{self.path.name[:_KEPT_OF_NAME]}.", suffix=".part"
            )
        except OSError as error:
            raise cannot_write(path, error) from error
        os.close(handle)
        self.temporary = Path(name)

    def finish(self) -> None:
        """Gives the file its name."""
        try:
            # mkstemp makes files for the owner alone; results and pages are for everybody.
            os.chmod(self.temporary, 0o644)
            os.replace(self.temporary, self.path)
        except OSError as error:
            self.discard()
            raise cannot_write(self.path, error) from error

    def discard(self) -> None:
        """Removes what was written."""
        self.temporary.unlink(missing_ok=True)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Makes a folder if needed.

    Raises:
        OSError: a file has its name, or it cannot be made; the message names it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(0, f"{folder} is a file, expected a folder") from error


def cannot_write(path: str | os.PathLike[str], error: Exception) -> OSError:
    """Returns an error whose message says which file could not be written, and why."""
    reason = getattr(error, "strerror", None) or str(error)
    full = getattr(error, "errno", None) in _FULL
    return OSError(
        f"cannot write {path} ({reason}): {'make room, or ' if full else ''}choose another place"
    )


def _is_folder(path: Path) -> bool:
    # Unlike os.path.isdir, this raises for names that the system finds too long.
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file of UTF-8 text in one step; makes its folder if needed."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file in one step; makes its folder if needed."""
    whole = WholeFile(path)
    try:
        with whole.temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        whole.discard()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    whole.finish()
