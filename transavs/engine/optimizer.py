"""AdamW with parameter groups, full-model gradient clipping, and the polynomial schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, WarmupParamScheduler
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import PolynomialDecayParamScheduler
from torch import Tensor, nn

_NORM_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Returns AdamW over the trainable parameters of ``model``.

    Parameters of the image backbone learn at ``SOLVER.BACKBONE_MULTIPLIER`` times the rate
    (TransAVS, arXiv 2305.07223, section 3.2); norms decay by ``WEIGHT_DECAY_NORM``, embeddings and
    the backbone's position tables by ``WEIGHT_DECAY_EMBED``. With ``CLIP_GRADIENTS.CLIP_TYPE``
    "full_model" the gradient of the whole model is scaled to an L2 norm of at most
    ``CLIP_VALUE`` before each step; other types are detectron2's. On GPUs the optimizer is a fused
    one, which can leave out a step without anybody waiting for the device (``found_inf``).
    """
    groups = _parameter_groups(cfg, model)
    if not groups:
        raise ValueError("the model has no trainable parameter: unfreeze something")
    fused = {"fused": True} if torch.device(cfg.MODEL.DEVICE).type != "cpu" else {}
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE == "full_model":
        optimizer: torch.optim.Optimizer = FullModelClippedAdamW(
            groups,
            lr=cfg.SOLVER.BASE_LR,
            max_norm=clip.CLIP_VALUE,
            norm_type=clip.NORM_TYPE,
            **fused,
        )
        return optimizer
    adamw: type = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    optimizer = adamw(groups, lr=cfg.SOLVER.BASE_LR, **fused)
    return optimizer


class FullModelClippedAdamW(torch.optim.AdamW):
    """AdamW that first scales the gradient of all parameters together to a largest norm.

    A gradient whose norm is not finite is left as it is.

    Attributes:
        known_norm: L2 norm of the gradient of the step to come, where somebody took it already.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float,
        max_norm: float,
        norm_type: float,
        **rest: Any,
    ) -> None:
        super().__init__(params, lr=lr, **rest)
        self._max_norm = max_norm
        self._norm_type = norm_type
        self.known_norm: Tensor | None = None

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        norm, self.known_norm = self.known_norm, None
        if norm is None or self._norm_type != 2:
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients, self._norm_type)
        norm = torch.where(norm.isfinite(), norm, 0.0)
        nn.utils.clip_grads_with_norm_(parameters, self._max_norm, norm)
        return super().step(closure)


def _parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """One group for each pair of a kind of learning rate and a kind of weight decay.

    Kinds, not values: so a training can be resumed with other values, also such as are equal.
    """
    solver = cfg.SOLVER
    rates = {"usual": solver.BASE_LR, "backbone": solver.BASE_LR * solver.BACKBONE_MULTIPLIER}
    decays = {
        "usual": solver.WEIGHT_DECAY,
        "norm": solver.WEIGHT_DECAY_NORM,
        "embedding": solver.WEIGHT_DECAY_EMBED,
    }
    groups: dict[tuple[str, str], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            # By the room's own name: "audio_encoder.backbone" would not be the image backbone.
            rate = "backbone" if f"{module_name}.".startswith("backbone.") else "usual"
            decay = "usual"
            if isinstance(module, _NORM_LAYERS):
                decay = "norm"
            elif (
                isinstance(module, nn.Embedding)
                or "relative_position_bias_table" in name
                or "absolute_pos_embed" in name
            ):
                decay = "embedding"
            groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rates[rate], "weight_decay": decays[decay]}
        for (rate, decay), parameters in groups.items()
    ]


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
    """Returns the polynomial schedule "WarmupPolyLR", or one of detectron2's by name."""
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupPolyLR":
        from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler

        return build_detectron2_scheduler(cfg, optimizer)
    longest = max(cfg.SOLVER.MAX_ITER, 1)
    schedule = WarmupParamScheduler(
        PolynomialDecayParamScheduler(base_value=1.0, power=cfg.SOLVER.POLY_LR_POWER),
        cfg.SOLVER.WARMUP_FACTOR,
        min(cfg.SOLVER.WARMUP_ITERS / longest, 1.0),
        cfg.SOLVER.WARMUP_METHOD,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=longest)
