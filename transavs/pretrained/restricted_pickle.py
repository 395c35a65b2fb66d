"""Pickles read without running what is in them.

A pickle is a program: the standard reader calls any function that the file names. The reader here
looks every name up in a short table instead, and the table's functions are our own stand-ins
wherever the original would trust its arguments. Any other name is an error.
"""

from __future__ import annotations

import collections
import io
import math
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Of one example: channel, time windows, mel bands.
LOG_MEL_EXAMPLE_SHAPE = (1, 96, 64)
# Strides of 0 show few numbers as many, which a copy would need memory for.
_MOST_REPEATED = 10_000_000
# What gives an object of a pickle its number.
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")

AllowedGlobals = Mapping[tuple[str, str], Callable[..., Any]]


class _RestrictedUnpickler(pickle.Unpickler):
    allowed: AllowedGlobals

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self.allowed:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which such files never need and which "
                "could run any code; nothing was run"
            )
        return self.allowed[module_name, global_name]


def restricted_load(
    path: str | os.PathLike[str], allowed: AllowedGlobals, encoding: str = "ASCII"
) -> Any:
    """Returns the object pickled in a file, which may use the allowed globals alone.

    Args:
        path: of the file.
        allowed: (module, name) as the pickle spells them -> what to use in their place. Whatever
            stands here is called with arguments out of the file: name harmless things only.
        encoding: of Python 2 strings; "latin1" where they hold the bytes of arrays.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another global, or not a readable pickle.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}: check the path or fetch the data again")
    content = Path(path).read_bytes()
    try:
        _check_memory(content)
        reader = _RestrictedUnpickler(io.BytesIO(content), encoding=encoding)
        reader.allowed = allowed
        return _with_arrays(reader.load(), {})
    except Exception as error:  # a broken pickle can raise nearly anything
        raise ValueError(
            f"cannot unpickle {path} ({type(error).__name__}: {error}): it is refused, damaged or "
            "of another kind; fetch it again from its original source"
        ) from error


def _check_memory(content: bytes) -> None:
    """Raises ValueError where a pickle of few bytes would take its reader's memory.

    The standard reader makes room for what a file announces: for the highest number of its memo,
    up to 64 GiB, for the longest of its strings (which ``pickletools`` compares with the file), and
    for its frames.
    """
    for number, (operation, argument, place) in enumerate(pickletools.genops(content)):
        if operation.name in _PUTS and int(argument or 0) > number:
            raise ValueError(f"a place {argument} for one of {number} objects")
        if operation.name == "FRAME" and int(argument or 0) > len(content) - (place or 0):
            raise ValueError(f"a frame of {argument} bytes, beyond the end")


def read_log_mel_pickle(path: str | os.PathLike[str]) -> Tensor:
    """Returns the log-mel examples in one of AVSBench's ``audio_log_mel`` files.

    Args:
        path: a raw pickle (protocol 2 to 5) of one torch tensor ``[S, 1, 96, 64]``.

    Returns:
        float32 ``[S, 1, 96, 64]``, S >= 1, contiguous. AVSBench pickled the tensors with
        ``requires_grad``, which data loader workers cannot pass on; here they are detached.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names a global that such a file does not need, damaged, another shape or type,
            or NaN or infinite values.
    """
    examples = restricted_load(path, _TENSOR_GLOBALS)
    found, good = type(examples).__name__, False
    if isinstance(examples, Tensor):
        found = f"{examples.dtype} {list(examples.shape)}"
        good = examples.shape[1:] == LOG_MEL_EXAMPLE_SHAPE and examples.numel() > 0
        good = good and examples.is_floating_point()
        if good and not examples.isfinite().all():
            found, good = "values that are not all finite", False
    if not good:
        raise ValueError(
            f"expected a float tensor [S, 1, 96, 64] with S >= 1 in {path}, got {found}; compute "
            "the log-mel from the wav file instead (INPUT.AUDIO_SOURCE wav)"
        )
    # A copy: strides and storage come out of the file and may overlap or exceed what is shown.
    return torch.empty(examples.shape, dtype=torch.float32).copy_(examples)


def load_checkpoint_pickle(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Returns the dictionary in a ``.pkl`` checkpoint of detectron2's, Mask2Former's or Caffe2's.

    Strings of Python 2 are read as latin1, as detectron2 does. Nested dictionaries, lists, tuples,
    numbers and strings, NumPy arrays of numbers and torch tensors are understood. An
    ``OrderedDict`` keeps its attributes, such as the ``_metadata`` of a state_dict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names any other global, damaged, or not a dictionary.
    """
    content = restricted_load(path, _CHECKPOINT_GLOBALS, "latin1")
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary in {path}, got {type(content).__name__}")
    return content


