"""How much memory a pickle asks its reader for, found before it is read."""

from __future__ import annotations

import os
import pickle
import pickletools
from typing import BinaryIO, cast

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def check_pickle_memory(file: BinaryIO) -> None:
    """Raises UnpicklingError where a pickle of few bytes would take its reader's memory.

    The standard reader makes room for what a file announces: for the highest number of its memo,
    up to 64 GiB, for the longest of its strings, and for its frames. A number that no writer
    reached by counting, or a part longer than the file, is a damaged file's or a malicious one's.

    Args:
        file: opened for reading bytes, and seekable; it is left where it was.

    Raises:
        ValueError: no pickle.
    """
    start = file.tell()
    try:
        bounded = _Bounded(file)
        # It asks for no more of a file than that has.
        operations = pickletools.genops(cast(BinaryIO, bounded))
        for number, (operation, argument, _) in enumerate(operations):
            if operation.name == "FRAME" and int(argument or 0) > bounded.left():
                raise OverflowError
            if operation.name in _PUTS and int(argument or 0) > number:
                raise pickle.UnpicklingError(f"a place {argument} for one of {number} objects")
    except OverflowError as error:
        raise pickle.UnpicklingError("it ends too early") from error
    finally:
        file.seek(start)


class _Bounded:
    """A file that refuses to be asked for more bytes than it has left, before making room."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        here = file.tell()
        self._end = file.seek(0, os.SEEK_END)
        file.seek(here)
        self.readline = file.readline
        self.tell = file.tell

    def left(self) -> int:
        """Bytes up to the end."""
        return self._end - self._file.tell()

    def read(self, count: int) -> bytes:
        if count > self.left():
            raise OverflowError
        return self._file.read(count)
