"""Losses of a network with one mask a frame: the two terms of AVSBench's baseline.

"Audio-Visual Segmentation" (arXiv 2207.05042), which introduced AVSBench and TPAVI.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.utils import comm
from torch import Tensor

from transavs.losses.functional import mask_bce_loss
from transavs.losses.processes import mean_over_processes
from transavs.structures import FrameTargets


def union_masks(targets: FrameTargets, num_sounding: int) -> Tensor:
    """Returns all that sounds in each frame as one mask, bool ``[N, H, W]``.

    Args:
        targets: true masks of N frames.
        num_sounding: classes from this one on (the background) do not sound.
    """
    return (targets.masks & (targets.classes < num_sounding)[:, :, None, None]).any(1)


def frame_bce_loss(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the pixels and over the frames of all processes.

    Args:
        mask_logits: float ``[N, H, W]``.
        masks: bool ``[N, H, W]``; empty ones count like any other.

    Returns:
        A scalar.
    """
    losses = mask_bce_loss(mask_logits.float(), masks.float())
    return losses.sum() / mean_over_processes(len(losses), losses.device)


def audio_visual_matching_loss(
    mask_logits: Tensor, audio: Sequence[Tensor], visual: Sequence[Tensor], cut_mask: bool = False
) -> Tensor:
    """Divergence between what is heard and what lies within the predicted mask ("AVM-AV").

    ``KL(softmax(a) || softmax(v))``, summed over the frames of all processes, not averaged, and
    averaged over the stages. a is the audio feature of a frame. The logits are brought to the size
    of a stage by area averages, and their sigmoid is a soft mask: v is the mean over all places of
    mask times visual feature. The gradient flows into the mask as well.

    Args:
        mask_logits: float ``[N, H, W]``.
        audio: ``[N, C]`` of each stage.
        visual: ``[N, C, h, w]`` of each stage.
        cut_mask: the mask is cut at 0.5 instead and v the mean of the places within, 0 where there
            are none; no gradient flows into the mask.

    Returns:
        A scalar.
    """
    logits = mask_logits.float()[:, None]
    total = mask_logits.new_zeros((), dtype=torch.float32)
    for heard, seen in zip(audio, visual, strict=True):
        mask = F.interpolate(logits, seen.shape[-2:], mode="area").sigmoid()
        if cut_mask:
            mask = (mask > 0.5).float()
            mask = mask / mask.mean((2, 3), keepdim=True).clamp(min=1e-6)
        mean = (seen.float() * mask).mean((2, 3))
        total = total + F.kl_div(
            mean.log_softmax(-1), heard.float().log_softmax(-1), reduction="sum", log_target=True
        )
    # Several processes average their gradients, of what shall be a sum.
    return total / len(audio) * comm.get_world_size()
