"""A training step in its parts: forward, matching, losses, backward, optimizer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from transavs.engine.benchmark.clips import random_clips, training_frames
from transavs.engine.benchmark.clock import Clock, autocast, measure_in_turn, median_ratio
from transavs.engine.benchmark.inference import limit_call
from transavs.engine.benchmark.memory import mark, measure_memory
from transavs.engine.optimizer import build_optimizer

#: Parts of a step, in their order.
STAGES = ("forward", "matching", "losses", "backward", "optimizer")

Span = Callable[[str], AbstractContextManager[object]]


class StageTimes:
    """Seconds of each stage, and of all together, added up over the steps since ``clear``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    def clear(self) -> None:
        """Forgets all steps."""
        self.seconds = {}

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Adds the time within the context to a stage."""
        start = self._clock()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + self._clock() - start


@contextmanager
def stages_of_the_model(model: Any, span: Span) -> Iterator[None]:
    """Puts a span around the model's losses, "losses", and within them around the "matching".

    Args:
        model: a ``ClipModel``; its matcher, and its loss of agreement, may be missing.
        span: called with the name of a stage, returns the context to run it in.
    """
    matcher = getattr(getattr(model, "criterion", None), "matcher", None)
    wrapped = [(model, "_losses", "losses"), (matcher, "forward", "matching")]
    wrapped.append((getattr(model, "agreement_loss", None), "forward", "losses"))
    # Set on the instances, where they hide the methods of the classes.
    changed: list[tuple[Any, str]] = []
    for owner, name, stage in wrapped:
        if owner is not None:
            object.__setattr__(owner, name, _spanned(getattr(owner, name), stage, span))
            changed.append((owner, name))
    try:
        yield
    finally:
        for owner, name in changed:
            object.__delattr__(owner, name)


def _spanned(method: Callable[..., Any], stage: str, span: Span) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with span(stage):
            return method(*args)

    return call


def _no_span(_stage: str) -> AbstractContextManager[object]:
    return nullcontext()


def training_step(
    cfg: CfgNode, model: Any, clips: list[dict[str, Any]], precision: str
) -> Callable[[Span | None], None]:
    """Returns a step of training on some clips, as a call with a span around each stage, or None.

    Args:
        cfg: of the model and its optimizer.
        model: takes clips; set to training, and its weights change.
        clips: with targets.
        precision: out of ``PRECISIONS``; losses of fp16 are scaled as in training.
    """
    model.train()
    optimizer = build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")

    def step(span: Span | None) -> None:
        optimizer.zero_grad(set_to_none=True)
        # Spans change methods of the model, and graphs of a compiled part would not hold for them.
        stages = nullcontext() if span is None else stages_of_the_model(model, span)
        span = span or _no_span
        with stages:
            with span("forward"), autocast(precision, model.device):
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


def measure_training(
    cfg: CfgNode,
    model: Any,
    *,
    batch: int,
    size: tuple[int, int],
    masks: int,
    precision: str,
    clock: Clock,
    repeats: int,
) -> dict[str, Any]:
    """Returns the parts of a training step, beside the limit of training.

    The clips have as many frames as the mapper gives: those that the training set labels, or
    ``INPUT.TRAIN_FRAMES`` of them. The limit is what any model with
    these encoders has to do: the audio encoder once, and the image backbone forward, and backward
    where it learns.

    Args:
        cfg: of the model and its optimizer.
        model: takes clips; its weights change.
        batch: clips of a step.
        size: (H, W) of the frames.
        masks: true masks of a frame.
        precision: out of ``PRECISIONS``; losses of fp16 are scaled as in training.
        clock: reads the time.
        repeats: steps that count.

    Returns:
        ``seconds`` (median), ``images_per_second``, ``limit_seconds``, ``ratio``, ``stages``
        (medians), ``loss_share`` (of matching and losses in the step), ``memory_bytes``; on
        the CPU ``activation_bytes``, what the model holds when the losses begin, and
        ``loss_bytes``, what they add at most.
    """
    frames = training_frames(cfg)
    clips = random_clips(cfg, batch, frames, size, masks=masks)
    times = StageTimes(clock)
    rounds: list[dict[str, float]] = []
    step = training_step(cfg, model, clips, precision)

    def timed_step() -> None:
        times.clear()
        step(times.span)
        rounds.append(times.seconds)

    calls = {"limit": _training_limit(model, clips, precision), "model": timed_step}
    seconds = measure_in_turn(calls, clock, repeats)
    parts = [_without_overlap(found) for found in rounds[-repeats:]]
    used = measure_memory(lambda: step(mark), model.device)
    stages = {name: statistics.median(found[name] for found in parts) for name in STAGES}
    shares = [
        (found["matching"] + found["losses"]) / whole
        for found, whole in zip(parts, seconds["model"], strict=True)
    ]
    median = statistics.median(seconds["model"])
    result: dict[str, Any] = {
        "batch": batch,
        "frames": frames,
        "masks": masks,
        "seconds": median,
        "images_per_second": batch * frames / median,
        "limit_seconds": statistics.median(seconds["limit"]),
        "ratio": median_ratio(seconds["model"], seconds["limit"]),
        "stages": stages,
        "loss_share": statistics.median(shares),
        "memory_bytes": used.peak,
    }
    if "losses" in used.spans:
        held, peak = used.spans["losses"]
        result |= {"activation_bytes": held, "loss_bytes": peak - held}
    return result


def _without_overlap(seconds: dict[str, float]) -> dict[str, float]:
    """Stages as they are reported: the losses happen within the forward pass, matching in them."""
    found = {name: seconds.get(name, 0.0) for name in STAGES}
    found["forward"] -= found["losses"]
    found["losses"] -= found["matching"]
    return found


def _training_limit(
    model: Any, clips: list[dict[str, Any]], precision: str
) -> Callable[[], object]:
    """Audio encoder forward, image backbone forward and, where it learns, backward."""
    both = limit_call(model, clips)

    def call() -> None:
        with autocast(precision, model.device):
            features, _ = both()
        learning = [value for value in features.values() if value.requires_grad]
        if learning:
            parameters = [p for p in model.backbone.parameters() if p.requires_grad]
            ones = [torch.ones_like(value) for value in learning]
            torch.autograd.grad(learning, parameters, ones, allow_unused=True)

    return call
