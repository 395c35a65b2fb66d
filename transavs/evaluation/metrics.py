"""Per-frame scores of AVSBench: the Jaccard index and the F-measure over a sweep of thresholds.

Pure functions of tensors. They know neither clips nor data sets: averaging is the business of
:class:`transavs.evaluation.AVSEvaluator`. Both follow the benchmark's own protocol to the letter,
quirks included, so that numbers compare with published ones:

* a pixel is foreground where its score is *above* the threshold (``>``) for the Jaccard index, but
  *at or above* it (``>=``) for the F-measure;
* a frame whose ground truth is empty scores its *background accuracy* in the Jaccard index (the
  share of pixels predicted as background), so one false pixel costs only 1 / (H * W);
* the F-measure weighs precision over recall with beta^2 = 0.3 and is 0 where both are 0.

Shape legend: N frames, H x W pixels, K thresholds (255).
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Number of thresholds of the F-measure's sweep.
NUM_F_THRESHOLDS = 255
#: Weight beta^2 of the F-measure, F = (1 + beta^2) P R / (beta^2 P + R).
F_BETA_SQUARED = 0.3
#: Guards of the benchmark's divisions.
JACCARD_EPSILON = 1e-7
F_EPSILON = 1e-20


def f_thresholds(device: torch.device | str | None = None) -> Tensor:
    """Returns the thresholds of the F-measure's sweep: float32 [K], from 0 to exactly 1.

    The protocol asks for ``linspace(0, 1 - 1e-10)`` in float32, where 1 - 1e-10 rounds to 1.
    """
    # Always made on the CPU: another device may round single thresholds differently.
    return torch.linspace(0, 1 - 1e-10, NUM_F_THRESHOLDS, dtype=torch.float32).to(device)


def frame_jaccard(scores: Tensor, targets: Tensor, threshold: float = 0.5) -> Tensor:
    """Returns the Jaccard index (intersection over union) of every frame.

    A frame with an empty ground truth scores its background accuracy, as in the benchmark.

    Args:
        scores: float [N, H, W], probability of "sounding object" in [0, 1] (never logits).
        targets: bool [N, H, W], the ground truth, on the same device.
        threshold: a pixel is foreground where its score is *above* this value.

    Returns:
        float64 [N], in [0, 1], on the device of ``scores``. N = 0 gives an empty tensor.

    Raises:
        ValueError: a shape, dtype or range other than stated above.
    """
    scores = _checked_scores(scores, targets)
    predicted = scores > threshold
    predicted_area, target_area, intersection = (
        mask.flatten(1).sum(dim=1).double() for mask in (predicted, targets, predicted & targets)
    )
    union = predicted_area + target_area - intersection
    frame_area = float(scores.shape[1] * scores.shape[2])
    is_empty = target_area == 0
    # On an empty frame the benchmark compares backgrounds, over all pixels.
    intersection = torch.where(is_empty, frame_area - predicted_area, intersection)
    union = torch.where(is_empty, torch.full_like(union, frame_area), union)
    return intersection / (union + JACCARD_EPSILON)


def f_curve(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the F-measure of every frame at each of the 255 thresholds.

    The protocol leaves frames with an empty ground truth out of its averages. Here their rows are
    all 0 (precision and recall are both 0), and it is the caller who leaves them out.

    Exact without a loop over thresholds: each pixel falls into the bin of the highest threshold
    that it reaches, and the number of pixels at or above a threshold is a reversed running sum.

    Args:
        scores: float [N, H, W], probability of "sounding object" in [0, 1] (never logits).
        targets: bool [N, H, W], the ground truth, on the same device.

    Returns:
        float64 [N, 255], in [0, 1]; column k belongs to ``f_thresholds()[k]``.

    Raises:
        ValueError: a shape, dtype or range other than stated above.
    """
    scores = _checked_scores(scores, targets)
    num_frames = scores.shape[0]
    thresholds = f_thresholds(scores.device).to(scores.dtype)
    # reached = how many thresholds lie at or below the score: 1 (threshold 0 only) to 255.
    reached = torch.bucketize(scores.flatten(1), thresholds, right=True)
    frame_offset = torch.arange(num_frames, device=scores.device)[:, None] * NUM_F_THRESHOLDS
    bins = reached - 1 + frame_offset

    def pixels_at_or_above(selected_bins: Tensor) -> Tensor:
        counts = torch.bincount(selected_bins, minlength=num_frames * NUM_F_THRESHOLDS)
        counts = counts.view(num_frames, NUM_F_THRESHOLDS)
        return counts.flip(1).cumsum(1).flip(1).double()

    predicted_area = pixels_at_or_above(bins.flatten())
    true_positives = pixels_at_or_above(bins[targets.flatten(1)])
    target_area = targets.flatten(1).sum(dim=1, keepdim=True).double()

    precision = true_positives / (predicted_area + F_EPSILON)
    recall = true_positives / (target_area + F_EPSILON)
    curve = (1 + F_BETA_SQUARED) * precision * recall / (F_BETA_SQUARED * precision + recall)
    return torch.nan_to_num(curve, nan=0.0)


def _checked_scores(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns ``scores`` in a dtype that thresholds can be compared in, after checking both."""
    if scores.dim() != 3 or scores.shape != targets.shape:
        raise ValueError(
            "expected scores and targets of one shape [N, H, W], "
            f"got {list(scores.shape)} and {list(targets.shape)}"
        )
    if scores.shape[1] == 0 or scores.shape[2] == 0:
        raise ValueError(f"expected frames of at least one pixel, got shape {list(scores.shape)}")
    if not scores.is_floating_point():
        raise ValueError(
            f"expected floating-point scores in [0, 1], got {scores.dtype}; "
            "turn a binary mask into scores with mask.float()"
        )
    if targets.dtype != torch.bool:
        raise ValueError(
            f"expected boolean targets, got {targets.dtype}; threshold the ground truth first "
            "(AVSBench's PNG masks: value > 127)"
        )
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()  # exact; thresholds would be rounded in half precision
    if scores.numel():
        lowest, highest = (float(value) for value in torch.aminmax(scores))
        # Written so that NaN, for which every comparison is False, is refused as well.
        if not (lowest >= 0.0 and highest <= 1.0):
            raise ValueError(
                f"expected scores in [0, 1], got values from {lowest:g} to {highest:g}; "
                "apply a sigmoid to logits first"
            )
    return scores
