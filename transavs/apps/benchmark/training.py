"""A training step in its stages, and what ``torch.compile`` makes of it and of inference."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_context
from torch import Tensor

from transavs.apps.benchmark.measure import (
    Conditions,
    Record,
    beside_baseline,
    encoder_baseline,
    force_foreground,
    mark,
    measure_memory,
)
from transavs.engine.optimizer import build_optimizer
from transavs.modeling.compiling import compile_parts
from transavs.modeling.cost import Clip, random_clips
from transavs.utils.timing import measure_in_turn, median_ratio

#: The phases that are measured as they are and compiled.
PHASES = ("inference", "training")
#: The stages of a training step, in their order.
STAGES = ("forward", "matching", "losses", "backward", "optimizer")

#: Returns the context of a stage.
Span = Callable[[str], AbstractContextManager[object]]


def measure_training(cfg: CfgNode, model: Any, conditions: Conditions, masks: int) -> Record:
    """Returns what a step of ``SOLVER.IMS_PER_BATCH`` clips takes; the weights change.

    Besides times there are the stages' seconds and their shares of the step, ``loss_share`` of
    matching and losses, the peak memory, and on the CPU ``activation_bytes``, which are held when
    the losses begin, and ``loss_bytes``, which these add at most.
    """
    batch, frames = int(cfg.SOLVER.IMS_PER_BATCH), training_frames(cfg)
    clips = random_clips(cfg, batch, frames, conditions.size, masks)
    step = training_step(cfg, model, clips, conditions)
    rounds: list[dict[str, float]] = []

    def timed_step() -> None:
        stages = dict.fromkeys(STAGES, 0.0)

        @contextmanager
        def span(stage: str) -> Iterator[None]:
            start = conditions.timer()
            yield
            stages[stage] += conditions.timer() - start

        step(span)
        # The losses happen within the forward pass, and matching within the losses.
        stages["forward"] -= stages["losses"]
        stages["losses"] -= stages["matching"]
        rounds.append(stages)

    calls = {"baseline": _training_baseline(model, clips, conditions), "model": timed_step}
    seconds = measure_in_turn(calls, conditions.timer, conditions.repeats)
    counted = rounds[-conditions.repeats :]
    found = {"batch": batch, "frames": frames, "masks": masks, **beside_baseline(seconds)}
    found["images_per_second"] = batch * frames / found["seconds"]
    for stage in STAGES:
        found[f"{stage}_seconds"] = statistics.median(stages[stage] for stages in counted)
        found[f"{stage}_share"] = found[f"{stage}_seconds"] / found["seconds"]
    losses = [stages["matching"] + stages["losses"] for stages in counted]
    found["loss_share"] = median_ratio(losses, seconds["model"])
    used = measure_memory(lambda: step(mark), model.device)
    found["memory_bytes"] = used.peak
    if "losses" in used.spans:
        held, peak = used.spans["losses"]
        found |= {"activation_bytes": held, "loss_bytes": peak - held}
    return dict(found)


def measure_compiled(
    cfg: CfgNode,
    model: Any,
    conditions: Conditions,
    phase: str,
    *,
    batch: int,
    frames: int,
    masks: int,
    backend: str = "inductor",
) -> Record:
    """Returns what a model and a copy made by ``torch.compile`` take for the same clips, in turn.

    The graphs are compiled afresh, in an empty cache: ``first_seconds`` are those of the call that
    does it, with its compilers. ``ratio`` is compiled / as it is. Training has the clips of
    :func:`measure_training` and changes the weights; ``batch`` and ``frames`` are of inference.

    Raises:
        ValueError: an unknown backend, or no C++ compiler where it needs one.
    """
    from torch._dynamo.utils import counters
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    compiled = copy.deepcopy(model)
    compile_parts(compiled, backend)
    if phase == "training":
        batch, frames = int(cfg.SOLVER.IMS_PER_BATCH), training_frames(cfg)
    clips = random_clips(cfg, batch, frames, conditions.size, masks if phase == "training" else 0)
    torch._dynamo.reset()
    counters.clear()
    timer, threads = conditions.timer, None
    if timer is time.process_time:
        # With the time of compilers that have ended; none stay where there is but one process.
        timer, threads = (lambda: sum(os.times()[:4])), 1
    with ExitStack() as stack:
        if phase == "inference":
            # Once and not in each call: graphs hold for the hooks that they were made with.
            for each in (model, compiled):
                stack.enter_context(force_foreground(each, conditions.forced_foreground))
        stack.enter_context(fresh_cache())
        if threads:
            stack.enter_context(config.patch(compile_threads=threads))  # type: ignore[attr-defined]
        calls = {
            "model": _phase_call(cfg, model, conditions, phase, clips),
            "compiled": _phase_call(cfg, compiled, conditions, phase, clips),
        }
        start = timer()
        calls["compiled"]()
        first = timer() - start
        seconds = measure_in_turn(calls, conditions.timer, conditions.repeats, warmup=2)
    breaks = counters["graph_break"]
    return {
        "phase": phase,
        "batch": batch,
        "frames": frames,
        "seconds": statistics.median(seconds["model"]),
        "compiled_seconds": statistics.median(seconds["compiled"]),
        "ratio": median_ratio(seconds["compiled"], seconds["model"]),
        "first_seconds": first,
        "graphs": int(counters["stats"]["unique_graphs"]),
        "graph_breaks": sum(breaks.values()),
        "break_reasons": "; ".join(sorted({reason.strip().split("\n")[0] for reason in breaks})),
    }


def labelled_seconds(cfg: CfgNode) -> tuple[int, ...]:
    """Returns which seconds of a training clip have a mask, by the facts of ``DATASETS.TRAIN``.

    These are all of ``INPUT.CLIP_SECONDS`` where no registered data set of ours is named.
    """
    seconds = int(cfg.INPUT.CLIP_SECONDS)
    for name in cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
        if metadata is not None and hasattr(metadata, "spec"):
            labelled = metadata.spec.split(metadata.split).labelled_seconds
            return tuple(second for second in labelled if second < seconds)
    return tuple(range(seconds))


def training_frames(cfg: CfgNode) -> int:
    """Returns the number of frames of a clip that a training step sees."""
    labelled = len(labelled_seconds(cfg))
    return min(labelled, int(cfg.INPUT.TRAIN_FRAMES) or labelled)


def training_step(
    cfg: CfgNode, model: Any, clips: list[Clip], conditions: Conditions
) -> Callable[[Span | None], None]:
    """Returns a step on clips with targets, as a call that changes the weights.

    The call takes what returns a context for each stage, or None. Losses of fp16 are scaled as in
    training.
    """
    model.train()
    optimizer = build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(model.device.type, enabled=conditions.precision == "fp16")

    def step(span: Span | None) -> None:
        optimizer.zero_grad(set_to_none=True)
        # Spans change methods of the model, and graphs of a compiled part would not hold for them.
        stages = _spans_within(model, span) if span else nullcontext()
        span = span or nullcontext
        with stages:
            with span("forward"), conditions.autocast(model.device):
                losses: dict[str, Tensor] = model(clips)
            with span("backward"):
                total = torch.stack([value.float() for value in losses.values()]).sum()
                scaler.scale(total).backward()
        with span("optimizer"):
            if scaler.is_enabled():
                # Before the step, which clips; a fused optimizer would unscale behind it.
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()

    return step


@contextmanager
def _spans_within(model: Any, span: Span) -> Iterator[None]:
    """Puts spans around the model's losses and, within them, the matching, where it has these."""

    def spanned(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with span(stage):
                return method(*args)

        return call

    matcher = getattr(getattr(model, "criterion", None), "matcher", None)
    methods = [(model, "losses", "losses"), (matcher, "forward", "matching")]
    methods = [entry for entry in methods if entry[0] is not None]
    for owner, name, stage in methods:  # on the instances, where they hide those of the classes
        setattr(owner, name, spanned(getattr(owner, name), stage))
    try:
        yield
    finally:
        for owner, name, _ in methods:
            delattr(owner, name)


def _training_baseline(
    model: Any, clips: list[Clip], conditions: Conditions
) -> Callable[[], object]:
    """The encoder baseline with the image backbone's backward pass, where it learns."""
    both = encoder_baseline(model, clips)

    def call() -> None:
        with conditions.autocast(model.device):
            features, _ = both()
        learning = [value for value in features.values() if value.requires_grad]
        if learning:
            parameters = [p for p in model.backbone.parameters() if p.requires_grad]
            ones = [torch.ones_like(value) for value in learning]
            torch.autograd.grad(learning, parameters, ones, allow_unused=True)

    return call


def _phase_call(
    cfg: CfgNode, model: Any, conditions: Conditions, phase: str, clips: list[Clip]
) -> Callable[[], object]:
    if phase == "training":
        step = training_step(cfg, model, clips, conditions)
        return lambda: step(None)

    def predict() -> None:
        with inference_context(model), torch.no_grad(), conditions.autocast(model.device):
            model(clips)

    return predict
