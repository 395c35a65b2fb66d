"""Masks and scores as colours over a frame, drawn by detectron2's Visualizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from detectron2.utils.visualizer import Visualizer
from numpy.typing import NDArray

# Pixels uint8 [H, W, 3] in RGB order; OpenCV's stubs promise no more than "some numbers".
Image = NDArray[Any]
Color = tuple[float, float, float]

# Neither is a colour of meadows, wood or fur; people who confuse red and green tell them apart.
TRUTH_COLOR: Color = (0.10, 0.85, 1.00)
PREDICTION_COLOR: Color = (1.00, 0.10, 0.60)
# Queries in turn, in hues far from each other.
QUERY_COLORS: tuple[Color, ...] = (
    (1.00, 0.10, 0.60),
    (1.00, 0.85, 0.00),
    (0.45, 0.35, 1.00),
    (0.10, 0.85, 1.00),
    (1.00, 0.45, 0.00),
    (0.50, 0.90, 0.20),
)
_SCORE_COLORS = "inferno"


def overlay_masks(
    frame: Image, masks: NDArray[np.bool_], colors: Sequence[Color], alpha: float = 0.5
) -> Image:
    """Returns a frame with masks over it, each filled and outlined in its colour.

    Args:
        frame: uint8 ``[H, W, 3]``, RGB.
        masks: bool ``[G, H, W]``; G may be 0, and a mask may be empty.
        colors: used in turn; components in [0, 1].
        alpha: opacity of the masks.
    """
    if not masks.any():
        return frame.copy()
    used = [colors[index % len(colors)] for index in range(len(masks))]
    visualizer = Visualizer(frame)
    for mask, color in zip(masks, used, strict=True):
        if mask.any():
            # Threshold 0: a few false pixels must be seen as well.
            visualizer.draw_binary_mask(mask, color=color, alpha=alpha, area_threshold=0)
    picture = np.ascontiguousarray(visualizer.output.get_image())
    # The Visualizer outlines only masks without holes.
    for mask, color in zip(masks, used, strict=True):
        outlines = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[-2]
        cv2.drawContours(picture, outlines, -1, [round(255 * part) for part in color], 1)
    return picture


def score_heat_map(scores: NDArray[np.float32]) -> Image:
    """Returns scores ``[H, W]`` in [0, 1] as colours from black (0) to light yellow (1), RGB."""
    colors = matplotlib.colormaps[_SCORE_COLORS](np.clip(scores, 0.0, 1.0), bytes=True)
    return np.ascontiguousarray(colors[..., :3])


def resize_picture(picture: Image, size: tuple[int, int]) -> Image:
    """Returns a picture or score map at (height, width): bilinear, or by area when it shrinks."""
    if picture.shape[:2] == size:
        return picture
    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Image = cv2.resize(picture, (size[1], size[0]), interpolation=interpolation)
    return resized


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Returns a mask bool ``[H, W]`` at (height, width); half-covered pixels belong to it."""
    if mask.shape == size:
        return mask
    resized: NDArray[np.bool_] = resize_picture(mask.astype(np.uint8) * 255, size) > 127
    return resized