# Stand-ins. A pickle can set attributes of what it is given, so that it gets functions and classes
# of this module and never those of torch or NumPy themselves.


def _load_storage(content: bytes) -> Any:
    """In the place of ``torch.storage._load_from_bytes``, which would unpickle without limits."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _rebuild_tensor(
    storage: torch.TypedStorage,
    storage_offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *gradient_and_hooks: Any,
) -> Tensor:
    """``torch._utils._rebuild_tensor_v2`` without gradient and hooks, within its storage."""
    # The untyped half of a storage is no public name, but every public way to it warns.
    untyped = storage._untyped_storage
    # torch would grow the storage instead, by memory that nobody wrote.
    last = storage_offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    available = untyped.nbytes() // storage.dtype.itemsize
    if min((storage_offset, *size, *stride)) < 0 or (0 not in size and last >= available):
        raise pickle.UnpicklingError(f"a tensor {list(size)} that reaches beyond its storage")
    if math.prod(size) > max(available, _MOST_REPEATED):
        raise pickle.UnpicklingError(f"a tensor {list(size)} made of {available} numbers")
    return torch.empty(0, dtype=storage.dtype).set_(untyped, storage_offset, size, stride)


def _encode(text: str, encoding: str) -> bytes:
    """Bytes, as protocol 2 spells them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}, expected latin1")
    return text.encode("latin1")


class _DtypeRecipe:
    """In the place of ``numpy.dtype``, whose own ``__setstate__`` can make inconsistent types."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biufc":
            raise pickle.UnpicklingError(f"an array of {code!r}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byte_order, *structure = state[1:5]
        if any(part is not None for part in structure):
            raise pickle.UnpicklingError("a structured array, expected plain numbers")
        if byte_order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(byte_order)


class _ArrayRecipe:
    """In the place of a ``numpy.ndarray`` that gets its content from ``__setstate__``."""

    array: np.ndarray | None = None

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, content = state[-4:]
        self.array = _build_array(content, dtype, shape, "F" if is_fortran else "C")


def _build_array(
    content: bytes | bytearray | str,
    recipe: _DtypeRecipe,
    shape: tuple[int, ...],
    order: str,
    axis_order: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Also arrays as protocol 5 spells them; ``axis_order`` names the axes of a permuted one."""
    if isinstance(content, str):  # Python 2's bytes, read as latin1
        content = content.encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError(f"an array made of a {type(content).__name__}")
    if len(content) != math.prod(shape) * recipe.dtype.itemsize:
        raise pickle.UnpicklingError(f"an array {tuple(shape)} made of {len(content)} bytes")
    flat = np.frombuffer(content, recipe.dtype)
    # A copy in the machine's byte order: torch takes neither another order nor read-only memory.
    array = flat.astype(recipe.dtype.newbyteorder("="), copy=True)
    array = array.reshape(shape, order="F" if order == "F" else "C")
    return array if axis_order is None else array.transpose(axis_order)


def _with_arrays(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Returns ``value`` with finished arrays; dictionaries and lists are changed in place.

    Args:
        value: what was unpickled.
        done: containers that were met before, by identity, each with what became of it: a few
            tuples that hold each other stand for any number of them.
    """
    if isinstance(value, _ArrayRecipe):
        if value.array is None:
            raise ValueError("an array without content")
        return value.array
    if not isinstance(value, tuple | dict | list):
        return value
    if id(value) not in done:
        if isinstance(value, tuple):
            done[id(value)] = value, tuple(_with_arrays(item, done) for item in value)
        else:
            done[id(value)] = value, value
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                value[key] = _with_arrays(value[key], done)
    return done[id(value)][1]


# What the tensor of an AVSBench pickle needs. Only protocol 2 asks for the last one.
_TENSOR_GLOBALS: AllowedGlobals = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
}
_CHECKPOINT_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    **_TENSOR_GLOBALS,
    ("torch._utils", "_rebuild_parameter"): lambda data, *gradient_and_hooks: data,
    ("__builtin__", "bytes"): lambda: b"",
    ("numpy", "dtype"): _DtypeRecipe,
    ("numpy", "ndarray"): _ArrayRecipe,
}
# NumPy 2 renamed `core` to `_core`; files hold the name of the version that wrote them.
for _core in ("numpy.core", "numpy._core"):
    _CHECKPOINT_GLOBALS |= {
        (f"{_core}.multiarray", "_reconstruct"): _ArrayRecipe,
        (f"{_core}.multiarray", "scalar"): lambda dtype, content: _build_array(
            content, dtype, (1,), "C"
        )[0],
        (f"{_core}.numeric", "_frombuffer"): _build_array,
    }
