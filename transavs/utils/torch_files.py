"""Files of ``torch.save``, read as tensors and plain values alone."""

from __future__ import annotations

import os
import pickle
import re
from typing import Any

import torch


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
