"""From scores of single clips to the numbers of a table; every division by a count happens here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from transavs.evaluation.clip_scores import ClipScores

EmptyBatchF = Literal["zero", "skip"]

#: A frame counts as "with false pixels" above this share of false foreground.
FALSE_SHARE_LIMIT = 0.005


def summarize(
    clips: Sequence[ClipScores], f_threshold_batch: int = 4, empty_batch_f: EmptyBatchF = "zero"
) -> dict[str, float]:
    """Returns the scores of a data set from those of its clips.

    Args:
        clips: one entry a clip, in the order of the data set (only ``M_F`` depends on the order).
        f_threshold_batch: how many consecutive clips share a threshold in ``M_F``.
        empty_batch_f: what such a group contributes to ``M_F`` when all its ground truth is empty:
            ``"zero"`` counts it as 0, as the benchmark's script does; ``"skip"`` leaves it out.

    Returns:
        ``M_J``: percent, mean Jaccard index over all labelled frames, where an empty frame scores
        its background accuracy. The benchmark averages batches and then the batch means; with
        batches of equal size, as in its test splits, that is the same number.

        ``M_J_nonempty``: percent, the same over frames in which something sounds.

        ``M_F``: percent, as the benchmark computes it: for every ``f_threshold_batch`` consecutive
        clips the best value, over 255 thresholds, of the mean F curve of their non-empty frames;
        then the mean over these groups. A threshold of its own for every few clips flatters, and
        the number depends on the group size: state it next to any result.

        ``M_F_dataset``: percent, one best threshold for the whole data set; depends on neither
        order nor grouping.

        ``FPR``: share of pixels in [0, 1] that are predicted outside the ground truth (all
        predicted pixels of a negative condition), mean over labelled frames.

        ``frames_with_false_pixels``: percent of labelled frames with more than 0.5 % of false
        foreground.

        ``clips``, ``frames``, ``frames_empty``: counts of clips with a label, of labelled frames
        and of those with an empty ground truth.

        A mean over nothing is NaN.

    Raises:
        ValueError: ``f_threshold_batch`` or ``empty_batch_f`` is out of its range.
    """
    check_f_protocol(f_threshold_batch, empty_batch_f)
    labelled = [clip for clip in clips if clip.jaccard.size]
    jaccard = _joined([clip.jaccard for clip in labelled])
    is_empty = _joined([clip.is_empty for clip in labelled]).astype(bool)
    false_share = _joined([clip.false_share for clip in labelled])
    return {
        "M_J": 100 * _mean(jaccard),
        "M_J_nonempty": 100 * _mean(jaccard[~is_empty]),
        "M_F": 100 * _grouped_f(labelled, f_threshold_batch, empty_batch_f),
        "M_F_dataset": 100 * _grouped_f(labelled, max(len(labelled), 1), "skip"),
        "FPR": _mean(false_share),
        "frames_with_false_pixels": 100 * _mean(false_share > FALSE_SHARE_LIMIT),
        "clips": len(labelled),
        "frames": int(jaccard.size),
        "frames_empty": int(is_empty.sum()),
    }


def check_f_protocol(f_threshold_batch: int, empty_batch_f: str) -> None:
    """Raises ValueError unless both parameters of ``M_F`` are usable."""
    if f_threshold_batch < 1:
        raise ValueError(
            f"expected f_threshold_batch (TEST.F_THRESHOLD_BATCH) >= 1 clip, "
            f"got {f_threshold_batch}"
        )
    if empty_batch_f not in ("zero", "skip"):
        raise ValueError(f"expected empty_batch_f 'zero' or 'skip', got {empty_batch_f!r}")


def _grouped_f(clips: Sequence[ClipScores], group_size: int, empty_group: EmptyBatchF) -> float:
    """Returns the mean over groups of consecutive clips of the group's best F, in [0, 1]."""
    values = []
    for start in range(0, len(clips), group_size):
        group = clips[start : start + group_size]
        num_frames = sum(clip.num_nonempty for clip in group)
        if num_frames:
            curve = np.sum([clip.f_curve_sum for clip in group], axis=0) / num_frames
            values.append(float(curve.max()))
        elif empty_group == "zero":
            values.append(0.0)
    return _mean(np.asarray(values))


def _joined(columns: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(columns) if columns else np.empty(0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
