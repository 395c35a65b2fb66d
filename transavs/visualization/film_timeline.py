"""A whole film as one picture: its marked frames, the sound and the confidence above one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch import Tensor

from transavs.audio import EXAMPLE_SECONDS
from transavs.visualization.grid import load_font
from transavs.visualization.overlay import PREDICTION_COLOR, Image
from transavs.visualization.sound import draw_log_mel

_FRAMES_HEIGHT, _LOG_MEL_HEIGHT, _CONFIDENCE_HEIGHT, _AXIS_HEIGHT = 120, 128, 40, 24
TIMELINE_HEIGHT = _FRAMES_HEIGHT + _LOG_MEL_HEIGHT + _CONFIDENCE_HEIGHT + _AXIS_HEIGHT
_LEAST_CELL_WIDTH = 96
_BACKGROUND, _BORDER, _TEXT = (16, 16, 20), (90, 90, 100), (220, 220, 225)
_FONT_SIZE = 15
# Seconds between the marks of the axis: the first that leaves them room.
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_LEAST_STEP_WIDTH = 90


@dataclass(frozen=True)
class TimelineMoment:
    """What a part of the film shows.

    Attributes:
        start: of the part, in seconds from the film's beginning.
        end: of it.
        picture: uint8 ``[H, W, 3]``, RGB, with whatever is marked in it.
        confidence: in [0, 1].
    """

    start: float
    end: float
    picture: Image
    confidence: float


def draw_timeline(
    moments: Sequence[TimelineMoment], examples: Tensor, seconds: float, width: int = 960
) -> Image:
    """Returns uint8 ``[TIMELINE_HEIGHT, width, 3]``, RGB; second s is at column s / seconds.

    From the top: the pictures, each amid its part of the film (of a long film every second, third
    ... one, amid the parts that it stands for); the log-mel, in ``draw_log_mel``'s colours; the
    confidence, from 0 at the bottom to 1; the seconds.

    Args:
        moments: in order, of pictures of one size; at least one.
        examples: float32 ``[T, 1, 96, 64]``, log-mel of the whole film, an example every 0.96 s
            from its beginning. Where it ends before the film there is silence.
        seconds: duration of the film.
        width: in pixels.
    """
    assert moments and seconds > 0, (len(moments), seconds)
    timeline = np.full((TIMELINE_HEIGHT, width, 3), _BACKGROUND, dtype=np.uint8)
    scale = width / seconds
    sound = timeline[_FRAMES_HEIGHT : _FRAMES_HEIGHT + _LOG_MEL_HEIGHT]
    _draw_sound(sound, examples, scale)
    _draw_confidence(timeline[-_AXIS_HEIGHT - _CONFIDENCE_HEIGHT : -_AXIS_HEIGHT], moments, scale)
    stride = -(-len(moments) // max(1, width // _LEAST_CELL_WIDTH))
    for first in range(0, len(moments), stride):
        group = moments[first : first + stride]
        left, right = round(group[0].start * scale), round(min(group[-1].end, seconds) * scale)
        _draw_picture(timeline[:_FRAMES_HEIGHT, left:right], group[len(group) // 2].picture)
        timeline[: -_AXIS_HEIGHT // 2, min(left, width - 1)] = _BORDER
    _draw_axis(timeline, seconds)
    return timeline


def _draw_sound(part: Image, examples: Tensor, scale: float) -> None:
    pictures = draw_log_mel(examples, (part.shape[0], examples.shape[2]))
    columns = np.concatenate(pictures, axis=1)
    # Pixel by pixel, so that the time of a column does not depend on how the sound ends.
    place = (np.arange(part.shape[1]) + 0.5) / scale * examples.shape[2] / EXAMPLE_SECONDS
    heard = place < columns.shape[1]
    part[:, heard] = columns[:, place[heard].astype(int)]
    part[:, ~heard] = 0


def _draw_confidence(part: Image, moments: Sequence[TimelineMoment], scale: float) -> None:
    for moment in moments:
        top = round((part.shape[0] - 1) * (1 - min(max(moment.confidence, 0.0), 1.0)))
        span = slice(round(moment.start * scale), round(moment.end * scale))
        part[top:, span] = [round(255 * value) for value in PREDICTION_COLOR]


def _draw_picture(cell: Image, picture: Image) -> None:
    """Puts a picture into the middle of its part, as large as it fits."""
    room = min((cell.shape[0] - 4) / picture.shape[0], (cell.shape[1] - 4) / picture.shape[1])
    height, width = int(picture.shape[0] * room), int(picture.shape[1] * room)
    if height < 1 or width < 1:
        return
    top, left = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
    interpolation = cv2.INTER_AREA if room < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, (width, height), interpolation=interpolation)
    cell[top : top + height, left : left + width] = small


def _draw_axis(timeline: Image, seconds: float) -> None:
    height, width = timeline.shape[:2]
    step = next((s for s in _STEPS if s * width / seconds >= _LEAST_STEP_WIDTH), _STEPS[-1])
    axis = PillowImage.fromarray(timeline[-_AXIS_HEIGHT:])
    draw, font = ImageDraw.Draw(axis), load_font(_FONT_SIZE)
    for number in range(int(seconds / step + 1e-6) + 1):
        column = min(round(number * step * width / seconds), width - 1)
        draw.line([(column, 0), (column, 4)], fill=_TEXT)
        label = f"{number * step:g} s"
        room = draw.textlength(label, font=font)
        left = min(column + 3, width - room - 1)
        draw.text((left, 3), label, fill=_TEXT, font=font)
    timeline[-_AXIS_HEIGHT:] = np.asarray(axis)
