"""A folder is locked as long as its holder, or a process that it started, is alive."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transavs.utils.folder_lock import FileLock, FolderLock, ProcessLock


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


def test_a_file_has_one_holder_and_keeps_no_lock(tmp_path):
    path = tmp_path / "store.safetensors"
    with FileLock(path):
        with pytest.raises(ValueError, match=f"another command is writing {path}: wait"):
            with FileLock(path):
                pass
        with FileLock(tmp_path / "another"):
            pass
        assert [file.name for file in tmp_path.iterdir()] == [".store.safetensors.lock"]
    assert not list(tmp_path.iterdir())
    with FileLock(path):
        pass


def test_a_lock_that_goes_away_while_it_is_waited_for(tmp_path, monkeypatch):
    """The holder removes the file between our opening it and our locking it."""
    path = tmp_path / "store"
    lock, own = fcntl.flock, tmp_path / ".store.lock"

    def late(descriptor, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        own.unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with FileLock(path):
        assert own.exists()
        with pytest.raises(ValueError, match="another command"), FileLock(path):
            pass


OTHER = """
import os, sys
from transavs.utils.folder_lock import ProcessLock

with ProcessLock(sys.argv[1]):
    child = os.fork() if sys.argv[2:] else 1
    if not child:
        sys.stdin.read()
        os._exit(0)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def other_process(folder, *words):
    command = [sys.executable, "-c", OTHER, str(folder), *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_process_has_a_folder_for_itself(tmp_path):
    folder = tmp_path / "new" / "folder"
    other = other_process(folder)
    try:
        process = int(other.stdout.readline())
        with pytest.raises(ValueError, match=f"at work in {folder}: process {process}. Wait"):
            with ProcessLock(folder):
                pass
    finally:
        other.communicate()
    # Nothing was put into it.
    assert not folder.parent.exists()
    with ProcessLock(folder):
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]
    with ProcessLock(folder):
        (folder / "result").unlink()
    assert folder.is_dir()  # it was there before


def test_a_killed_process_leaves_no_lock_with_its_children(tmp_path):
    other = other_process(tmp_path, "with a child")
    other.stdout.readline()
    other.kill()
    other.wait()
    assert (tmp_path / ".work.lock").exists()
    with ProcessLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    other.stdin.close()
