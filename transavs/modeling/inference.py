"""The inference rules: from queries to masks, TransAVS (arXiv 2305.07223), Eq. (14) and (15).

All functions take N frames at once, and ``torch.export`` can follow them for any N.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class FrameMasks(NamedTuple):
    """What a rule says about the pixels of N frames, each ``[N, H, W]``.

    Attributes:
        masks: bool, whether a pixel is foreground.
        scores: float32 in [0, 1].
        classes: int64, the sounding class in [0, num_sounding) of a foreground pixel.
        winners: int64, the query with the largest ``p m``; None by the sum.
    """

    masks: Tensor
    scores: Tensor
    classes: Tensor
    winners: Tensor | None = None


def argmax_rule(
    class_logits: Tensor, mask_logits: Tensor, threshold: float, num_sounding: int
) -> FrameMasks:
    """The paper's rule.

    Every pixel goes to the query with the largest ``p_i(c_i) m_i(x, y)``, c_i the query's most
    probable class; queries whose c_i is "no object" do not compete (decided, as in MaskFormer).
    A pixel is foreground when its winner's class sounds and its mask probability is above
    ``threshold``. Its score is the largest ``p m`` of a sounding query, 0 where none sounds.

    Args:
        class_logits: ``[N, Q, K + 1]``, Q at least 1.
        mask_logits: ``[N, Q, H, W]``, at the size that the result shall have.
        threshold: of the mask probability.
        num_sounding: of the K classes, those from this one on (the background) do not sound.
    """
    probs = mask_logits.float().sigmoid()
    confidence, category = class_logits.float().softmax(-1)[..., :-1].max(-1)
    # A query of "no object" has a negative weight: it loses against any other.
    weights = torch.where(is_non_void(class_logits), confidence, -1.0)
    best, winners = (weights[..., None, None] * probs).max(1)
    sounds = category < num_sounding
    flat = winners.flatten(1)
    masks = (probs.gather(1, winners[:, None])[:, 0] > threshold) & (best >= 0)
    masks = masks & sounds.gather(1, flat).view_as(winners)
    if num_sounding < class_logits.shape[-1] - 1:
        best = (torch.where(sounds, weights, -1.0)[..., None, None] * probs).amax(1)
    return FrameMasks(masks, best.clamp(min=0), category.gather(1, flat).view_as(winners), winners)


def semantic_sum_rule(
    class_logits: Tensor, mask_logits: Tensor, threshold: float, num_sounding: int
) -> FrameMasks:
    """Mask2Former's semantic rule: a pixel's score is the sum over all queries of ``p m``.

    Arguments as of :func:`argmax_rule`; p is the probability of the sounding classes, and the
    score is cut at 1. A pixel is foreground when its score is above ``threshold``; where the
    background is a class, when the sum of one sounding class is above the background's.
    """
    classes = class_logits.float().softmax(-1)[..., :-1]
    sounding, rest = classes[..., :num_sounding], classes[..., num_sounding:].sum(-1)
    probs = mask_logits.float().sigmoid()
    sums = torch.einsum("nqc,nqhw->nchw", sounding, probs)
    scores = torch.einsum("nq,nqhw->nhw", sounding.sum(-1), probs).clamp(max=1)
    masks = scores > threshold
    if num_sounding < classes.shape[-1]:
        masks = sums.amax(1) > torch.einsum("nq,nqhw->nhw", rest, probs)
    return FrameMasks(masks, scores, sums.argmax(1))


#: ``MODEL.TRANSAVS.INFERENCE.RULE`` -> the rule.
RULES = {"argmax": argmax_rule, "semantic_sum": semantic_sum_rule}


def is_non_void(class_logits: Tensor) -> Tensor:
    """Which queries have a class rather than "no object": bool ``[..., Q]`` of ``[..., Q, K + 1]``.

    These are the queries that compete in :func:`argmax_rule`.
    """
    return class_logits.argmax(-1) != class_logits.shape[-1] - 1


def non_void_queries(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns class and mask logits of the queries that :func:`argmax_rule` needs to see.

    Those with a class come first, in their order; as many are kept as in the frame that has most
    of them, at least one. So few masks are brought to full size. A GPU is waited for once, here.

    Args:
        class_logits: ``[N, Q, K + 1]``.
        mask_logits: ``[N, Q, h, w]``.
    """
    count = class_logits.shape[1]
    non_void = is_non_void(class_logits)
    numbers = torch.arange(count, device=class_logits.device)
    order = torch.where(non_void, 0, count).add(numbers).argsort(1)
    kept: Any = non_void.sum(1).amax(0).clamp(min=1).item()
    if torch.compiler.is_compiling():  # what torch.export cannot know
        torch._check(kept >= 1)
        torch._check(kept <= count)
    order = order[:, :kept, None]
    return (
        class_logits.gather(1, order.expand(-1, -1, class_logits.shape[-1])),
        mask_logits.gather(1, order[..., None].expand(-1, -1, *mask_logits.shape[-2:])),
    )


def resize_logits(
    logits: Tensor, padded: tuple[int, int], size: tuple[int, int], output: tuple[int, int]
) -> Tensor:
    """Returns mask logits ``[N, Q, h, w]`` at the size that is wanted, float32 ``[N, Q, *output]``.

    Args:
        logits: as the network gives them, for padded frames.
        padded: (H, W) of the padded frames.
        size: (H, W) of the frames within them, at the top left.
        output: (height, width) wanted.
    """
    logits = F.interpolate(logits.float(), padded, mode="bilinear", align_corners=False)
    logits = logits[..., : size[0], : size[1]]
    if output != size:
        logits = F.interpolate(logits, output, mode="bilinear", align_corners=False)
    return logits
