"""Scores by class: what is counted of a clip, and the means that the field makes of it.

Two families. Per frame (AVSBench's AVSS script): a class scores in every frame in which it is
predicted or labelled, and its scores are averaged over these frames. Per data set (CAVP, CPM,
DDESeg): pixels are counted over all frames, and every class is divided once. In both the mean over
the classes comes last. The binary sets have two classes, background and sounding.

Shape legend: N frames, H x W pixels, C classes, of which the first is the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from transavs.evaluation.metrics import F_BETA_SQUARED

#: What a class counts that no frame predicts or labels: 0, or it is left out of the mean.
Unseen = Literal["zero", "skip"]

#: Guard of the official division.
_IOU_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ClassCounts:
    """Sums over the labelled frames of a clip, or of several.

    Attributes:
        true_positives, predicted, labelled: int64 [C], pixels.
        iou_sum, f_sum: float64 [C], sums of the IoU and of the F-measure of single frames, each in
            [0, 1], over the frames in which the class is predicted or labelled.
        frames: int64 [C], the number of those frames.
        padded_frames: frames that the official script would add to bring all clips to one length:
            without any pixel but background, predicted and labelled.
    """

    true_positives: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray
    iou_sum: np.ndarray
    f_sum: np.ndarray
    frames: np.ndarray
    padded_frames: int = 0

    @property
    def seen(self) -> np.ndarray:
        """Which classes are predicted or labelled in any frame, bool [C]."""
        return self.frames > 0


def count_classes(
    predicted: Tensor, truth: Tensor, num_classes: int, padded_frames: int = 0
) -> ClassCounts:
    """Returns the counts of some frames.

    Args:
        predicted: integer [N, H, W], values in [0, num_classes).
        truth: likewise, on the same device.
        num_classes: C.
        padded_frames: see :class:`ClassCounts`.

    Raises:
        ValueError: shapes that differ, or a value out of range.
    """
    if predicted.dim() != 3 or predicted.shape != truth.shape:
        raise ValueError(
            "expected class maps of one shape [N, H, W], got "
            f"{list(predicted.shape)} and {list(truth.shape)}"
        )
    for name, maps in (("predicted", predicted), ("true", truth)):
        if maps.numel() and not 0 <= int(maps.min()) <= int(maps.max()) < num_classes:
            raise ValueError(
                f"expected {name} classes in 0..{num_classes - 1}, got values from "
                f"{int(maps.min())} to {int(maps.max())}: the model and the data set differ in "
                "their classes (MODEL.TRANSAVS.NUM_CLASSES)"
            )
    count = len(predicted)
    offset = torch.arange(count, device=predicted.device)[:, None, None] * num_classes

    def pixels_of_each(values: Tensor) -> Tensor:
        found = torch.bincount(values.flatten(), minlength=count * num_classes)
        return found.view(count, num_classes)

    predicted, truth = predicted.long() + offset, truth.long() + offset
    hit = pixels_of_each(predicted[predicted == truth])
    marked, labelled = pixels_of_each(predicted), pixels_of_each(truth)
    pixels = [each.cpu().numpy() for each in (hit, marked, labelled)]
    return ClassCounts(
        true_positives=pixels[0].sum(0),
        predicted=pixels[1].sum(0),
        labelled=pixels[2].sum(0),
        iou_sum=_iou(*pixels).sum(0),
        f_sum=_f_measure(*pixels).sum(0),
        frames=((pixels[1] + pixels[2]) > 0).sum(0),
        padded_frames=padded_frames,
    )


def pool(counts: Sequence[ClassCounts]) -> ClassCounts:
    """Returns the sum of the counts of at least one clip."""

    def total(name: str) -> np.ndarray:
        return np.sum([getattr(each, name) for each in counts], axis=0)  # type: ignore[no-any-return]

    columns = ("true_positives", "predicted", "labelled", "iou_sum", "f_sum", "frames")
    return ClassCounts(
        **{name: total(name) for name in columns},
        padded_frames=sum(each.padded_frames for each in counts),
    )


def mean_over_frames(
    counts: ClassCounts, *, padded: bool = False, drop: int | None = None, unseen: Unseen = "skip"
) -> tuple[float, float]:
    """Returns mIoU and mean F in percent, of the family that scores single frames.

    The official AVSS script is ``padded=True, unseen="zero"``; its "without background" is
    ``drop=-1`` besides, which drops the last class and keeps the background.

    Args:
        counts: of a data set.
        padded: count the frames that the script pads shorter clips with. Each adds one frame to
            the background, with an IoU and F of 1.
        drop: index of a class that is left out of the mean; None keeps all.
        unseen: what a class counts that occurs in no frame.

    Returns:
        NaN where no class is left.
    """
    frames = counts.frames.astype(np.float64)
    iou, f = counts.iou_sum.copy(), counts.f_sum.copy()
    if padded:
        for column in (frames, iou, f):
            column[0] += counts.padded_frames
    seen = frames > 0
    divisor = np.where(seen, frames, 1.0)
    return _mean(iou / divisor, seen, drop, unseen), _mean(f / divisor, seen, drop, unseen)


def mean_over_dataset(
    counts: ClassCounts, *, drop: int | None = None, unseen: Unseen = "skip"
) -> tuple[float, float]:
    """Returns mIoU and mean F in percent, of the family that counts pixels over all frames.

    Args:
        counts: of a data set.
        drop: index of a class that is left out of the mean; None keeps all.
        unseen: what a class counts that occurs in no frame.

    Returns:
        NaN where no class is left.
    """
    hit, marked, labelled = counts.true_positives, counts.predicted, counts.labelled
    iou, f = _iou(hit, marked, labelled), _f_measure(hit, marked, labelled)
    return _mean(iou, counts.seen, drop, unseen), _mean(f, counts.seen, drop, unseen)


def _iou(hit: np.ndarray, marked: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Intersection over union from pixel counts; 0 where there is neither."""
    found: np.ndarray = hit / (marked + labelled - hit + _IOU_EPSILON)
    return found


def _f_measure(hit: np.ndarray, marked: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """F = 1.3 P R / (0.3 P + R) from pixel counts; 0 where nothing is hit.

    With P = hit / marked and R = hit / labelled it is 1.3 hit / (0.3 labelled + marked).
    """
    below = F_BETA_SQUARED * labelled + marked
    found: np.ndarray = (1 + F_BETA_SQUARED) * hit / np.where(below > 0, below, 1.0)
    return found


def _mean(values: np.ndarray, seen: np.ndarray, drop: int | None, unseen: Unseen) -> float:
    kept = seen.copy() if unseen == "skip" else np.ones_like(seen)
    if drop is not None:
        kept[drop] = False
    return float(100 * values[kept].mean()) if kept.any() else float("nan")
