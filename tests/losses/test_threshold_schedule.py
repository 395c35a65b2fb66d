"""delta of Eq. (18)."""

import pytest

from transavs.losses import StepwiseThreshold

PAPER = StepwiseThreshold(start=0.55, end=0.65, period=5000, max_iter=90000)


@pytest.mark.parametrize(
    ("iteration", "steps"),
    [(0, 0), (4999, 0), (5000, 1), (9999, 1), (10000, 2), (45000, 9), (84999, 16), (85000, 17),
     (89999, 17), (90000, 18), (94999, 18), (200000, 18)],
)  # fmt: skip
def test_paper_schedule_takes_18_steps(iteration, steps):
    assert PAPER(iteration) == pytest.approx(0.55 + 0.1 / 18 * steps, abs=1e-12)


def test_schedule_is_eq_18_at_every_iteration_of_a_short_training():
    a, b, period, max_iter = 0.5, 0.8, 7, 50
    schedule = StepwiseThreshold(a, b, period, max_iter)
    steps = max_iter / period
    for iteration in range(max_iter):
        expected = a + (b - a) / steps * (iteration // period)
        assert schedule(iteration) == pytest.approx(expected, abs=1e-12)
    assert all(a <= schedule(iteration) <= b for iteration in range(200))


def test_equal_ends_are_a_fixed_threshold():
    schedule = StepwiseThreshold(0.6, 0.6, 5000, 90000)
    assert {schedule(iteration) for iteration in range(0, 90001, 2500)} == {0.6}


def test_a_new_object_continues_exactly():
    # Resuming builds the schedule anew: it must not depend on having been called before.
    assert [PAPER(i) for i in range(60000, 60010)] == [
        StepwiseThreshold(0.55, 0.65, 5000, 90000)(i) for i in range(60000, 60010)
    ]


@pytest.mark.parametrize("lengths", [{"period": 0, "max_iter": 5}, {"period": 5, "max_iter": 0}])
def test_lengths_below_one_are_refused(lengths):
    with pytest.raises(ValueError, match="at least 1"):
        StepwiseThreshold(0.5, 0.6, **lengths)
