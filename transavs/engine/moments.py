"""The moments of a film that a model is asked about, and how long each answer stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from transavs.video import FilmFrame

# A last part that is shorter than this, of the others' length, is what floating point, timestamps
# and the padding of sounds leave behind; the masks before it stay.
_REMAINDER = 0.05


@dataclass(frozen=True)
class Moment:
    """A picture, and the part of the film that it stands for.

    Attributes:
        seconds: what is heard then is heard with the picture.
        start: the part's first second.
        end: and its last.
        image: uint8 ``[H, W, 3]``, RGB, on screen at ``seconds``.
    """

    seconds: float
    start: float
    end: float
    image: NDArray[Any]


def every_frame(frames: Iterable[FilmFrame]) -> Iterator[Moment]:
    """Yields a moment a frame: when it comes on screen, until the next one does."""
    before: FilmFrame | None = None
    for frame in frames:
        if before is not None:
            yield Moment(before.seconds, before.seconds, frame.seconds, before.image)
        before = frame
    if before is not None:
        end = before.seconds + before.duration
        yield Moment(before.seconds, before.seconds, end, before.image)


def evenly(frames: Iterable[FilmFrame], per_second: float, end: float | None) -> Iterator[Moment]:
    """Yields the middles of equal parts of a film, each with the picture on screen then.

    The parts follow each other from the first picture on; the last may be shorter, but for rests
    of less than a twentieth. A picture that
    stays on screen for long is met again and again, with other sounds.

    Args:
        frames: with rising times.
        per_second: parts a second.
        end: of the film, in seconds; None where only its last picture tells.
    """
    length = 1 / per_second
    nothing = _REMAINDER * length
    shown: FilmFrame | None = None
    number, first = 0, 0.0

    def describe(limit: float | None) -> tuple[float, float, float]:
        start = first + number * length
        stop = start + length if limit is None else min(start + length, limit)
        return (start + stop) / 2, start, stop

    for frame in frames:
        if shown is None:
            first = frame.seconds
        else:
            while True:
                middle, start, stop = describe(end)
                if middle >= frame.seconds or (number and stop - start < nothing):
                    break
                yield Moment(middle, start, stop, shown.image)
                number += 1
        shown = frame
    if shown is None:
        return
    finish = shown.seconds + shown.duration
    limit = finish if end is None else end
    while True:
        middle, start, stop = describe(limit)
        if number and (stop - start < nothing or start >= finish - nothing):
            return
        yield Moment(middle, start, stop, shown.image)
        number += 1
