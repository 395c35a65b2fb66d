"""What torch.compile is worth: a model as it is and a compiled copy of it, measured in turn."""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode

from transavs.engine.benchmark.clips import random_clips, training_frames
from transavs.engine.benchmark.clock import (
    Clock,
    autocast,
    evaluation,
    measure_in_turn,
    median_ratio,
)
from transavs.engine.benchmark.inference import claiming_queries
from transavs.engine.benchmark.training import training_step
from transavs.modeling.compiling import compile_parts

#: What is measured as it is and compiled.
WORKS = ("inference", "training")
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def measure_compiled(
    cfg: CfgNode,
    model: Any,
    work: str,
    *,
    batch: int,
    frames: int,
    size: tuple[int, int],
    masks: int,
    precision: str,
    clock: Clock,
    repeats: int,
    claiming: int,
    backend: str = "inductor",
) -> dict[str, Any]:
    """Returns what a model and a compiled copy of it take for the same clips, in turn.

    The copy's graphs are compiled afresh, in a cache of their own.

    Args:
        cfg: of the model and its optimizer.
        model: takes clips; training changes its weights.
        work: out of ``WORKS``: answering clips, or a step of training.
        batch: clips at once in inference; training has ``SOLVER.IMS_PER_BATCH``.
        frames: of each in inference; training has as many as the mapper gives.
        size: (H, W) of the frames.
        masks: true masks of a frame in training.
        precision: out of ``PRECISIONS``.
        clock: reads the time.
        repeats: of both, in turn.
        claiming: queries of a frame that claim to sound in inference.
        backend: of ``torch.compile``.

    Returns:
        ``work``, ``batch``, ``frames``; ``seconds`` and ``compiled_seconds`` (medians), ``ratio``
        (median of the rounds' compiled / as it is); ``first_seconds`` of the call that compiles,
        with its compilers; ``graphs``, how many there are, and ``breaks``: reason -> how often
        a graph ended early for it.

    Raises:
        ValueError: an unknown backend, or no C++ compiler where it needs one.
    """
    from torch._dynamo.utils import counters

    own = copy.deepcopy(model)
    compile_parts(own, backend)
    models = {"eager": model, "compiled": own}
    if work == "training":
        batch, frames = int(cfg.SOLVER.IMS_PER_BATCH), training_frames(cfg)
    clips = random_clips(cfg, batch, frames, size, masks=masks if work == "training" else 0)
    torch._dynamo.reset()
    counters.clear()
    with ExitStack() as stack:
        if work == "inference":
            # Once and not in each call: graphs hold for the hooks that they were made with.
            for each in models.values():
                stack.enter_context(claiming_queries(each, claiming))
        stack.enter_context(_fresh_compiler(single=clock.processor))
        calls = {name: _call(cfg, each, work, clips, precision) for name, each in models.items()}
        start = _seconds(clock)
        calls["compiled"]()
        first = _seconds(clock) - start
        seconds = measure_in_turn(calls, clock, repeats, warmup=2)
    return {
        "work": work,
        "batch": batch,
        "frames": frames,
        "seconds": statistics.median(seconds["eager"]),
        "compiled_seconds": statistics.median(seconds["compiled"]),
        "ratio": median_ratio(seconds["compiled"], seconds["eager"]),
        "first_seconds": first,
        "graphs": int(counters["stats"]["unique_graphs"]),
        "breaks": _first_lines(counters["graph_break"]),
    }


def _call(
    cfg: CfgNode, model: Any, work: str, clips: list[dict[str, Any]], precision: str
) -> Callable[[], object]:
    if work == "training":
        step = training_step(cfg, model, clips, precision)
        return lambda: step(None)

    def answer() -> None:
        with evaluation(model), autocast(precision, model.device):
            model(clips)

    return answer


@contextmanager
def _fresh_compiler(single: bool) -> Iterator[None]:
    """An empty cache for what inductor makes; ``single``: it starts no processes that stay."""
    from torch._inductor import config

    before = os.environ.get(_CACHE)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        config.patch(compile_threads=1) if single else nullcontext(),  # type: ignore[attr-defined]
    ):
        os.environ[_CACHE] = folder
        try:
            yield
        finally:
            del os.environ[_CACHE]
            if before is not None:
                os.environ[_CACHE] = before


def _seconds(clock: Clock) -> float:
    """Processor time with that of compilers that have ended, or time on the wall."""
    return sum(os.times()[:4]) if clock.processor else time.perf_counter()


def _first_lines(breaks: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for reason, count in breaks.items():
        line = reason.strip().split("\n", 1)[0]
        found[line] = found.get(line, 0) + count
    return found
