"""The strip under a film: what is heard around now, and how sure the model was until now."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transavs.audio import VGGISH_LOG_MEL, FrontEnd
from transavs.visualization.overlay import PREDICTION_COLOR, Image
from transavs.visualization.sound import LOG_MEL_COLORS

# Of the sound and the confidence, half before and half behind now.
SHOWN_SECONDS = 5.0
# Height of the strip by that of the picture, and its three parts from the top down.
_STRIP_SHARE, _LEAST_HEIGHT = 0.25, 48
_LOG_MEL_PART, _WAVEFORM_PART = 0.5, 0.25
_REMEMBERED_EXAMPLES = 16
_BACKGROUND, _WAVEFORM_COLOR, _NOW_COLOR = (16, 16, 20), (150, 190, 220), (255, 255, 255)

# (first sample from the film's beginning, count) -> float32 [count], at the front-end's rate
Window = Callable[[int, int], Tensor]


def strip_height(picture_height: int) -> int:
    """Returns the height of the strip under a picture, in pixels, even."""
    return max(_LEAST_HEIGHT, 2 * round(picture_height * _STRIP_SHARE / 2))


class FilmStrip:
    """Draws the strip: log-mel, waveform, and the confidence from 0 (bottom) to 1.

    Now is the white line in the middle; five seconds are shown. The log-mel has the colours of
    ``draw_log_mel``, on one fixed scale from the front-end's silence to its loud sound.

    Args:
        window: of the sound that the model hears.
        width: of the strip, in pixels.
        height: likewise.
        front_end: of the model; its examples must be ``[1, windows, bands]``.

    Raises:
        ValueError: examples of another shape, which are no picture.
    """

    def __init__(
        self, window: Window, width: int, height: int, front_end: FrontEnd = VGGISH_LOG_MEL
    ) -> None:
        if len(front_end.example_shape) != 3:
            raise ValueError(
                "a strip shows examples [1, windows, bands], but those of the front-end "
                f"{front_end.version!r} are {list(front_end.example_shape)}: leave the strip out"
            )
        self._window = window
        self._front_end = front_end
        self._width, self._height = width, height
        # Columns and loudness of the examples read last: neighbouring pictures show the same.
        self._examples: OrderedDict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]
        self._examples = OrderedDict()
        self._confidence: list[tuple[float, float, float]] = []

    def add_confidence(self, start: float, end: float, confidence: float) -> None:
        """Notes how sure the model is between two seconds of the film, in [0, 1]."""
        self._confidence.append((start, end, confidence))
        first = start - SHOWN_SECONDS
        self._confidence = [part for part in self._confidence if part[1] >= first]

    def draw(self, seconds: float) -> Image:
        """Returns the strip at a moment of the film, uint8 ``[height, width, 3]``, RGB."""
        columns, loudness = self._sound_around(seconds)
        upper = round(self._height * _LOG_MEL_PART)
        middle = round(self._height * _WAVEFORM_PART)
        parts = [
            _draw_columns(columns, self._front_end.value_range, (upper, self._width)),
            _draw_waveform(loudness, (middle, self._width)),
            self._draw_confidence(seconds, (self._height - upper - middle, self._width)),
        ]
        strip = np.concatenate(parts)
        strip[:, self._width // 2] = _NOW_COLOR
        return strip

    def _sound_around(self, seconds: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-mel columns ``[n, bands]`` of even times, and the loudest sample of each ``[n]``."""
        windows = self._front_end.hop_windows
        columns_a_second = windows * self._front_end.sample_rate_hz / self._front_end.hop_samples
        count = round(SHOWN_SECONDS * columns_a_second)
        first = round((seconds - SHOWN_SECONDS / 2) * columns_a_second)
        numbers = range(first // windows, (first + count - 1) // windows + 1)
        examples = [self._example(number) for number in numbers]
        skipped = first - numbers[0] * windows
        log_mel = np.concatenate([example[0] for example in examples])
        loudness = np.concatenate([example[1] for example in examples])
        return log_mel[skipped : skipped + count], loudness[skipped : skipped + count]

    def _example(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if number not in self._examples:
            hop, windows = self._front_end.hop_samples, self._front_end.hop_windows
            samples = self._window(number * hop, self._front_end.example_samples)
            log_mel = self._front_end.clip_examples(samples, 1)[0, 0, :windows].numpy()
            loudest = functional.adaptive_max_pool1d(samples[None, :hop].abs(), windows)[0]
            self._examples[number] = (log_mel, loudest.numpy())
            if len(self._examples) > _REMEMBERED_EXAMPLES:
                self._examples.popitem(last=False)
        return self._examples[number]

    def _draw_confidence(self, seconds: float, size: tuple[int, int]) -> Image:
        height, width = size
        part = np.full((height, width, 3), _BACKGROUND, dtype=np.uint8)
        color = [round(255 * value) for value in PREDICTION_COLOR]
        scale = width / SHOWN_SECONDS
        left = seconds - SHOWN_SECONDS / 2
        for start, end, confidence in self._confidence:
            # What comes is not known yet.
            first, last = (start - left) * scale, (min(end, seconds) - left) * scale
            top = round((height - 1) * (1 - min(max(confidence, 0.0), 1.0)))
            part[top:, max(0, round(first)) : max(0, round(last))] = color
        return part


def _draw_columns(
    columns: NDArray[np.float32], value_range: tuple[float, float], size: tuple[int, int]
) -> Image:
    silence, loud = value_range
    level = (columns - silence) / (loud - silence)
    codes = (np.clip(level, 0.0, 1.0) * 255).astype(np.uint8)
    upward = np.ascontiguousarray(codes.T[::-1])
    enlarged = cv2.resize(upward, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return _color_table()[enlarged]


def _draw_waveform(loudness: NDArray[np.float32], size: tuple[int, int]) -> Image:
    height, width = size
    part = np.full((height, width, 3), _BACKGROUND, dtype=np.uint8)
    places = (np.arange(width) * len(loudness)) // width
    reach = np.clip(loudness[places], 0.0, 1.0) * (height - 1) / 2
    distance = np.abs(np.arange(height) - (height - 1) / 2)
    part[distance[:, None] <= np.maximum(reach, 0.5)] = _WAVEFORM_COLOR
    return part


@functools.cache
def _color_table() -> NDArray[np.uint8]:
    table: NDArray[np.uint8] = matplotlib.colormaps[LOG_MEL_COLORS](np.arange(256), bytes=True)
    return np.ascontiguousarray(table[:, :3])
