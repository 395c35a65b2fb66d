"""The supervised terms of Eq. (13) as pure functions, and their pairwise forms for matching."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_focal_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor, gamma: float
) -> Tensor:
    """Focal loss on a softmax, L_class of TransAVS (arXiv 2305.07223), Eq. (13).

    ``-w_y (1 - p_y)^gamma log p_y`` for each element; ``gamma == 0`` and equal weights give the
    cross-entropy. Not reduced: SetCriterion divides the sum by the number of true masks.

    Args:
        logits: float ``[..., K + 1]``.
        labels: int64 ``[...]`` in [0, K].
        class_weights: float ``[K + 1]``, w.
        gamma: exponent >= 0; larger values count well-classified elements less.

    Returns:
        float ``[...]``.
    """
    log_probability = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    focus = (1 - log_probability.exp()).clamp(min=0) ** gamma
    return -class_weights[labels] * focus * log_probability


def dice_loss(mask_probs: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of M masks, L_dice of Eq. (13): ``1 - (2 sum pg + 1) / (sum p + sum g + 1)``.

    Args:
        mask_probs: float ``[M, H, W]`` in [0, 1], p.
        masks: float ``[M, H, W]`` in [0, 1], g, or bool, which takes a quarter of the memory.

    Returns:
        float ``[M]`` in [0, 1).
    """
    probs, truth = mask_probs.flatten(1), masks.flatten(1)
    return 1 - (2 * (probs * truth).sum(1) + 1) / (probs.sum(1) + truth.sum(1) + 1)


def mask_bce_loss(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of M masks, mean over pixels.

    Args:
        mask_logits: float ``[M, H, W]``.
        masks: as in ``dice_loss``.

    Returns:
        float ``[M]``.
    """
    losses = F.binary_cross_entropy_with_logits(
        mask_logits, masks.to(mask_logits.dtype), reduction="none"
    )
    return losses.flatten(1).mean(1)


def pairwise_dice_loss(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of every query against every true mask of its frame.

    Args:
        mask_logits: float ``[N, Q, P]``, P pixels.
        masks: float ``[N, G, P]`` in [0, 1].

    Returns:
        float ``[N, Q, G]``.
    """
    probs = mask_logits.sigmoid()
    overlap = probs @ masks.transpose(1, 2)
    return 1 - (2 * overlap + 1) / (probs.sum(2)[:, :, None] + masks.sum(2)[:, None] + 1)


def pairwise_mask_bce_loss(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query against every true mask: ``[N, Q, G]``.

    Uses ``bce(x, g) = softplus(x) - x g``, so the pairs cost one matrix product.
    """
    pixels = mask_logits.shape[2]
    positive = F.softplus(mask_logits).sum(2)[:, :, None]
    return (positive - mask_logits @ masks.transpose(1, 2)) / pixels


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns masks ``[..., H, W]`` as float area averages at ``size``: soft edges in [0, 1]."""
    if 0 in masks.shape[:-2]:
        return masks.new_zeros((*masks.shape[:-2], *size), dtype=torch.float32)
    flat = masks.flatten(0, -3)[:, None].float()
    return F.adaptive_avg_pool2d(flat, size).view(*masks.shape[:-2], *size)
