"""Which moments of a film are asked about, worked out by hand."""

import numpy as np
import pytest

from transavs.engine.moments import evenly, every_frame
from transavs.video import FilmFrame


def frames(*times, duration=0.1):
    return [
        FilmFrame(time, duration, np.full((1, 1, 3), number, np.uint8))
        for number, time in enumerate(times)
    ]


def told(moments):
    return [(m.seconds, m.start, m.end, int(m.image.max())) for m in moments]


def approximately(*rows):
    return [pytest.approx(row) for row in rows]


class TestEvenly:
    def test_middles_of_seconds(self):
        film = frames(*np.arange(0, 2.5, 0.1))
        assert told(evenly(film, 1.0, 2.5)) == approximately(
            (0.5, 0, 1, 5), (1.5, 1, 2, 15), (2.25, 2, 2.5, 22)
        )

    def test_the_end_is_learned_from_the_last_picture(self):
        """The middle of the rest is before the last picture, which is all that is left then."""
        film = frames(*np.arange(0, 2.5, 0.1))
        assert told(evenly(film, 1.0, None)) == approximately(
            (0.5, 0, 1, 5), (1.5, 1, 2, 15), (2.25, 2, 2.5, 24)
        )

    def test_half_a_second(self):
        film = frames(*np.arange(0, 0.5, 0.1))
        assert told(evenly(film, 1.0, 0.5)) == approximately((0.25, 0, 0.5, 2))

    def test_what_is_on_screen_with_a_variable_rate(self):
        film = frames(0, 0.1, 2.6, 2.9)
        assert told(evenly(film, 1.0, 3.0)) == approximately(
            (0.5, 0, 1, 1), (1.5, 1, 2, 1), (2.5, 2, 3, 1)
        )

    def test_a_late_first_picture(self):
        film = frames(1.2, 1.6, 2.0, duration=0.4)
        assert told(evenly(film, 1.0, 2.4)) == approximately((1.7, 1.2, 2.2, 1), (2.3, 2.2, 2.4, 2))

    def test_more_moments_than_pictures(self):
        film = frames(0, 1, duration=1)
        assert told(evenly(film, 2.0, 2.0)) == approximately(
            (0.25, 0, 0.5, 0), (0.75, 0.5, 1, 0), (1.25, 1, 1.5, 1), (1.75, 1.5, 2, 1)
        )

    def test_a_sound_that_goes_on_behind_the_pictures(self):
        film = frames(0, 0.5, 1.0, duration=0.5)
        assert told(evenly(film, 1.0, 60.0)) == approximately((0.5, 0, 1, 1), (1.5, 1, 2, 2))

    def test_parts_cover_the_film_without_gaps(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            film = frames(*np.cumsum(rng.uniform(0.01, 0.7, 30)))
            rate = float(rng.uniform(0.3, 8))
            end = film[-1].seconds + 0.1
            found = list(evenly(film, rate, end))
            assert found[0].start == film[0].seconds
            assert found[-1].end == pytest.approx(end, abs=0.05 / rate)
            for one, other in zip(found[:-1], found[1:], strict=True):
                assert one.end == pytest.approx(other.start)
            for moment in found:
                shown = [f for f in film if f.seconds <= moment.seconds + 1e-9][-1]
                assert moment.image is shown.image

    def test_a_rest_that_is_no_part(self):
        film = frames(0, 1, duration=1)
        assert told(evenly(film, 1.0, 2.02)) == approximately((0.5, 0, 1, 0), (1.5, 1, 2, 1))
        assert told(evenly(frames(0, duration=0.02), 1.0, 0.02)) == [(0.01, 0, 0.02, 0)]

    def test_nothing(self):
        assert not list(evenly([], 1.0, 5.0))


class TestEveryFrame:
    def test_until_the_next(self):
        assert told(every_frame(frames(0.2, 0.3, 0.9))) == approximately(
            (0.2, 0.2, 0.3, 0), (0.3, 0.3, 0.9, 1), (0.9, 0.9, 1.0, 2)
        )

    def test_nothing(self):
        assert not list(every_frame([]))
