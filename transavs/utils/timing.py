"""Times calls in turn, so that what slows the machine for a while slows all of them alike.

``torch.utils.benchmark`` gives the clock. Its ``Timer`` is not used, because it measures one call
after the other and runs two more before each measurement, which a training step is too slow for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.utils import benchmark

#: Returns seconds since any moment.
Timer = Callable[[], float]


def choose_timer(device: torch.device, threads: int) -> Timer:
    """Returns ``time.process_time`` for one thread on the CPU, otherwise a clock of wall time.

    Processor time leaves out what other programs take from the machine; of several threads it
    would be the sum. The clock of wall time waits until a GPU has done what it was told.
    """
    return time.process_time if device.type == "cpu" and threads == 1 else benchmark.timer


def measure_in_turn(
    calls: Mapping[str, Callable[[], object]], timer: Timer, repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Returns the seconds of each call, ``repeats`` of each, taken one after the other.

    Args:
        calls: the calls to measure, by name.
        timer: the clock, see :func:`choose_timer`.
        repeats: the number of rounds through all calls that count.
        warmup: the number of rounds before them, which do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            start = timer()
            call()
            if turn >= warmup:
                seconds[name].append(timer() - start)
    return seconds


def median_ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """Returns the median of the rounds' ratios; both were measured in the same rounds."""
    return statistics.median(a / b for a, b in zip(seconds, baseline, strict=True))
