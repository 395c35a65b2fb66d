"""From scores of single clips to the numbers of a table; every division by a count happens here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from transavs.evaluation.class_counts import (
    ClassCounts,
    mean_over_dataset,
    mean_over_frames,
    pool,
)
from transavs.evaluation.clip_scores import ClipScores

EmptyBatchF = Literal["zero", "skip"]

#: Sizes of group that ``M_F`` is always given at, whatever the chosen one: COMBO, VCT and CAVP take
#: 1 clip, AVSBench's test scripts 4.
F_GROUPS = (1, 4)

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

        ``M_F_group``: ``f_threshold_batch``, the size of the groups of ``M_F``, and ``M_F_group_1``
        and ``M_F_group_4``: percent, as ``M_F``, at groups of 1 and of 4 clips.

        ``FPR``: share of pixels in [0, 1] that are predicted outside the ground truth (all
        predicted pixels of a negative condition), mean over labelled frames.

        ``frames_with_false_pixels``: percent of labelled frames with more than 0.5 % of false
        foreground.

        ``clips``, ``frames``, ``frames_empty``: counts of clips with a label, of labelled frames
        and of those with an empty ground truth.

        ``dataset_mIoU``, ``dataset_mIoU_absent_zero``, ``dataset_F``, ``dataset_JF``: percent, see
        :func:`dataset_scores`, of the two classes background and sounding.

        Where every clip has class maps also those of :func:`class_scores`.

        A mean over nothing is NaN. ``docs/metrics.md`` has the formulas.

    Raises:
        ValueError: ``f_threshold_batch`` or ``empty_batch_f`` is out of its range.
    """
    check_f_protocol(f_threshold_batch, empty_batch_f)
    labelled = [clip for clip in clips if clip.jaccard.size]
    jaccard = _joined([clip.jaccard for clip in labelled])
    is_empty = _joined([clip.is_empty for clip in labelled]).astype(bool)
    false_share = _joined([clip.false_share for clip in labelled])
    scores = {
        "M_J": 100 * _mean(jaccard),
        "M_J_nonempty": 100 * _mean(jaccard[~is_empty]),
        "M_F": 100 * _grouped_f(labelled, f_threshold_batch, empty_batch_f),
        "M_F_group": f_threshold_batch,
        **{f"M_F_group_{n}": 100 * _grouped_f(labelled, n, empty_batch_f) for n in F_GROUPS},
        "M_F_dataset": 100 * _grouped_f(labelled, max(len(labelled), 1), "skip"),
        "FPR": _mean(false_share),
        "frames_with_false_pixels": 100 * _mean(false_share > FALSE_SHARE_LIMIT),
        "clips": len(labelled),
        "frames": int(jaccard.size),
        "frames_empty": int(is_empty.sum()),
    }
    if labelled:
        scores |= dataset_scores([clip.regions for clip in labelled])
        classes = [clip.classes for clip in labelled if clip.classes is not None]
        if len(classes) == len(labelled):
            scores |= class_scores(classes)
    return scores


def dataset_scores(counts: Sequence[ClassCounts]) -> dict[str, float]:
    """Returns the scores of the family that counts pixels over all frames of a data set.

    As CAVP, CPM and DDESeg print them: every class is divided once, and the mean is over the
    classes, the background among them. A class without any pixel, predicted or true, is left out of
    all means but CAVP's mIoU. Not to be compared with scores of single frames.

    Args:
        counts: of the clips, at least one.

    Returns:
        ``dataset_mIoU`` (DDESeg's "mIoU" or "J"), ``dataset_mIoU_absent_zero`` (CAVP's "mIoU", to
        which an absent class adds 0), ``dataset_F`` (their "F", beta^2 = 0.3) and ``dataset_JF``
        (their "J&F"), the mean of the first and the third; percent.
    """
    total = pool(counts)
    iou, f = mean_over_dataset(total)
    with_absent, _ = mean_over_dataset(total, unseen="zero")
    return {
        "dataset_mIoU": iou,
        "dataset_mIoU_absent_zero": with_absent,
        "dataset_F": f,
        "dataset_JF": (iou + f) / 2,
    }


def class_scores(counts: Sequence[ClassCounts]) -> dict[str, float]:
    """Returns the scores of a data set with classes, those of AVSBench's AVSS and corrected ones.

    Args:
        counts: of the clips, at least one.

    Returns:
        In percent, mIoU and F over frames (see :func:`mean_over_frames`) of

        ``class_mIoU``, ``class_F``: the classes that occur, the background among them;
        ``class_mIoU_foreground``, ``class_F_foreground``: the same without the background;
        ``class_mIoU_unpadded``, ``class_F_unpadded``: all classes, a class that never occurs
        counting 0: what COMBO and VCT print;
        ``class_mIoU_official``, ``class_F_official``: likewise, with the frames that the official
        script (and AVSegFormer) pads clips with;
        ``class_mIoU_official_no_last``, ``class_F_official_no_last``: its "without background",
        which drops the last class and not the background;

        over the data set ``class_dataset_mIoU``, ``class_dataset_mIoU_absent_zero``,
        ``class_dataset_F`` and ``class_dataset_JF``, as :func:`dataset_scores`; and
        ``classes_seen``, the number of classes that occur.
    """
    total = pool(counts)
    last = len(total.frames) - 1
    pairs = {
        "": mean_over_frames(total),
        "_foreground": mean_over_frames(total, drop=0),
        "_unpadded": mean_over_frames(total, unseen="zero"),
        "_official": mean_over_frames(total, padded=True, unseen="zero"),
        "_official_no_last": mean_over_frames(total, padded=True, unseen="zero", drop=last),
    }
    scores: dict[str, float] = {}
    for suffix, (iou, f) in pairs.items():
        scores |= {f"class_mIoU{suffix}": iou, f"class_F{suffix}": f}
    over_dataset = {f"class_{name}": value for name, value in dataset_scores(counts).items()}
    return {**scores, **over_dataset, "classes_seen": int(total.seen.sum())}


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
