"""Where NaN or infinity comes from: the clips of a faulty step are run once more, one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from transavs.losses import HungarianMatcher

Losses = Callable[[nn.Module, list[dict[str, Any]]], dict[str, Tensor]]

# Names that are listed; the others are counted.
_LISTED = 10


@dataclass
class ClipTrace:
    """What is not finite when a clip is run alone; empty: nothing.

    Attributes:
        clip: its id.
        error: why it could not be run alone.
        output: first module with such an output, in the order of the forward pass.
        matching: the cost of the matching.
        losses: their names.
        gradient: first module with such a gradient at its output, in the order of the backward
            pass.
        parameters: those with such a gradient.
    """

    clip: str
    error: str | None = None
    output: str | None = None
    matching: str | None = None
    losses: list[str] = field(default_factory=list)
    gradient: str | None = None
    parameters: list[str] = field(default_factory=list)

    def first(self) -> str | None:
        """The first of it, in words."""
        if self.output:
            return f"output of {self.output}"
        if self.matching:
            return self.matching
        if self.losses:
            return self.losses[0]
        if self.gradient:
            return f"gradient at the output of {self.gradient}"
        return f"gradient of {self.parameters[0]}" if self.parameters else None


@dataclass
class Trace:
    """What was found.

    Attributes:
        weights: parameters and buffers that are not finite, before any step.
        gradients: parameters whose gradient in the faulty step is not.
        clips: of each clip of this process.
    """

    weights: list[str]
    gradients: list[str]
    clips: list[ClipTrace]

    @property
    def first_clip(self) -> int | None:
        """Index of the first clip that does it alone."""
        return next((i for i, clip in enumerate(self.clips) if clip.first()), None)

    def summary(self) -> str:
        """One line about it."""
        guilty = [clip for clip in self.clips if clip.first()]
        if self.weights:
            text = f"the weights themselves are not finite: {_listed(self.weights)}"
            return f"{text} (an older checkpoint may be sound)"
        if guilty:
            names = _listed([clip.clip for clip in guilty])
            return f"first: {guilty[0].first()}; of the clips {names}"
        names = _listed([clip.clip for clip in self.clips])
        if self.gradients:
            return f"gradient of {_listed(self.gradients)}; none of the clips {names} does it alone"
        return f"none of the clips {names} does it alone"

    def as_dict(self) -> dict[str, Any]:
        return {
            "weights_not_finite": self.weights[:_LISTED],
            "gradients_not_finite": self.gradients[:_LISTED],
            "gradients_not_finite_count": len(self.gradients),
            "clips_alone": [dataclasses.asdict(clip) for clip in self.clips],
        }


def trace(
    model: nn.Module, clips: Sequence[dict[str, Any]], losses: Losses, iteration: int
) -> Trace:
    """Runs each clip by itself, forward and backward, and tells what is not finite.

    It is run as a pair of equals, since norms refuse a single value a channel. Gradients, running
    statistics and random numbers stay as they are. Dropout draws others than in the step that is
    looked into.

    Args:
        model: not wrapped for several processes, all of which must call this with as many clips.
        clips: of the step.
        losses: called as ``losses(model, clips)``.
        iteration: of the step, which thresholds depend on.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    weights = [name for name, value in named if not _finite(value)]
    gradients = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not _finite(parameter.grad)
    ]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    try:
        # What the model logs goes to a storage of its own.
        with torch.random.fork_rng(devices), EventStorage(iteration):
            found = [_look_at(model, clip, losses) for clip in clips]
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return Trace(weights, gradients, found)


def _look_at(model: nn.Module, clip: dict[str, Any], losses: Losses) -> ClipTrace:
    found = ClipTrace(str(clip.get("clip_id", "")))
    try:
        _run_alone(model, clip, losses, found)
    except Exception as error:
        # Others would wait for what this process left out.
        if comm.get_world_size() > 1:
            raise
        found.error = f"{type(error).__name__}: {error}"
    return found


def _run_alone(model: nn.Module, clip: dict[str, Any], losses: Losses, found: ClipTrace) -> None:
    with _watched(model, found), torch.enable_grad():
        values = losses(model, [clip, clip])
        found.losses = [name for name, value in values.items() if not _finite(value)]
        matchers = [module for module in model.modules() if isinstance(module, HungarianMatcher)]
        found.matching = next((m.failure for m in matchers if m.failure), None)
        total = torch.stack([value.float() for value in values.values()]).sum()
        learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(total, list(learning.values()), allow_unused=True)
    bad = [
        name
        for name, gradient in zip(learning, gradients, strict=True)
        if gradient is not None and not _finite(gradient)
    ]
    found.parameters = bad[:_LISTED]


@contextmanager
def _watched(model: nn.Module, found: ClipTrace) -> Iterator[None]:
    """Notes the first module with an output, or a gradient there, that is not finite."""

    def look(name: str) -> Callable[..., None]:
        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if found.output is None and not _finite(tensor):
                    found.output = _describe(name, tensor)
                if tensor.requires_grad:
                    tensor.register_hook(look_at_gradient(name))

        return after

    def look_at_gradient(name: str) -> Callable[[Tensor], None]:
        def during(gradient: Tensor) -> None:
            if found.gradient is None and not _finite(gradient):
                found.gradient = _describe(name, gradient)

        return during

    handles = [
        module.register_forward_hook(look(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _describe(name: str, tensor: Tensor) -> str:
    bad = tensor[~tensor.isfinite()]
    kinds = [word for word, test in (("NaN", bad.isnan()), ("infinite", bad.isinf())) if test.any()]
    return f"{name} ({' and '.join(kinds)} in {len(bad)} of {tensor.numel()} values)"


def _tensors(value: Any) -> Iterator[Tensor]:
    """All floating-point tensors in what a module returned."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from _tensors(getattr(value, entry.name))


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
