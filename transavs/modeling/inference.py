"""From queries to the masks of a frame: TransAVS (arXiv 2305.07223), Eq. (14) and (15)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def argmax_masks(
    class_logits: Tensor, mask_logits: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """The paper's rule for one frame, among the queries whose class is a sounding one.

    Every pixel goes to the query with the largest ``p_i(c_i) m_i(x, y)``, c_i the query's most
    probable class; queries whose c_i is "no object" do not compete (decided, as in MaskFormer).
    A pixel is foreground when its winner's mask probability is above ``threshold``.

    Args:
        class_logits: ``[Q, K + 1]``.
        mask_logits: ``[Q, H, W]``, at the size that the result shall have.
        threshold: of the mask probability.

    Returns:
        ``(mask, score)``: bool ``[H, W]``, and float32 ``[H, W]`` in [0, 1], the winner's
        ``p m`` (0 where no query sounds).
    """
    probs = mask_logits.float().sigmoid()
    if len(probs) == 0:
        size = probs.shape[-2:]
        return probs.new_zeros(size, dtype=torch.bool), probs.new_zeros(size)
    confidence = class_logits.float().softmax(-1)[:, :-1].amax(-1)
    score, winner = (confidence[:, None, None] * probs).max(0)
    return probs.gather(0, winner[None])[0] > threshold, score


def sounding_queries(class_logits: Tensor) -> Tensor:
    """Which queries take part in :func:`argmax_masks`: bool ``[..., Q]`` of ``[..., Q, K + 1]``."""
    return class_logits.argmax(-1) != class_logits.shape[-1] - 1


def semantic_sum_masks(
    class_logits: Tensor, mask_logits: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Mask2Former's semantic rule for one frame: score = sum over all queries of ``p m``.

    Args and returns as :func:`argmax_masks`; p is the probability of not being "no object", the
    sum is cut at 1, and a pixel is foreground when its score is above ``threshold``.
    """
    confidence = 1 - class_logits.float().softmax(-1)[:, -1]
    score = torch.einsum("q,qhw->hw", confidence, mask_logits.float().sigmoid()).clamp(max=1)
    return score > threshold, score


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
