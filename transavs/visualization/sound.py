"""The sound of a clip as pictures that stand under its frames."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
from torch import Tensor

from transavs.audio import SILENCE_LOG_MEL
from transavs.visualization.overlay import Image

LOG_MEL_COLORS = "magma"
# The loudest bands of speech and music at full scale; louder ones share the lightest colour.
LOUDEST_LOG_MEL = 3.0


def draw_log_mel(
    examples: Tensor,
    size: tuple[int, int],
    value_range: tuple[float, float] = (SILENCE_LOG_MEL, LOUDEST_LOG_MEL),
) -> list[Image]:
    """Returns one picture uint8 ``[height, width, 3]`` (RGB) for each log-mel example.

    Time runs from left to right, pitch from low (bottom) to high (top). Colours have one fixed
    scale, from black for digital silence to light yellow: quiet clips look quiet.

    Args:
        examples: float32 ``[T, 1, 96, 64]`` (example, channel, time window, mel band), as
            ``transavs.audio.clip_log_mel`` makes them. AVSBench pairs example t with frame t
            although examples follow each other every 0.96 s and frames every 1 s.
            Those of other front-ends are ``[T, 1, time, band]``, too.
        size: (height, width) in pixels.
        value_range: of silence and of loud sound.
    """
    height, width = size
    silence, loud = value_range
    level = (examples[:, 0].cpu().numpy() - silence) / (loud - silence)
    pictures = []
    for example in np.clip(level, 0.0, 1.0):
        bands_upward = np.ascontiguousarray(example.T[::-1])
        enlarged = cv2.resize(bands_upward, (width, height), interpolation=cv2.INTER_LINEAR)
        colors = matplotlib.colormaps[LOG_MEL_COLORS](enlarged, bytes=True)
        pictures.append(np.ascontiguousarray(colors[..., :3]))
    return pictures
