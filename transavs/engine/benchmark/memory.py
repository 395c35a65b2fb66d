"""Peak memory of a call: what it allocates through PyTorch, beside what was there before."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_PREFIX = "measured: "
# Read when the profiler starts. It would call a machine without a GPU an error.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that a call takes.

    Attributes:
        peak: largest sum of what it had allocated at once.
        spans: of each span that was marked within it, the bytes held when it began and the largest
            sum until its end.
    """

    peak: int
    spans: dict[str, tuple[int, int]]


def mark(name: str) -> record_function:
    """Returns a context that marks a span for :func:`measure_memory`."""
    return record_function(f"{_PREFIX}{name}")


def measure_memory(call: Callable[[], object], device: torch.device) -> MemoryUse:
    """Runs a call once and returns its peak memory.

    On a GPU it is what PyTorch's allocator counts, without spans. On the CPU it is the sum of all
    allocations through PyTorch, as its profiler sees them; what libraries take for themselves
    besides is not in it.

    Args:
        call: what to measure.
        device: that it runs on.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return MemoryUse(torch.cuda.max_memory_allocated(device) - before, {})
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results: Any = profiler.profiler
    events = list(results.kineto_results.events())
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    spans = {}
    for event in events:
        if event.name().startswith(_PREFIX):
            end = event.start_ns() + event.duration_ns()
            name = event.name().removeprefix(_PREFIX)
            spans[name] = _held(changes, event.start_ns()), _peak(changes, event.start_ns(), end)
    return MemoryUse(_peak(changes), spans)


def _held(changes: Sequence[tuple[int, int]], time: int) -> int:
    return sum(change for moment, change in changes if moment < time)


def _peak(changes: Sequence[tuple[int, int]], start: int = 0, end: int | None = None) -> int:
    held = largest = _held(changes, start)
    for moment, change in changes:
        if moment >= start and (end is None or moment <= end):
            held += change
            largest = max(largest, held)
    return largest
