"""The inference rules for whole batches, as graphs: ``transavs.modeling.inference`` frame by frame
gives the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def argmax_rule(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    crop: tuple[int, int],
    threshold: float,
    num_sounding: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's rule, Eq. (14) and (15), on N frames.

    Only as many queries are brought to full size as compete in the frame that has most of them;
    how many these are is found when the graph runs.

    Args:
        class_logits: ``[N, Q, K + 1]``.
        mask_logits: ``[N, Q, h, w]``.
        size: (H, W) of the padded frames.
        crop: (height, width) of the frames within them.
        threshold: of the mask probability.
        num_sounding: classes from this one on do not sound.

    Returns:
        ``(masks, scores, classes)``: bool, float32 and int64 ``[N, height, width]``.
    """
    queries, none = class_logits.shape[1], class_logits.shape[2] - 1
    competing = class_logits.argmax(-1) != none
    # Those that compete first, each group in its order, so that ties are broken as elsewhere.
    numbers = torch.arange(queries, device=class_logits.device)
    order = torch.where(competing, 0, queries).add(numbers).argsort(1)
    kept = competing.sum(1).amax(0).clamp(min=1).item()
    torch._check(kept >= 1)
    torch._check(kept <= queries)
    order = order[:, :kept]
    competing = competing.gather(1, order)
    chosen = mask_logits.gather(1, order[:, :, None, None].expand(-1, -1, *mask_logits.shape[-2:]))
    probs = _resize(chosen, size, crop).sigmoid()
    confidence, category = class_logits.softmax(-1)[..., :-1].max(-1)
    confidence, category = confidence.gather(1, order), category.gather(1, order)
    weights = torch.where(competing, confidence, -1.0)
    weighted = weights[..., None, None] * probs
    best, winner = weighted.max(1)
    sounds = category < num_sounding
    masks = (probs.gather(1, winner[:, None])[:, 0] > threshold) & (best >= 0)
    flat = winner.flatten(1)
    masks = masks & sounds.gather(1, flat).view_as(winner)
    if num_sounding < none:
        best = torch.where(sounds, weights, -1.0)[..., None, None].mul(probs).amax(1)
    classes = category.gather(1, flat).view_as(winner)
    return masks, best.clamp(min=0), torch.where(classes < num_sounding, classes, 0)


def semantic_sum_rule(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    crop: tuple[int, int],
    threshold: float,
    num_sounding: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask2Former's semantic rule on N frames; arguments and results as :func:`argmax_rule`."""
    probs = class_logits.softmax(-1)[..., :-1]
    masks = _resize(mask_logits, size, crop).sigmoid()
    sums = torch.einsum("nqc,nqhw->nchw", probs, masks)
    sounding = sums[:, :num_sounding]
    score = sounding.sum(1)
    if num_sounding == probs.shape[-1]:
        foreground = score > threshold
    else:
        foreground = sounding.amax(1) > sums[:, num_sounding:].sum(1)
    return foreground, score.clamp(max=1), sounding.argmax(1)


def _resize(logits: Tensor, size: tuple[int, int], crop: tuple[int, int]) -> Tensor:
    resized = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return resized[..., : crop[0], : crop[1]]


RULES = {"argmax": argmax_rule, "semantic_sum": semantic_sum_rule}
