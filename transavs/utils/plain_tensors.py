"""Which tensors of a file can be weights: dense numbers of a type that networks compute with."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COUNTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def is_plain(value: object) -> bool:
    """Returns whether ``value`` is a dense tensor of real numbers or counts, with its values."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type != "meta"
        and value.dtype in _FLOATS + _COUNTS
    )


def is_same_kind(tensor: Tensor, expected: Tensor) -> bool:
    """Returns whether both hold real numbers, or both counts, of whatever precision."""
    return tensor.is_floating_point() == expected.is_floating_point()
