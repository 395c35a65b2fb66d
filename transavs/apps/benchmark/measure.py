"""Time and memory of inference, beside the encoder baseline.

The encoder baseline is the model's own image backbone and audio encoder alone, measured in turn
with the model on the same clips: the work that any model with these encoders has to do.
"""

from __future__ import annotations

import os
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_context
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from transavs.modeling.cost import Clip, random_clips
from transavs.structures import QueryOutput
from transavs.utils.timing import Timer, measure_in_turn, median_ratio

#: What was measured once: numbers by name, and words that tell it from other records.
Record = dict[str, float | str]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_MARK = "measured: "
# It is read when the profiler starts, which calls a machine without a GPU an error otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


@dataclass(frozen=True)
class Conditions:
    """What all measurements of a command have in common.

    Attributes:
        size: (height, width) of the frames, in pixels.
        precision: a key of ``PRECISIONS``.
        timer: the clock.
        repeats: the number of rounds; results are their medians.
        forced_foreground: the number of queries of each frame that :func:`force_foreground` takes.
    """

    size: tuple[int, int]
    precision: str
    timer: Timer
    repeats: int
    forced_foreground: int

    def autocast(self, device: torch.device) -> torch.autocast:
        """Returns the context of the precision."""
        lower = self.precision != "fp32"
        return torch.autocast(device.type, PRECISIONS[self.precision], enabled=lower)


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that a call takes.

    Attributes:
        peak: the largest sum of what it had allocated at once.
        spans: for each span that was marked within it, the bytes held when the span began, and
            the largest sum until its end. Empty on a GPU.
    """

    peak: int
    spans: dict[str, tuple[int, int]]


def measure_inference(
    cfg: CfgNode, model: Any, conditions: Conditions, batch: int, frames: int, memory: bool = True
) -> Record:
    """Returns what a batch of clips takes; ``memory`` says whether to measure that as well."""
    clips = random_clips(cfg, batch, frames, conditions.size)
    with (
        inference_context(model),
        torch.no_grad(),
        conditions.autocast(model.device),
        force_foreground(model, conditions.forced_foreground),
    ):
        calls = {"baseline": encoder_baseline(model, clips), "model": lambda: model(clips)}
        seconds = measure_in_turn(calls, conditions.timer, conditions.repeats)
        found = {"batch": batch, **beside_baseline(seconds)}
        found["seconds_per_clip"] = found["seconds"] / batch
        found["frames_per_second"] = batch * frames / found["seconds"]
        if memory:
            found["memory_bytes"] = measure_memory(calls["model"], model.device).peak
    return dict(found)


def beside_baseline(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Returns medians of the "model" and its "baseline", and the median of the rounds' ratios."""
    return {
        "seconds": statistics.median(seconds["model"]),
        "encoder_baseline_seconds": statistics.median(seconds["baseline"]),
        "ratio": median_ratio(seconds["model"], seconds["baseline"]),
    }


def encoder_baseline(model: Any, clips: list[Clip]) -> Callable[[], tuple[Any, Tensor]]:
    """Returns the encoder baseline as a call: image backbone and audio encoder, each once.

    Their input, normalised frames and log-mel patches, is made before.
    """
    (batch,) = model.batches(clips)
    audio = torch.cat([clip["audio"] for clip in clips]).to(model.device)
    return lambda: (model.backbone(batch.images), model.audio_encoder(audio))


@contextmanager
def force_foreground(model: nn.Module, count: int) -> Iterator[None]:
    """Makes the first ``count`` queries of each frame foreground, and no other.

    Random weights make none, and nothing would be left to do behind the decoder. A model without
    queries stays as it is.
    """

    if not hasattr(model, "query_decoder"):
        yield
        return
    untouched: Any = model.candidates

    def force(output: tuple[list[QueryOutput], Any]) -> Any:
        logits = output[0][-1].class_logits
        logits[..., -1] = logits[..., :-1].amax(-1) + 1
        logits[:, :count, -1] -= 2
        return untouched(output)

    model.candidates = force  # type: ignore[assignment]
    try:
        yield
    finally:
        del model.candidates


def measure_memory(call: Callable[[], object], device: torch.device) -> MemoryUse:
    """Runs a call once and returns the memory that it takes beside what was there before.

    On a GPU it is what PyTorch's allocator counts. On the CPU it is the sum of all allocations
    through PyTorch, as its profiler sees them, without what libraries take for themselves.
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
    times = [time for time, _ in changes]
    held = list(accumulate((change for _, change in changes), initial=0))
    spans = {}
    for event in events:
        if event.name().startswith(_MARK):
            first = bisect_left(times, event.start_ns())
            last = bisect_right(times, event.start_ns() + event.duration_ns())
            spans[event.name().removeprefix(_MARK)] = held[first], max(held[first : last + 1])
    return MemoryUse(max(held), spans)


def mark(name: str) -> record_function:
    """Returns a context that marks a span for :func:`measure_memory`."""
    return record_function(f"{_MARK}{name}")
