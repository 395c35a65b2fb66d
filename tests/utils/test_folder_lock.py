"""A folder or a file has one holder, and nobody holds it when that process has ended."""

import os
import signal
import subprocess
import sys

import pytest

from transavs.utils.folder_lock import lock_file, lock_folder

OTHER = """
import os, sys
from transavs.utils import folder_lock

with getattr(folder_lock, sys.argv[1])(sys.argv[2]):
    if not os.fork():  # as a loader's worker, which outlives its parent for a while
        sys.stdin.read()
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("lock", "end"), [(lock_folder, signal.SIGKILL), (lock_file, None)])
def test_one_process_at_a_time(tmp_path, lock, end):
    path = tmp_path / "here" / "it"
    path.parent.mkdir()
    words = [sys.executable, "-c", OTHER, lock.__name__, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f" {path}: process {other.pid}"), lock(path):
            pass
        if end is None:
            other.stdin.close()
        else:
            other.send_signal(end)
        other.wait()
        # Its child is alive in the case of the kill.
        with lock(path):
            (path.parent / "result").touch()
            with pytest.raises(ValueError, match=f"process {os.getpid()}"), lock(path):
                pass
    assert {file.name for file in path.parent.iterdir()} <= {"it", "result"}


def test_folders_that_stay_empty_are_removed(tmp_path):
    folder = tmp_path / "new" / "folder"
    with pytest.raises(OSError, match="work"), lock_folder(folder):
        raise OSError("work that fails")
    assert not folder.parent.exists()
    folder.mkdir(parents=True)
    with lock_folder(folder):
        pass
    assert folder.is_dir()
