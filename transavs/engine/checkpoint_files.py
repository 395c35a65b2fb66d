"""The files of checkpoints: written whole or not at all, found damaged before they are trusted."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from typing import IO, Any

import torch

from transavs.pretrained.files import load_tensors, refusal

NOTE = "last_checkpoint"
FINAL = "model_final"

_NUMBERED = re.compile(r"model_(\d{7,})\.pth")
# Half-written files of a training that was killed; the same names are used by every attempt.
_LEFTOVER = re.compile(r"(model_\w+\.(pth|json)|last_checkpoint)\.tmp")
# What a file system answers that cannot sync folders.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)

logger = logging.getLogger(__name__)


def save_atomically(data: dict[str, Any], path: str) -> None:
    """Writes ``data`` to ``path`` with ``torch.save``, all of it or nothing."""
    write_whole(path, lambda file: torch.save(data, file))


def write_json(data: dict[str, Any], path: str) -> None:
    """Writes ``data`` to ``path`` as JSON, all of it or nothing."""
    write_whole(path, lambda file: file.write(json.dumps(data).encode()))


def write_note(folder: str, name: str) -> None:
    """Notes in ``last_checkpoint`` which file of the folder is the newest checkpoint."""
    write_whole(os.path.join(folder, NOTE), lambda file: file.write(name.encode()))


def copy_whole(source: str, path: str) -> None:
    """Copies a file, all of it or nothing."""
    with open(source, "rb") as content:
        write_whole(path, lambda file: shutil.copyfileobj(content, file))


def write_whole(path: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under a temporary name, which is the same each time, and then renames it.

    The content is on the disk before the file gets its name, and the name is on the disk before
    this returns: neither a killed process nor a power failure leaves half a file behind.

    Args:
        path: of the file; its folder is there.
        write: is given the open file.
    """
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path) or ".")


def sync_folder(folder: str) -> None:
    """Brings the names of the files in a folder onto the disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: str) -> None:
    """Deletes what a training that was killed had written by half. None may be at work there."""
    for name in sorted(os.listdir(folder)):
        if _LEFTOVER.fullmatch(name):
            logger.info("Removing %s, which was never finished", os.path.join(folder, name))
            os.unlink(os.path.join(folder, name))


def numbered_checkpoints(folder: str) -> dict[int, str]:
    """Returns the paths of ``model_<iteration>.pth`` by iteration, lowest first."""
    found = ((_NUMBERED.fullmatch(name), name) for name in os.listdir(folder))
    paths = {int(match[1]): os.path.join(folder, name) for match, name in found if match}
    return dict(sorted(paths.items()))


def has_checkpoints(folder: str) -> bool:
    """Whether a training in this folder ever saved something to go on from."""
    if not os.path.isdir(folder):
        return False
    # A note without its file counts: what it names is lost, and that must be told.
    return os.path.exists(os.path.join(folder, NOTE)) or bool(_all_checkpoints(folder))


def newest_whole_checkpoint(folder: str) -> str | None:
    """Returns the checkpoint to go on from; None if the folder never had one.

    That is the file named by ``last_checkpoint``. If it is missing or damaged, the newest older
    one that is whole, with a warning that names both. Nothing is changed in the folder.

    Raises:
        ValueError: there are checkpoints, but none can be read, or the note leads elsewhere.
    """
    if not has_checkpoints(folder):
        return None
    named, newest = _named_checkpoint(folder), math.inf
    tried: list[str] = []
    if named is None:
        problem = f"{os.path.join(folder, NOTE)} is missing or names no file"
    else:
        reason = damage(named)
        if reason is None:
            return named
        problem, newest = f"{named} cannot be read: {reason}", _iteration(named)
        tried.append(f"{os.path.basename(named)} ({reason})")
    others = {path: _iteration(path) for path in _all_checkpoints(folder) if path != named}
    for path, iteration in sorted(others.items(), key=lambda item: item[1], reverse=True):
        if iteration > newest:
            continue
        reason = damage(path)
        if reason is None:
            logger.warning(
                "%s. Going on from %s instead: the iterations after it are done again",
                problem,
                path,
            )
            return path
        tried.append(f"{os.path.basename(path)} ({reason})")
    raise ValueError(
        f"no checkpoint in {folder} can be read: {'; '.join(tried)}. No checkpoint was changed. "
        f"Bring back a whole file and put its name into {os.path.join(folder, NOTE)}, or start "
        "anew in another OUTPUT_DIR, or there without --resume"
    )


def damage(path: str) -> str | None:
    """Returns what is wrong with a checkpoint file; None if it is whole.

    Files of ``torch.save`` are archives with a checksum for each tensor, which reading them with
    torch does not compare: a flipped bit would pass.
    """
    if not os.path.isfile(path):
        return "no such file"
    if not path.endswith(".pth"):
        return None
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            with zipfile.ZipFile(path) as content:
                broken = content.testzip()
            if broken is not None:
                return f"the checksum of {broken} in it does not fit"
        data = load_tensors(path, mmap=archive)
    except pickle.UnpicklingError as error:
        return refusal(error)
    except OSError as error:
        return f"cut short or damaged ({error})"
    except Exception as error:
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None if isinstance(data, dict) else f"it holds a {type(data).__name__}"


def _named_checkpoint(folder: str) -> str | None:
    try:
        with open(os.path.join(folder, NOTE), encoding="utf-8") as file:
            name = file.read().strip("\0\n\r\t ")
    except (OSError, UnicodeDecodeError):
        return None
    if os.path.basename(name) != name:
        raise ValueError(
            f"{os.path.join(folder, NOTE)} must name a file beside it, not {name}: write such a "
            "name into it, or train without --resume"
        )
    return os.path.join(folder, name) if name else None


def _all_checkpoints(folder: str) -> list[str]:
    final = os.path.join(folder, f"{FINAL}.pth")
    return [*numbered_checkpoints(folder).values(), *([final] if os.path.isfile(final) else [])]


def _iteration(path: str) -> float:
    """Returns the iteration that a checkpoint was saved after; infinity where nothing tells."""
    match = _NUMBERED.fullmatch(os.path.basename(path))
    if match:
        return int(match[1])
    try:
        data = load_tensors(path, mmap=True)
        return int(data["iteration"])
    except Exception:
        return math.inf
