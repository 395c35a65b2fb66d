"""Sine positions of the image features."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_position_encoding(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> Tensor:
    """Returns float32 ``[channels, height, width]``: where each cell of a feature map lies.

    The first half of the channels tells the row, the second half the column; within a half,
    channels come in (sine, cosine) pairs of falling frequency, as in DETR. A coordinate runs from
    just above 0 to 2 pi over the map, so maps of different size speak of the same places.

    Args:
        height: rows of the map.
        width: columns of the map.
        channels: a multiple of 4.
        device: where the result lives.
    """
    if channels % 4:
        raise ValueError(f"channels must be a multiple of 4, got {channels}")
    half = channels // 2
    exponents = torch.arange(0, half, 2, dtype=torch.float32, device=device) / half
    frequencies = 10000.0**-exponents

    def encode(cells: int) -> Tensor:
        places = torch.arange(1, cells + 1, dtype=torch.float32, device=device)
        angles = (places * (2 * math.pi / (cells + 1e-6)))[:, None] * frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)

    rows = encode(height).T[:, :, None].expand(half, height, width)
    columns = encode(width).T[:, None, :].expand(half, height, width)
    return torch.cat((rows, columns))
