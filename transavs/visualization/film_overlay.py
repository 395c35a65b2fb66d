"""Masks over the pictures of a film: the Visualizer's look at the speed of a film.

Detectron2's Visualizer draws through Matplotlib, some 100 ms a picture. The same rules on pixels
take a few: the colour at half opacity, and an opaque outline in the same colour, whose width grows
with the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.utils.colormap import colormap
from numpy.typing import NDArray

from transavs.visualization.overlay import Color, Image

_ALPHA = 0.5
# Detectron2's own palette without its greys and its near blacks, which vanish on a picture.
_LEAST_COLORFUL = 0.4


def paint_masks(
    picture: Image, masks: Sequence[NDArray[np.bool_]], colors: Sequence[Color]
) -> Image:
    """Returns a copy of a picture with masks over it, each filled and outlined in its colour.

    Args:
        picture: uint8 ``[H, W, 3]``, RGB.
        masks: bool ``[H, W]`` each; may be empty.
        colors: one for each, components in [0, 1].
    """
    painted = picture.copy()
    for mask, color in zip(masks, colors, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not rows.size:
            continue
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        inside = np.ascontiguousarray(mask[box]).astype(np.uint8)
        values = [round(255 * part) for part in color]
        part = painted[box]
        paint = np.full_like(part, values)
        cv2.copyTo(cv2.addWeighted(part, 1 - _ALPHA, paint, _ALPHA, 0.0), inside, part)
    for mask, color in zip(masks, colors, strict=True):
        outlines = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[-2]
        values = [round(255 * part) for part in color]
        cv2.drawContours(painted, outlines, -1, values, outline_width(picture.shape))
    return painted


def outline_width(shape: Sequence[int]) -> int:
    """Returns the Visualizer's line width for a picture of a shape, in pixels."""
    font_size = max(int(np.sqrt(shape[0] * shape[1])) // 90, 10)
    return max(font_size // 15, 1)


def track_color(track: int) -> Color:
    """Returns the colour of an object by its number (from 1 on): Detectron2's palette in turn."""
    palette = _palette()
    red, green, blue = palette[(track - 1) % len(palette)]
    return (float(red), float(green), float(blue))


def _palette() -> NDArray[np.float32]:
    colors = np.asarray(colormap(rgb=True, maximum=1), dtype=np.float32)
    return colors[(colors.max(1) >= _LEAST_COLORFUL) & (np.ptp(colors, axis=1) >= _LEAST_COLORFUL)]
