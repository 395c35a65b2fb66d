"""What a film is to everybody who reads one: pictures with their moments, and a sound.

All times are seconds from the film's beginning, which is the earliest timestamp of its container.
Frames are aligned with the sound by these times alone; nothing is ever counted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from transavs.video.sound import Sound

# Pixels uint8 [H, W, 3] in RGB order.
Image = NDArray[Any]

# Longest side of the pictures, in pixels: films of 4K and 8K are scaled down to it when they are
# decoded. Models see frames of 160 to 448 pixels, and encoders of such films need gigabytes.
LONGEST_SIDE = 1920


@dataclass(frozen=True)
class FilmFrame:
    """A picture of a film.

    Attributes:
        seconds: when it comes on screen.
        duration: how long it stays there, in seconds: until the next one comes, or the part that
            was asked for ends; of the last picture, what the film says of it.
        image: uint8 ``[H, W, 3]``, RGB, upright, with square pixels.
    """

    seconds: float
    duration: float
    image: Image


class Film(ABC):
    """A film: it can be read several times, from several places at once.

    Attributes:
        name: for messages.
        height: of all its pictures, in pixels, even.
        width: likewise.
        frame_rate: pictures a second, nominal: films with a variable rate have none.
        duration: seconds from the beginning to the end; None where the container does not tell.
        has_sound: whether there is any.
    """

    name: str
    height: int
    width: int
    frame_rate: float
    duration: float | None
    has_sound: bool

    @abstractmethod
    def frames(self, start: float = 0.0, end: float | None = None) -> Iterator[FilmFrame]:
        """Yields the pictures from ``start`` on, in the order of their strictly rising times.

        The first is the one on screen at ``start``, as if it came then.

        Args:
            start: seconds.
            end: seconds; pictures that come then or later are left out. None reads to the end.
        """

    @abstractmethod
    def sound(self) -> Sound:
        """Returns a new reader of the film's sound, silent where there is none."""


def fitted_size(height: float, width: float, longest_side: int) -> tuple[int, int]:
    """Returns the (height, width) that pictures of a film get: even, as its encoders need it.

    Args:
        height: of the upright picture with square pixels.
        width: likewise.
        longest_side: limit of both, in pixels; the aspect is kept. 0 for none.
    """
    scale = 1.0
    if longest_side and max(height, width) > longest_side:
        scale = longest_side / max(height, width)
    return _even(height * scale), _even(width * scale)


def check_span(start: float, end: float | None, duration: float | None, name: str) -> None:
    """Raises ValueError for a start or an end that a film does not have."""
    if not (0 <= start < math.inf and (end is None or start < end < math.inf)):
        until = "its end" if end is None else f"second {end:g}"
        raise ValueError(f"expected a part of {name}, got second {start:g} to {until}")
    if duration is not None and start >= duration:
        raise ValueError(f"{name} ends at second {duration:.2f}, before the start at {start:g}")


def _even(pixels: float) -> int:
    return max(2, 2 * int(pixels / 2 + 1e-6))
