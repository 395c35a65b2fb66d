"""Clips of any size become one batch of normalised frames."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def batch_frames(
    clips: list[dict[str, Any]], pixel_mean: Tensor, pixel_std: Tensor, multiple: int
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Returns the frames of all clips, padded to one size, and each clip's own size.

    Args:
        clips: B clips, each with ``frames`` uint8 ``[F, 3, H, W]``.
        pixel_mean: ``[3, 1, 1]``, in the order of the frames' channels; also says the device.
        pixel_std: likewise.
        multiple: height and width of the result are multiples of it, in pixels.

    Returns:
        images: float ``[N, 3, H, W]``, normalised, channels last in memory. Padding is at the right
            and below, of the mean colour (zero).
        sizes: (height, width) of each clip's frames.
    """
    sizes = [(clip["frames"].shape[-2], clip["frames"].shape[-1]) for clip in clips]
    height = -(-max(size[0] for size in sizes) // multiple) * multiple
    width = -(-max(size[1] for size in sizes) // multiple) * multiple
    images = []
    for clip, size in zip(clips, sizes, strict=True):
        frames = clip["frames"].to(pixel_mean.device, non_blocking=True)
        frames = (frames - pixel_mean) / pixel_std
        images.append(F.pad(frames, (0, width - size[1], 0, height - size[0])))
    return torch.cat(images).contiguous(memory_format=torch.channels_last), sizes
