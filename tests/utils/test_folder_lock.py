"""A folder is locked as long as its holder, or a process that it started, is alive."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from transavs.utils.folder_lock import FolderLock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with FolderLock(folder):
        # A second descriptor is refused, also within one process.
        with pytest.raises(ValueError, match=f"at work in .*folder.*processes {os.getpid()}"):
            with FolderLock(folder):
                pass
    with FolderLock(folder):
        pass


def test_a_process_left_behind_holds_it(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as lock:
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "input()"],
            stdin=subprocess.PIPE,
            pass_fds=(lock.descriptor,),
        )
        lock.note(child.pid)
    try:
        with pytest.raises(ValueError, match=f"processes .*{child.pid}"):
            with FolderLock(tmp_path):
                pass
    finally:
        child.communicate(b"\n")
    with FolderLock(tmp_path):
        pass
