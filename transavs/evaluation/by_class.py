"""Scores by sound class: which sounds a model finds the source of, and which it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from transavs.evaluation.clip_scores import ClipScores

# A frame with a smaller Jaccard index counts as missed.
_MISSED_BELOW = 0.1


def scores_by_class(
    clips: Sequence[ClipScores], heard: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, dict[str, float]]:
    """Returns the mean Jaccard index of the frames in which one class alone is heard.

    Args:
        clips: scores of a data set's clips, under their own sound.
        heard: clip id -> the names of the classes heard in each of its seconds. Clips that it
            lacks are left out, and so are frames without ground truth.

    Returns:
        class -> ``J`` in percent, ``missed``, the percentage of its frames with a Jaccard index
        below 0.1, and ``frames``, their number; in alphabetical order.
    """
    found: dict[str, list[float]] = {}
    for clip in clips:
        for second, jaccard, is_empty in zip(
            clip.frame_index, clip.jaccard, clip.is_empty, strict=True
        ):
            names = heard[clip.clip_id][int(second)] if clip.clip_id in heard else ()
            if len(names) == 1 and not is_empty:
                found.setdefault(names[0], []).append(float(jaccard))
    return {
        name: {
            "J": float(100 * np.mean(values)),
            "missed": float(100 * np.mean(np.asarray(values) < _MISSED_BELOW)),
            "frames": len(values),
        }
        for name, values in sorted(found.items())
    }
