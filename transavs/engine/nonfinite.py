"""What training does about numbers that are NaN or infinite: tell, keep a note, stop or go on."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor, nn, optim
from torch.nn.modules.batchnorm import _NormBase

from transavs.engine.nonfinite_trace import Losses, Trace, trace
from transavs.losses import SetCriterion
from transavs.utils.whole_files import write_bytes, write_text

logger = logging.getLogger(__name__)

# Of a training; more of them would tell no more.
_MOST_NOTES = 5
# Bytes of the clip that a note keeps; a longer one is only named.
_LARGEST_CLIP = 16 << 20
# A loss scale below it no longer keeps anything from vanishing: the gradients themselves overflow.
_LEAST_SCALE = 1e-4


@dataclass(frozen=True)
class Fault:
    """A step whose losses or gradients are not all finite, in one of the processes at least.

    Attributes:
        iteration: of the training.
        clips: what this process saw.
        losses: of this process.
        norm: of the gradients of all parameters together.
        scale: of the loss, 1 without one.
    """

    iteration: int
    clips: Sequence[dict[str, Any]]
    losses: dict[str, float]
    norm: float
    scale: float


class NonFiniteWatch:
    """Stops a training, or leaves out steps up to a limit, and writes down what was found.

    All processes must call it in the same steps: they run the faulty clips once more together.

    Args:
        action: "stop" or "skip".
        limit: steps left out in a row that are one too many.
        folder: for the notes.

    Attributes:
        skipped: steps left out so far.
        overflows: steps left out by the loss scale of fp16, which are no faults.
    """

    def __init__(self, action: str, limit: int, folder: str) -> None:
        self._action = action
        self._limit = limit
        self._folder = folder
        self.skipped = 0
        self.overflows = 0
        self._in_a_row = 0
        self._notes = 0

    def state_dict(self) -> dict[str, int]:
        return {
            "skipped": self.skipped,
            "overflows": self.overflows,
            "in_a_row": self._in_a_row,
            "notes": self._notes,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped = state.get("skipped", 0)
        self.overflows = state.get("overflows", 0)
        self._in_a_row = state.get("in_a_row", 0)
        self._notes = state.get("notes", 0)

    def count_good_step(self) -> None:
        """Ends a row of steps that were left out."""
        self._in_a_row = 0

    def count_overflow(self, iteration: int, scale: float) -> None:
        """Counts a step that was left out because its scaled gradients overflowed.

        Raises:
            FloatingPointError: the scale has fallen so far that it is no use.
        """
        self.overflows += 1
        if scale < _LEAST_SCALE:
            raise FloatingPointError(
                f"iteration {iteration}: gradients overflow at every loss scale, even at "
                f"{scale:.1e}. Set SOLVER.AMP.PRECISION to bf16, or lower SOLVER.BASE_LR"
            )

    def report(
        self, fault: Fault, model: nn.Module, optimizer: optim.Optimizer, losses: Losses
    ) -> None:
        """Tells what was found, keeps a note of it, and counts the step as left out.

        Args:
            fault: of the step, whose gradients the parameters still hold.
            model: as it was before the step, perhaps wrapped for several processes.
            optimizer: of the step.
            losses: called as ``losses(model, clips)``, as in training.

        Raises:
            FloatingPointError: with "stop", or beyond the limit.
        """
        self.skipped += 1
        self._in_a_row += 1
        found = f"iteration {fault.iteration}: {_describe_losses(fault)}"
        if self._notes < _MOST_NOTES:
            self._notes += 1
            raw = getattr(model, "module", model)
            result = trace(raw, fault.clips, losses, fault.iteration)
            summaries = comm.all_gather(f"{found}; {result.summary()}")
            found = "; ".join(
                text if len(summaries) == 1 else f"process {rank}: {text}"
                for rank, text in enumerate(summaries)
            )
            note = os.path.join(self._folder, _note_name(fault.iteration))
            _write_note(note, fault, result, raw, optimizer)
            found = f"{found}. More in {self._folder}"
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
    """Returns the watch of ``SOLVER.NONFINITE``."""
    folder = os.path.join(cfg.OUTPUT_DIR, "nonfinite")
    return NonFiniteWatch(cfg.SOLVER.NONFINITE, cfg.SOLVER.NONFINITE_LIMIT, folder)


def running_statistics(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Returns (buffer, copy of it) of all norms that a forward pass in training changes."""
    return [
        (buffer, buffer.clone())
        for module in model.modules()
        if isinstance(module, _NormBase) and module.training and module.track_running_stats
        for buffer in module.buffers(recurse=False)
    ]


def _describe_losses(fault: Fault) -> str:
    bad = [f"{name} {value}" for name, value in fault.losses.items() if not math.isfinite(value)]
    if bad:
        return f"losses that are not finite: {', '.join(bad)}"
    if not math.isfinite(fault.norm):
        return f"the losses are finite, the norm of their gradient is {fault.norm}"
    return "numbers of another process are not finite"


def _note_name(iteration: int) -> str:
    rank = comm.get_rank()
    return f"iter_{iteration:07d}" + (f"_process{rank}" if rank else "")


def _write_note(
    path: str, fault: Fault, result: Trace, model: nn.Module, optimizer: optim.Optimizer
) -> None:
    """Writes ``path.json`` and, of the clip that did it, ``path.safetensors``."""
    note: dict[str, Any] = {
        "iteration": fault.iteration,
        "losses": fault.losses,
        "gradient_norm": fault.norm,
        "loss_scale": fault.scale,
        "learning_rates": sorted({group["lr"] for group in optimizer.param_groups}),
        "clips": [str(clip.get("clip_id", "")) for clip in fault.clips],
        **result.as_dict(),
    }
    criterion = getattr(model, "criterion", None)
    if isinstance(criterion, SetCriterion):
        note["delta_1"] = criterion.aqdl_threshold(fault.iteration)
        note["delta_2"] = criterion.aqml_threshold(fault.iteration)
    clip = fault.clips[result.first_clip or 0]
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in clip.items()
        if isinstance(value, Tensor)
    }
    if sum(tensor.nbytes for tensor in tensors.values()) <= _LARGEST_CLIP:
        write_bytes(f"{path}.safetensors", safetensors.torch.save(tensors))
        note["kept_clip"] = str(clip.get("clip_id", ""))
    write_text(f"{path}.json", json.dumps(_plain(note), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """NaN and infinity as words, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, torch.Tensor):
        return _plain(value.tolist())
    return value
