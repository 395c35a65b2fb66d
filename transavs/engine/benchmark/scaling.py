"""How the cost grows: one quantity at a time is varied, the others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Point:
    """What is measured at once.

    Attributes:
        queries: Q.
        size: side of the square frames, in pixels.
        frames: of a clip, and seconds of its sound.
        batch: clips at once.
    """

    queries: int
    size: int
    frames: int
    batch: int


#: Values of each quantity by default.
SWEEPS: Mapping[str, Sequence[int]] = {
    "queries": (20, 50, 100, 200, 300, 500),
    "size": (224, 320, 448, 672, 1024),
    "frames": (1, 2, 5, 10),
    "batch": (1, 2, 4, 8),
}


def sweep_points(
    centre: Point, sweeps: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, int, Point]]:
    """Yields the quantity, its value, and where to measure.

    Args:
        centre: what the other quantities are.
        sweeps: values by the name of an attribute of :class:`Point`.
    """
    for quantity, values in sweeps.items():
        for value in values:
            yield quantity, value, replace(centre, **{quantity: value})


def measure_scaling(
    points: Sequence[tuple[str, int, Point]], measure: Callable[[Point], Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Returns what ``measure`` finds, by quantity; a point that several share is measured once."""
    known: dict[Point, Mapping[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for quantity, value, point in points:
        if point not in known:
            known[point] = measure(point)
        found.setdefault(quantity, []).append({"value": value, **known[point]})
    return found
