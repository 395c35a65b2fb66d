"""Files that would make a canary file if anything in them were run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch


class Payload:
    """Pickles as a call that makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        # Nothing else makes a file by opening it: no test passes because a command is missing.
        return open, (self.canary, "w")


def write_weights(path: Path, form: str, canary: Path) -> Path:
    """Writes weights with a payload among them.

    Args:
        path: of the file.
        form: "zip" or "legacy", the two containers of torch.save; "pickle"; "script", a program of
            TorchScript under the name of a checkpoint.
        canary: file that the payload makes.
    """
    content = {"model": {"head.weight": torch.zeros(3, 4)}, "optimizer": Payload(canary)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif form == "script":
        torch.jit.script(torch.nn.Linear(4, 3)).save(str(path))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


def run_for_certain(path: Path, canary: Path) -> None:
    """Shows that the payload of a file works in a reader that trusts it."""
    assert not canary.exists(), f"the payload in {path} was run"
    # Opened: torch goes by the ending of a name, too.
    with path.open("rb") as file:
        try:
            torch.load(file, weights_only=False)
        except Exception:  # a plain pickle, not by torch
            pickle.loads(path.read_bytes())
    assert canary.exists(), f"the payload in {path} is none"
    os.remove(canary)


def tar_of(members: dict[str, bytes | str]) -> bytes:
    """Returns a tar archive; a text is where a symbolic link points to."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write_debian_package(path: Path, members: dict[str, bytes | str]) -> Path:
    """Writes a .deb whose content is ``members``, as :func:`tar_of` takes them."""
    control = tar_of({"./control": b"Package: a\nVersion: 1\nArchitecture: all\nMaintainer: b\n"})
    parts = {"debian-binary": b"2.0\n", "control.tar": control, "data.tar": tar_of(members)}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path
