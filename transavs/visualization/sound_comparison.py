"""The same frames under several sounds on one picture: what a model marks must follow the sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from transavs.visualization.clip_picture import draw_clip
from transavs.visualization.overlay import Image

_SEPARATOR = 6
_SEPARATOR_COLOR = 255


def draw_under_sounds(
    clips: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Mapping[str, Tensor]],
    image_format: str = "RGB",
    *,
    cell_width: int = 224,
) -> Image:
    """Returns a picture uint8 ``[H, W, 3]`` (RGB): frames and truth, then a band for each sound.

    Args:
        clips: what is said of a sound -> the mapper's dict of the clip with it; all show the same
            frames, and the first has the clip's own sound. See :func:`draw_clip`.
        predictions: what the model answers to each of them.
        image_format: order of the frames' channels.
        cell_width: width of a frame in the picture, in pixels.

    Raises:
        ValueError: there is no clip.
    """
    if not clips:
        raise ValueError("expected the clip under at least one sound, got none")
    bands = []
    for number, (title, clip) in enumerate(clips.items()):
        rows = ["prediction", "log_mel"]
        if number == 0:
            rows = ["frame", *(["truth"] if "union_masks" in clip else []), *rows]
        bands.append(
            draw_clip(
                clip,
                predictions[title],
                image_format,
                rows=rows,
                cell_width=cell_width,
                title=title,
            )
        )
    width = max(band.shape[1] for band in bands)
    rule = np.full((_SEPARATOR, width, 3), _SEPARATOR_COLOR, dtype=np.uint8)
    parts: list[Image] = []
    for band in bands:
        missing = width - band.shape[1]
        padded = np.pad(band, ((0, 0), (0, missing), (0, 0)), constant_values=_SEPARATOR_COLOR)
        parts += [rule, padded]
    return np.concatenate(parts[1:])
