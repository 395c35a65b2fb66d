"""What a training does about losses or gradients that are NaN or infinite: it stops, or skips."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

logger = logging.getLogger(__name__)

# Below this loss scale nothing is kept from vanishing any more: the gradients themselves overflow.
_LEAST_SCALE = 1e-4


@dataclass(frozen=True)
class Fault:
    """A step whose losses or gradients are not all finite, in one of the processes at least.

    Attributes:
        iteration: the iteration of the training.
        clips: the clips that this process saw.
        losses: the losses of this process by name.
        norm: the norm of the gradients of all parameters together.
    """

    iteration: int
    clips: Sequence[dict[str, Any]]
    losses: dict[str, float]
    norm: float

    def describe(self, model: nn.Module) -> str:
        """Returns what is not finite in this process, and the clips that it saw."""
        bad = {name: value for name, value in self.losses.items() if not math.isfinite(value)}
        if bad:
            listed = ", ".join(f"{name} {value}" for name, value in bad.items())
            text = f"losses that are not finite: {listed}"
        elif not math.isfinite(self.norm):
            text = f"the losses are finite, the norm of their gradient is {self.norm}"
        else:
            text = "only numbers of another process are not finite"
        text += f"; clips {', '.join(str(clip.get('clip_id', '')) for clip in self.clips)}"
        model = getattr(model, "module", model)  # without the wrapper of several processes
        tensors = [*model.named_parameters(), *model.named_buffers()]
        weights = [name for name, value in tensors if not value.isfinite().all()]
        if weights:
            text += (
                f"; {len(weights)} weights are not finite themselves, first {weights[0]} (an older "
                "checkpoint may be sound)"
            )
        return text


class NonFiniteWatch:
    """Stops a training at a step that is not finite, or leaves such steps out up to a limit.

    All processes must call it in the same steps; they decide alike and tell the same.

    Args:
        action: "stop" or "skip".
        limit: the number of steps in a row that may be left out.

    Attributes:
        skipped: the number of steps left out so far.
        overflows: the number of steps left out by the loss scale of fp16, which are no faults.
    """

    def __init__(self, action: str, limit: int) -> None:
        self._action = action
        self._limit = limit
        self.skipped = 0
        self.overflows = 0
        self._in_a_row = 0

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped, "overflows": self.overflows, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped = state.get("skipped", 0)
        self.overflows = state.get("overflows", 0)
        self._in_a_row = state.get("in_a_row", 0)

    def count_good_step(self) -> None:
        """Ends a row of steps that were left out."""
        self._in_a_row = 0

    def count_overflow(self, iteration: int, scale: float) -> None:
        """Counts a step that was left out because its scaled gradients overflowed.

        Raises:
            FloatingPointError: the scale has fallen so far that it is of no use.
        """
        self.overflows += 1
        if scale < _LEAST_SCALE:
            raise FloatingPointError(
                f"iteration {iteration}: gradients overflow at every loss scale, even at "
                f"{scale:.1e}. Set SOLVER.AMP.PRECISION to bf16, or lower SOLVER.BASE_LR"
            )

    def report(self, fault: Fault, model: nn.Module) -> None:
        """Counts a step as left out, and tells what each process found in it.

        Args:
            fault: what this process found.
            model: the network as it was before the step, perhaps wrapped for several processes.

        Raises:
            FloatingPointError: the action is "stop", or the limit is passed.
        """
        self.skipped += 1
        self._in_a_row += 1
        told = comm.all_gather(fault.describe(model))
        if len(told) > 1:
            told = [f"process {rank}: {text}" for rank, text in enumerate(told)]
        found = f"iteration {fault.iteration}: {'; '.join(told)}"
        if self._action == "stop":
            raise FloatingPointError(
                f"{found}. The weights are as they were before this step. Lower SOLVER.BASE_LR, "
                "look at these clips, or set SOLVER.NONFINITE skip to leave such steps out"
            )
        if self._in_a_row > self._limit:
            raise FloatingPointError(
                f"{found}. This is step {self._in_a_row} in a row without finite numbers; "
                f"SOLVER.NONFINITE_LIMIT allows {self._limit}. Lower SOLVER.BASE_LR and go on from "
                "a checkpoint before it"
            )
        logger.warning("Left out a step. %s", found)


def build_watch(cfg: CfgNode) -> NonFiniteWatch:
    """Returns the watch that ``SOLVER.NONFINITE`` asks for."""
    return NonFiniteWatch(cfg.SOLVER.NONFINITE, cfg.SOLVER.NONFINITE_LIMIT)


def running_statistics(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Returns (buffer, copy of it) of all norms that a forward pass in training changes."""
    return [
        (buffer, buffer.clone())
        for module in model.modules()
        if isinstance(module, _NormBase) and module.training and module.track_running_stats
        for buffer in module.buffers(recurse=False)
    ]
