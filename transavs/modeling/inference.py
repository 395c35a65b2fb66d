"""From queries to the masks of a frame: TransAVS (arXiv 2305.07223), Eq. (14) and (15).

Of a rule, ``..._masks`` tells which pixels are foreground, ``..._classes`` of which class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def argmax_masks(
    class_logits: Tensor, mask_logits: Tensor, threshold: float, num_sounding: int | None = None
) -> tuple[Tensor, Tensor]:
    """The paper's rule for one frame, among the queries that claim a class.

    Every pixel goes to the query with the largest ``p_i(c_i) m_i(x, y)``, c_i the query's most
    probable class; queries whose c_i is "no object" do not compete (decided, as in MaskFormer).
    A pixel is foreground when its winner's class sounds and its mask probability is above
    ``threshold``.

    Args:
        class_logits: ``[Q, K + 1]``.
        mask_logits: ``[Q, H, W]``, at the size that the result shall have.
        threshold: of the mask probability.
        num_sounding: classes from this one on (the background) do not sound; None: all K do.

    Returns:
        ``(mask, score)``: bool ``[H, W]``, and float32 ``[H, W]`` in [0, 1], the largest ``p m`` of
        a sounding query (0 where no query sounds).
    """
    probs = mask_logits.float().sigmoid()
    if len(probs) == 0:
        size = probs.shape[-2:]
        return probs.new_zeros(size, dtype=torch.bool), probs.new_zeros(size)
    confidence, category = class_logits.float().softmax(-1)[:, :-1].max(-1)
    weighted = confidence[:, None, None] * probs
    score, winner = weighted.max(0)
    mask = probs.gather(0, winner[None])[0] > threshold
    if num_sounding is not None and num_sounding < class_logits.shape[-1] - 1:
        sounds = category < num_sounding
        mask &= sounds[winner]
        score = (weighted * sounds[:, None, None]).amax(0)
    return mask, score


def argmax_classes(class_logits: Tensor, mask_logits: Tensor, num_sounding: int) -> Tensor:
    """The class that each pixel has by the rule of :func:`argmax_masks`, int64 ``[H, W]``.

    It is the winner's class c_i in [0, num_sounding); where no sounding query wins it is 0. Whether
    the pixel is foreground at all is the business of :func:`argmax_masks`.

    Args:
        class_logits: ``[Q, K + 1]``.
        mask_logits: ``[Q, H, W]``.
        num_sounding: the first of the K classes that sound.
    """
    if len(class_logits) == 0:
        return mask_logits.new_zeros(mask_logits.shape[-2:], dtype=torch.int64)
    confidence, category = class_logits.float().softmax(-1)[:, :-1].max(-1)
    winner = (confidence[:, None, None] * mask_logits.float().sigmoid()).argmax(0)
    classes = category[winner]
    return torch.where(classes < num_sounding, classes, 0)


def semantic_sum_classes(class_logits: Tensor, mask_logits: Tensor, num_sounding: int) -> Tensor:
    """The sounding class with the largest sum of ``p m`` at each pixel, int64 ``[H, W]``.

    Args as :func:`argmax_classes`.
    """
    classes = class_logits.float().softmax(-1)[:, :num_sounding]
    sums = torch.einsum("qc,qhw->chw", classes, mask_logits.float().sigmoid())
    return sums.argmax(0)


def competing_queries(class_logits: Tensor) -> Tensor:
    """Which queries take part in :func:`argmax_masks`: bool ``[..., Q]`` of ``[..., Q, K + 1]``."""
    return class_logits.argmax(-1) != class_logits.shape[-1] - 1


def semantic_sum_masks(
    class_logits: Tensor, mask_logits: Tensor, threshold: float, num_sounding: int | None = None
) -> tuple[Tensor, Tensor]:
    """Mask2Former's semantic rule for one frame: score = sum over all queries of ``p m``.

    Args and returns as :func:`argmax_masks`; p is the probability of the sounding classes, and the
    sum is cut at 1. A pixel is foreground when its score is above ``threshold``; where the
    background is a class, when the sum of one sounding class is above the background's.
    """
    classes = class_logits.float().softmax(-1)[:, :-1]
    if num_sounding is None:
        num_sounding = classes.shape[1]
    probs = mask_logits.float().sigmoid()
    score = torch.einsum("q,qhw->hw", classes[:, :num_sounding].sum(1), probs)
    if num_sounding == classes.shape[1]:
        return score.clamp(max=1) > threshold, score.clamp(max=1)
    largest = torch.einsum("qc,qhw->chw", classes[:, :num_sounding], probs).amax(0)
    background = torch.einsum("q,qhw->hw", classes[:, num_sounding:].sum(1), probs)
    return largest > background, score.clamp(max=1)


def resize_logits(
    logits: Tensor, padded: tuple[int, int], size: tuple[int, int], output: tuple[int, int]
) -> Tensor:
    """Returns mask logits ``[Q, h, w]`` at the size of the original frame, ``[Q, *output]``.

    Args:
        logits: as the decoder gives them, for the padded frame.
        padded: (H, W) of the padded frame.
        size: (H, W) of the frame within it, at the top left.
        output: (height, width) wanted.
    """
    logits = logits.float()
    if len(logits) == 0:
        return logits.new_zeros((0, *output))
    logits = F.interpolate(logits[None], padded, mode="bilinear", align_corners=False)
    logits = logits[..., : size[0], : size[1]]
    if output != size:
        logits = F.interpolate(logits, output, mode="bilinear", align_corners=False)
    return logits[0]
