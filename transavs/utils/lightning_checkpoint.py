"""Checkpoints of PyTorch Lightning: tensors among objects of a training that nobody needs.

Their callbacks and hyper-parameters name classes of other people's programs, for which torch's
reader of tensors refuses the whole file. Here such objects become empty placeholders: no class is
imported, no function of the file is called, and the tensors are read by our own stand-ins.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from types import ModuleType
from typing import Any, BinaryIO

import torch

from transavs.utils.pickle_memory import check_pickle_memory
from transavs.utils.safe_pickle import CHECKPOINT_GLOBALS


class Placeholder:
    """Takes the place of an object of an unknown class; swallows all that a pickle tells it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, **options: Any) -> None:
        check_pickle_memory(file)
        super().__init__(file, **options)

    def find_class(self, module_name: str, global_name: str) -> Any:
        allowed = CHECKPOINT_GLOBALS.get((module_name, global_name))
        # A new class for each name: a pickle may set attributes of what it is given.
        return allowed or type(global_name, (Placeholder,), {})


def load_lightning_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the content of a ``.ckpt`` file; what is neither data nor a tensor is a placeholder.

    Raises:
        ValueError: damaged, or not a dictionary.
    """
    reader: Any = ModuleType("reader")
    reader.Unpickler = _Unpickler
    try:
        with zipfile.ZipFile(path) as archive:
            # torch would take such a file for a program of TorchScript, and load that.
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise pickle.UnpicklingError("a program of TorchScript, no checkpoint")
        # Not `weights_only`, whose reader could not be replaced: ours knows tensors alone, too.
        content = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except Exception as error:  # a broken pickle can raise nearly anything
        raise ValueError(
            f"cannot read {path} as a checkpoint of PyTorch Lightning ({error}): fetch it again, "
            "or save its state_dict alone as .pth with a newer torch"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary in {path}, got {type(content).__name__}")
    return content
