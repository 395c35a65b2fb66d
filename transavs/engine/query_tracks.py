"""Follows queries from moment to moment, so that an object keeps its number and its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

# Masks are compared at this size, by their longest side in pixels.
_COMPARED_SIDE = 160
# The same query is worth so much overlap, for queries tend to keep their object: enough to follow
# one that jumps between two moments, too little to win against another that stayed in its place.
_SAME_QUERY = 0.15
# Below this, overlap and bonus together, two masks show two objects.
_LEAST_LIKENESS = 0.1


@dataclass
class _Track:
    number: int
    query: int
    mask: NDArray[np.bool_]
    last_seen: int


class QueryTracker:
    """Gives the sounding queries of successive moments track numbers, from 1 on.

    A query continues the track whose last mask it overlaps best (intersection over union, with a
    bonus for the same query; best pairs of all by the Hungarian method). What continues none
    starts a new track.

    Args:
        patience: moments that an object may be silent and still keep its number.
    """

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self._tracks: list[_Track] = []
        self._moment = 0
        self._next = 1

    def update(self, queries: Sequence[int], masks: Sequence[NDArray[np.bool_]]) -> list[int]:
        """Returns the track of each query of the next moment.

        Args:
            queries: which they are.
            masks: of each, bool ``[H, W]``, all of one size.
        """
        self._moment += 1
        self._tracks = [
            track for track in self._tracks if self._moment - track.last_seen <= self.patience + 1
        ]
        small = [_shrunk(mask) for mask in masks]
        likeness = np.zeros((len(small), len(self._tracks)))
        for row, (query, mask) in enumerate(zip(queries, small, strict=True)):
            for column, track in enumerate(self._tracks):
                likeness[row, column] = _overlap(mask, track.mask) + _SAME_QUERY * (
                    query == track.query
                )
        numbers = [0] * len(small)
        for row, column in zip(*linear_sum_assignment(-likeness), strict=True):
            if likeness[row, column] >= _LEAST_LIKENESS:
                track = self._tracks[column]
                track.query, track.mask, track.last_seen = queries[row], small[row], self._moment
                numbers[row] = track.number
        for row, number in enumerate(numbers):
            if number == 0:
                numbers[row] = self._next
                track = _Track(self._next, queries[row], small[row], self._moment)
                self._tracks.append(track)
                self._next += 1
        return numbers


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    step = max(1, max(mask.shape) // _COMPARED_SIDE)
    return mask[step // 2 :: step, step // 2 :: step].copy()


def _overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    if first.shape != second.shape:
        return 0.0
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0
