"""Precomputed embeddings of sound files: what a frozen encoder would say, without asking it.

A store is one ``.safetensors`` file. Its entries are called by the hash of a sound file's content
and the length of the clip, and its metadata name what they depend on beside that (class, front-end
and weights of the encoder): a sound that changes is not found, and a store of another encoder is
refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from transavs.utils.whole_files import write_bytes

_FORMAT = "transavs-audio-embeddings-1"
_REMEMBERED_HASHES = 65536
_CHUNK_BYTES = 1 << 20


class EmbeddingStore:
    """Reads precomputed embeddings; data loader workers get a store of their own.

    Args:
        path: a file that ``tools/precompute_audio.py`` wrote.

    Attributes:
        path: as given.
        identity: of the encoder that made it, see ``AudioEncoder.identity``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(Path(path).expanduser())
        if not os.path.isfile(self.path):
            raise FileNotFoundError(
                f"no precomputed embeddings at {self.path}: write them with "
                "tools/precompute_audio.py, or leave INPUT.AUDIO_EMBEDDINGS empty"
            )
        self._file: Any = None
        self._process = -1
        self._names: frozenset[str] = frozenset()
        metadata = self._open().metadata() or {}
        if metadata.get("format") != _FORMAT or "identity" not in metadata:
            raise ValueError(
                f"{self.path}: expected embeddings that tools/precompute_audio.py wrote, got "
                f"another file (format {metadata.get('format')!r}); compute them again"
            )
        self.identity: str = metadata["identity"]

    def find(self, sound_file: str, clip_seconds: int) -> Tensor | None:
        """Returns the embeddings float32 ``[T, D]`` of a sound file; None where they are not there.

        Args:
            sound_file: hashed, once as long as it does not change.
            clip_seconds: T.

        Raises:
            FileNotFoundError: no such sound file.
            ValueError: the entry is damaged.
        """
        name = entry_name(sound_file, clip_seconds)
        file = self._open()
        if name not in self._names:
            return None
        return self._checked(file.get_tensor(name), clip_seconds, sound_file)

    def entries(self) -> dict[str, Tensor]:
        """Returns all entries by name.

        Raises:
            ValueError: one is damaged.
        """
        file = self._open()
        entries = {}
        for name in self._names:
            seconds = name.rpartition("/")[2]
            clip_seconds = int(seconds) if seconds.isdecimal() else -1
            entries[name] = self._checked(file.get_tensor(name), clip_seconds, name)
        return entries

    def _checked(self, embeddings: Tensor, clip_seconds: int, name: str) -> Tensor:
        shape = list(embeddings.shape)
        found = ""
        if embeddings.dim() != 2 or len(embeddings) != clip_seconds:
            found = str(shape)
        elif embeddings.dtype != torch.float32:
            found = str(embeddings.dtype)
        elif not embeddings.isfinite().all():
            found = "NaN or infinite values"
        if found:
            raise ValueError(
                f"{self.path}: expected finite float32 [{max(clip_seconds, 1)}, D] for {name}, got "
                f"{found}; delete the file and compute it again"
            )
        return embeddings

    def _open(self) -> Any:
        # Neither a forked nor a spawned process uses the handle of another.
        if self._file is None or self._process != os.getpid():
            try:
                self._file = safe_open(self.path, framework="pt")
            except Exception as error:  # safetensors has exceptions of its own
                raise ValueError(
                    f"cannot read the precomputed embeddings {self.path} ({error}): delete the "
                    "file and compute it again"
                ) from error
            self._names = frozenset(self._file.keys())
            self._process = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def write_store(
    path: str | os.PathLike[str], entries: Mapping[str, Tensor], identity: str, note: str = ""
) -> None:
    """Writes a store in one step.

    Args:
        path: ends in ``.safetensors``.
        entries: :func:`entry_name` -> float32 ``[T, D]``.
        identity: of the encoder.
        note: how they were computed, for people.
    """
    metadata = {"format": _FORMAT, "identity": identity, "note": note}
    tensors = {name: tensor.contiguous() for name, tensor in entries.items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def entry_name(sound_file: str, clip_seconds: int) -> str:
    """Returns the name of a sound file's entry: by what is in it, whatever it is called.

    Raises:
        FileNotFoundError: no such file.
    """
    try:
        status = os.stat(sound_file)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no {sound_file}; restore it from the data set's archive"
        ) from None
    return f"{_hash(sound_file, status.st_mtime_ns, status.st_size)}/{clip_seconds}"


@lru_cache(maxsize=_REMEMBERED_HASHES)
def _hash(path: str, modified: int, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
