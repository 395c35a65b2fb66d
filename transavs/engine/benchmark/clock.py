"""How time is taken: what is compared is measured in turn, within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Clock:
    """Reads the time, after the device has done what it was told.

    Attributes:
        device: that the work runs on.
        processor: count the process's own processor time and not what others on the machine take
            from it; of several threads it is the sum. False: seconds on the wall.
    """

    device: torch.device
    processor: bool

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.processor else time.perf_counter()

    @classmethod
    def choose(cls, device: torch.device, threads: int) -> Clock:
        """Returns a clock of processor time for one thread on the CPU, else one of wall time."""
        return cls(device, processor=device.type == "cpu" and threads == 1)


def measure_in_turn(
    calls: Mapping[str, Callable[[], object]], clock: Clock, repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Returns the seconds of each call, ``repeats`` of each, taken one after the other.

    Args:
        calls: what to measure, by name.
        clock: reads the time.
        repeats: rounds through all calls that count.
        warmup: rounds before that do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            start = clock()
            call()
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(seconds: list[float], limit: list[float]) -> float:
    """Returns the median of the rounds' ratios, both measured in the same rounds."""
    return statistics.median(a / b for a, b in zip(seconds, limit, strict=True))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Returns the context of a precision out of ``PRECISIONS``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


@contextmanager
def evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Sets evaluation mode without gradients, and the old mode afterwards."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(mode)
