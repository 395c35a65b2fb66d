"""The step that the trainer repeats: in single or in mixed precision, on any device."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from transavs.engine.nonfinite import Fault, NonFiniteWatch, build_watch, running_statistics
from transavs.engine.optimizer import FullModelClippedAdamW

logger = logging.getLogger(__name__)

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Steps between two moments at which the hooks find the numbers of the step itself: GracefulStop
# and the writers come at multiples of it.
_SETTLE_PERIOD = 10


@dataclass
class _Outcome:
    """The numbers of a step, on their way from the device.

    Attributes:
        iteration: of the training.
        clips: what the step saw.
        names: of the losses.
        data_time: seconds that the loader took.
        numbers: losses, gradient norm, loss scale, whether a loss and whether the norm is not
            finite in any process (0 or 1).
        statistics: (buffer, its value before the step), see ``running_statistics``.
    """

    iteration: int
    clips: list[dict[str, Any]]
    names: list[str]
    data_time: float
    numbers: Tensor
    statistics: list[tuple[Tensor, Tensor]]
    _sent: torch.Event | None = field(default=None, init=False)

    def send(self) -> None:
        """Starts the transfer; nobody waits."""
        device = self.numbers.device
        if device.type != "cpu":
            self.numbers = self.numbers.to("cpu", non_blocking=True)
            self._sent = getattr(torch, device.type).Event()  # torch.cuda's
            self._sent.record()

    def read(self) -> list[float]:
        """Returns the numbers; waits for them where they were not sent before."""
        if self._sent is not None:
            self._sent.synchronize()
        values: list[float] = self.numbers.tolist()
        return values


class TrainingSteps(SimpleTrainer):  # type: ignore[misc]
    """detectron2's SimpleTrainer with one transfer a step, and with an eye on its numbers.

    A step with a loss or a gradient that is not finite, in any process, changes nothing: neither
    weights nor the optimizer's state nor running statistics. ``watch`` stops the training then, or
    counts.

    A GPU is waited for once a step, by the matching. The optimizer, which is a fused one there,
    leaves out such a step by itself, and the step's numbers are read after the forward pass of the
    next one, when they have long arrived; every tenth step, and before checkpoints, at once.

    Args:
        model, data_loader, optimizer: as in SimpleTrainer.
        watch: what to do about numbers that are not finite.
        checkpoint_period: iterations between two checkpoints.
        max_iter: of the training.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: optim.Optimizer,
        watch: NonFiniteWatch,
        checkpoint_period: int = 0,
        max_iter: int = 0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.watch = watch
        self._periods = [_SETTLE_PERIOD, *([checkpoint_period] if checkpoint_period > 0 else [])]
        self._max_iter = max_iter
        self._pending: _Outcome | None = None
        self.grad_scaler = torch.amp.GradScaler("cpu", enabled=False)

    def run_step(self) -> None:
        """Runs one iteration.

        Raises:
            FloatingPointError: numbers are not finite, here or in the step before.
        """
        assert self.model.training, "the model was changed to evaluation mode"
        start = time.perf_counter()
        clips = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        statistics = running_statistics(self.model)
        losses = self._losses(clips)
        if not self._settle() and statistics:
            # This pass went on from running statistics that are taken back now.
            statistics = running_statistics(self.model)
            losses = self._losses(clips)
        self.optimizer.zero_grad()
        self._backward(self.grad_scaler.scale(self._total(losses)))
        if self.grad_scaler.is_enabled():
            self.grad_scaler.unscale_(self.optimizer)
        self.after_backward()
        outcome, bad = self._measure(clips, losses, data_time, statistics)
        if all(group.get("fused") for group in self.optimizer.param_groups):
            self.optimizer.grad_scale, self.optimizer.found_inf = None, bad
            self.optimizer.step()
            del self.optimizer.grad_scale, self.optimizer.found_inf
            outcome.send()
            self._pending = outcome
        elif self._judge(outcome):
            self.optimizer.step()
        self.grad_scaler.update()
        following = self.iter + 1
        if following == self._max_iter or any(following % period == 0 for period in self._periods):
            self._settle()

    def state_dict(self) -> dict[str, Any]:
        self._settle()
        state: dict[str, Any] = super().state_dict()
        state["nonfinite"] = self.watch.state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.watch.load_state_dict(state_dict.get("nonfinite", {}))
        # A training that goes on in another precision starts with a new scale.
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])

    def _losses(self, clips: list[dict[str, Any]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model(clips)
        return losses

    def _backward(self, total: Tensor) -> None:
        total.backward()

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        return torch.stack([value.float() for value in losses.values()]).sum()

    def _measure(
        self,
        clips: list[dict[str, Any]],
        losses: dict[str, Tensor],
        data_time: float,
        statistics: list[tuple[Tensor, Tensor]],
    ) -> tuple[_Outcome, Tensor]:
        """Returns the step's numbers, and on the device whether any is not finite (0.0 or 1.0)."""
        values = torch.stack([value.detach().float() for value in losses.values()])
        gradients = [
            parameter.grad
            for group in self.optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = nn.utils.get_total_norm(gradients).to(values)
        if isinstance(self.optimizer, FullModelClippedAdamW):
            self.optimizer.known_norm = norm
        faults = torch.stack((~values.isfinite().all(), ~norm.isfinite())).float()
        if comm.get_world_size() > 1:
            # Gradients are everybody's, but a loss can be infinite with a finite gradient.
            torch.distributed.all_reduce(faults, torch.distributed.ReduceOp.MAX)
        scale = torch.ones_like(norm)
        if self.grad_scaler.is_enabled():
            scale = self.grad_scaler.scale(scale)
        numbers = torch.cat((values, torch.stack((norm, scale)), faults))
        outcome = _Outcome(self.iter, clips, list(losses), data_time, numbers, statistics)
        return outcome, faults.amax()

    def _settle(self) -> bool:
        """Judges the step whose numbers are still unread; True: there is none, or it counts."""
        outcome, self._pending = self._pending, None
        return outcome is None or self._judge(outcome)

    def _judge(self, outcome: _Outcome) -> bool:
        """Logs or reports a step; returns whether the optimizer may take it."""
        *values, norm, scale, loss_fault, gradient_fault = outcome.read()
        losses = dict(zip(outcome.names, values, strict=True))
        storage = get_event_storage()
        overflow = bool(gradient_fault) and not loss_fault and self.grad_scaler.is_enabled()
        if (loss_fault or gradient_fault) and not overflow:
            for buffer, before in outcome.statistics:
                buffer.copy_(before)
            self.watch.report(Fault(outcome.iteration, outcome.clips, losses, norm), self.model)
            storage.put_scalar(
                "nonfinite/skipped_steps", self.watch.skipped, cur_iter=outcome.iteration
            )
            return False
        if overflow:
            self.watch.count_overflow(outcome.iteration, scale)
        else:
            self.watch.count_good_step()
        if self.grad_scaler.is_enabled():
            for name, value in (("scale", scale), ("skipped_steps", self.watch.overflows)):
                storage.put_scalar(f"amp/{name}", value, cur_iter=outcome.iteration)
        on_cpu = {name: torch.tensor(value) for name, value in losses.items()}
        self._write_metrics(on_cpu, outcome.data_time, iter=outcome.iteration)
        return not overflow


class _RoundedConvolutionGradients(TorchDispatchMode):
    """Computes float16 gradients of convolutions in float32 and rounds them, as GPUs do.

    PyTorch's own way on a CPU, in float16 alone, takes a hundred times as long.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not torch.ops.aten.convolution_backward.default:
            return func(*args, **(kwargs or {}))
        half = args[0].dtype is torch.float16
        found = func(*[x.float() if half and isinstance(x, Tensor) else x for x in args])
        return tuple(x.half() if half and x is not None else x for x in found)


class MixedPrecisionSteps(TrainingSteps):
    """Steps whose forward pass runs under autocast.

    detectron2's AMPTrainer does the same on GPUs alone. Weights, gradients and the optimizer's
    state stay float32; so do the losses (SetCriterion sees to that).

    With "fp16" small gradients are kept from vanishing by a scale that follows them. A step whose
    scaled gradients overflow is left out and the scale halved: that is its way, and no fault.

    Args:
        device: type of the device, "cpu" or "cuda".
        precision: "bf16" or "fp16".
        others: as in TrainingSteps.
    """

    def __init__(self, *others: Any, device: str, precision: str, **named: Any) -> None:
        super().__init__(*others, **named)
        self._device = device
        self._precision = _PRECISIONS[precision]
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

    def _losses(self, clips: list[dict[str, Any]]) -> dict[str, Tensor]:
        with torch.autocast(self._device, self._precision):
            return super()._losses(clips)

    def _backward(self, total: Tensor) -> None:
        rounds = self._device == "cpu" and self._precision is torch.float16
        with _RoundedConvolutionGradients() if rounds else nullcontext():
            super()._backward(total)


def build_steps(
    cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: optim.Optimizer
) -> TrainingSteps:
    """Returns the steps of ``SOLVER.AMP``, watched as ``SOLVER.NONFINITE`` says."""
    parts = (model, data_loader, optimizer, build_watch(cfg))
    periods = (cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.MAX_ITER)
    if not cfg.SOLVER.AMP.ENABLED:
        return TrainingSteps(*parts, *periods)
    device = torch.device(cfg.MODEL.DEVICE).type
    precision = cfg.SOLVER.AMP.PRECISION
    if device == "cpu" and precision == "fp16":
        logger.warning(
            "SOLVER.AMP.PRECISION fp16 is meant for GPUs: a CPU computes the same, but not faster "
            "than in single precision"
        )
    return MixedPrecisionSteps(*parts, *periods, device=device, precision=precision)


def check_precision(cfg: CfgNode) -> None:
    """Raises ValueError for a mixed precision that the device does not have."""
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED:
        return
    on_gpu = cfg.MODEL.DEVICE != "cpu"
    if on_gpu and amp.PRECISION == "bf16" and not torch.cuda.is_bf16_supported():
        raise ValueError("this GPU has no bfloat16: set SOLVER.AMP.PRECISION to fp16")
