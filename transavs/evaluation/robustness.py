"""Scores of AVSBench-Robust (arXiv 2502.00358): the true sound segmented, a false one not.

With ``J_pos`` the Jaccard index under the clips' own sound and ``J_neg`` its mean over the negative
conditions, always against the *original* masks, so that a low one is good::

    G_mIoU = 2 J_pos (1 - J_neg) / (J_pos + (1 - J_neg))

``G_F`` likewise with the F-measure, and ``FPR`` is the mean share of pixels that are marked under
the negative conditions. A model that segments the same object whatever sounds has a high ``J_pos``
and a low ``G_mIoU``.

One choice of ``G_mIoU`` differs from adding up official numbers. Jaccard is the mean over the
frames in which something sounds (``M_J_nonempty``): on an empty frame the benchmark scores the
share of background, which would count a model's rightful silence under a false sound as agreement
with the original.
Where no frame is empty, as in S4, it is the official number. ``G_mIoU_all_frames`` adds up the
official numbers (``M_J``) and is the one to set beside published ones. F is the official ``M_F``,
and ``G_F_group_1`` and ``G_F_group_4`` are those of its two common sizes of group; a group of clips
without any foreground counts as 0 whatever the model does. It never falls to 0 under
a false sound: the lowest of its thresholds marks every pixel of any answer.

Where data and model tell classes, as in AVSS, J and F are ``class_mIoU_foreground`` and
``class_F_foreground`` instead, the means over the classes without the background: under a false
sound the background would only tell how much of the picture it fills. There the official numbers
have the background among the classes: ``G_mIoU_with_background`` and ``G_F_with_background``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transavs.evaluation.summary import F_GROUPS

ORIGINAL = "original"
# Jaccard (J) and F-measure (F) of the summary, with classes and without, by the suffix that its
# names have. Those with a suffix are of the published kinds, and not told by condition.
_BY_CLASS = {
    "J": {"": "class_mIoU_foreground", "_with_background": "class_mIoU_official"},
    "F": {"": "class_F_foreground", "_with_background": "class_F_official"},
}
_BINARY = {
    "J": {"": "M_J_nonempty", "_all_frames": "M_J"},
    "F": {"": "M_F", **{f"_group_{size}": f"M_F_group_{size}" for size in F_GROUPS}},
}
_COMBINED = {"J": "G_mIoU", "F": "G_F"}
_FALSE_SHARE = "FPR"

Scores = Mapping[str, float | None]


def summarize_robustness(scores: Mapping[str, Scores], negatives: Sequence[str]) -> dict[str, Any]:
    """Returns the summary of a data set from its scores under several audio conditions.

    Args:
        scores: condition -> the entries of :func:`transavs.evaluation.summarize`, those of negative
            conditions with every predicted pixel counted as false. None is read as NaN.
        negatives: the negative conditions; those that ``scores`` lacks are left out. Conditions
            that are neither these nor the original do not enter.

    Returns:
        ``G_mIoU``, ``G_F``, ``J_pos``, ``J_neg``, ``F_pos``, ``F_neg`` in percent, ``FPR`` as a
        share in [0, 1], and ``conditions``: for each negative condition its own ``J``, ``F``,
        ``FPR``, ``G_mIoU`` and ``G_F``. Where the original sound has what they need, also the
        numbers of the published kinds by the names above, with their ``J_pos_all_frames``,
        ``J_neg_all_frames`` and so on. A score that is NaN makes NaN of what is computed from it.

    Raises:
        ValueError: there is nothing to summarize; the message says why.
    """
    present = [name for name in negatives if name in scores]
    if ORIGINAL not in scores:
        raise ValueError(f"the condition {ORIGINAL!r} was not evaluated")
    if not present:
        raise ValueError(f"no negative condition was evaluated (one of {', '.join(negatives)})")
    original = scores[ORIGINAL]
    kinds = _BY_CLASS if _BY_CLASS["J"][""] in original else _BINARY
    keys = [kinds[letter][""] for letter in "JF"]
    j_pos, f_pos = (_number(original, key) for key in keys)
    if math.isnan(j_pos):
        raise ValueError("nothing sounds in any frame under the original sound")
    conditions = {}
    for name in present:
        j, f = (_number(scores[name], key) for key in keys)
        conditions[name] = {
            "J": j,
            "F": f,
            "FPR": _number(scores[name], _FALSE_SHARE),
            "G_mIoU": combined_score(j_pos, j),
            "G_F": combined_score(f_pos, f),
        }
    summary: dict[str, Any] = {"FPR": _mean(scores, present, _FALSE_SHARE)}
    for letter, by_suffix in kinds.items():
        for suffix, key in by_suffix.items():
            # Scores that were written before these kinds were told have the first alone.
            if suffix and key not in original:
                continue
            positive, negative = _number(original, key), _mean(scores, present, key)
            summary[f"{_COMBINED[letter]}{suffix}"] = combined_score(positive, negative)
            summary[f"{letter}_pos{suffix}"] = positive
            summary[f"{letter}_neg{suffix}"] = negative
    return {**summary, "conditions": conditions}


def combined_score(positive: float, negative: float) -> float:
    """Returns the harmonic mean of ``positive`` and ``100 - negative``, all in percent.

    0 where both are 0 (nothing is right with any sound), NaN where one is NaN.
    """
    kept = 100.0 - negative
    total = positive + kept
    return 0.0 if total == 0 else 2 * positive * kept / total


def _mean(scores: Mapping[str, Scores], names: Sequence[str], key: str) -> float:
    return float(np.mean([_number(scores[name], key) for name in names]))


def _number(scores: Scores, key: str) -> float:
    value = scores.get(key)
    return math.nan if value is None else float(value)
