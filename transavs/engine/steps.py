"""The step that the trainer repeats: in single or in mixed precision, on any device."""

from __future__ import annotations

import time
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from torch import Tensor, nn, optim

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingSteps(SimpleTrainer):  # type: ignore[misc]
    """detectron2's SimpleTrainer whose losses leave the device in one transfer, not one each."""

    def _write_metrics(
        self,
        loss_dict: dict[str, Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        values = torch.stack([value.detach().float() for value in loss_dict.values()]).cpu()
        on_cpu = dict(zip(loss_dict, values, strict=True))
        super()._write_metrics(on_cpu, data_time, prefix, iter)


class MixedPrecisionSteps(TrainingSteps):
    """Steps whose forward pass runs under autocast.

    detectron2's AMPTrainer does the same on GPUs alone. Weights, gradients and the optimizer's
    state stay float32; so do the losses (SetCriterion sees to that).

    Args:
        model, data_loader, optimizer: as in SimpleTrainer.
        device: type of the device, "cpu" or "cuda".
        precision: "bf16", or "fp16", whose small gradients are kept from vanishing by a scale
            that follows them.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: optim.Optimizer,
        device: str,
        precision: str,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self._device = device
        self._precision = _PRECISIONS[precision]
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

    def run_step(self) -> None:
        """Runs one iteration."""
        assert self.model.training, "the model was changed to evaluation mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self._device, self._precision):
            losses = self.model(data)
        self.optimizer.zero_grad()
        # The sum outside of autocast: in float32.
        total = torch.stack([value.float() for value in losses.values()]).sum()
        self.grad_scaler.scale(total).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # A training that goes on in another precision starts with a new scale.
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def build_steps(
    cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: optim.Optimizer
) -> TrainingSteps:
    """Returns the steps of ``SOLVER.AMP``."""
    if not cfg.SOLVER.AMP.ENABLED:
        return TrainingSteps(model, data_loader, optimizer)
    device = torch.device(cfg.MODEL.DEVICE).type
    return MixedPrecisionSteps(model, data_loader, optimizer, device, cfg.SOLVER.AMP.PRECISION)


def check_precision(cfg: CfgNode) -> None:
    """Raises ValueError for a mixed precision that the device does not have."""
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED:
        return
    if cfg.MODEL.DEVICE == "cpu":
        if amp.PRECISION == "fp16":
            raise ValueError(
                "SOLVER.AMP.PRECISION fp16 needs a GPU, but MODEL.DEVICE is cpu: set it to bf16"
            )
    elif amp.PRECISION == "bf16" and not torch.cuda.is_bf16_supported():
        raise ValueError("this GPU has no bfloat16: set SOLVER.AMP.PRECISION to fp16")
