"""Objects keep their numbers while they move, pause and swap queries."""

import numpy as np

from transavs.engine.query_tracks import QueryTracker


def square(left, top=0, size=10, shape=(40, 60)):
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_moving_objects_keep_their_numbers():
    tracker = QueryTracker()
    for step in range(8):
        numbers = tracker.update([4, 9], [square(2 * step, 0), square(40 - 2 * step, 20)])
        assert numbers == [1, 2]


def test_the_order_of_queries_does_not_matter():
    tracker = QueryTracker()
    assert tracker.update([4, 9], [square(0), square(40)]) == [1, 2]
    assert tracker.update([9, 4], [square(41), square(1)]) == [2, 1]


def test_overlap_beats_the_query():
    """Two queries have swapped their objects."""
    tracker = QueryTracker()
    tracker.update([4, 9], [square(0), square(40)])
    assert tracker.update([9, 4], [square(0), square(40)]) == [1, 2]


def test_the_same_query_decides_a_draw():
    tracker = QueryTracker()
    tracker.update([4, 9], [square(0, 0), square(0, 10)])
    assert tracker.update([9, 4], [square(0, 5), square(0, 5)]) == [2, 1]


def test_something_new_gets_a_new_number():
    tracker = QueryTracker()
    tracker.update([4], [square(0)])
    assert tracker.update([4, 5], [square(0), square(40)]) == [1, 2]
    assert tracker.update([4, 6], [square(0), square(20, 25)]) == [1, 3]


def test_an_object_that_jumps_keeps_its_query_and_number():
    tracker = QueryTracker()
    tracker.update([4], [square(0)])
    assert tracker.update([4], [square(40, 25)]) == [1]


def test_a_pause_within_patience_and_beyond():
    tracker = QueryTracker(patience=2)
    assert tracker.update([1], [square(0)]) == [1]
    assert tracker.update([], []) == []
    assert tracker.update([], []) == []
    assert tracker.update([1], [square(0)]) == [1]
    for _ in range(3):
        tracker.update([], [])
    assert tracker.update([1], [square(0)]) == [2]


def test_large_pictures_are_compared_at_a_small_size():
    tracker = QueryTracker()
    shape = (1080, 1920)
    assert tracker.update([0], [square(100, 100, 400, shape)]) == [1]
    assert tracker._tracks[0].mask.size < 20_000
    assert tracker.update([0], [square(900, 100, 400, shape)]) == [1]
    assert tracker.update([3], [square(100, 600, 400, shape)]) == [2]
