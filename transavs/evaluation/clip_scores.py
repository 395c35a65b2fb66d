"""The numbers that the evaluator keeps of a clip: a few per frame, never the maps themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from transavs.evaluation.class_counts import ClassCounts, count_classes
from transavs.evaluation.metrics import f_curve, frame_jaccard


@dataclass(frozen=True)
class ClipScores:
    """Scores of the labelled frames of one clip. F is their number, possibly 0.

    Attributes:
        clip_id: the clip's name in its data set.
        frame_index: int64 [F], which second of the clip each frame shows.
        jaccard: float64 [F] in [0, 1]; background accuracy where the ground truth is empty.
        best_f: float64 [F] in [0, 1], the F-measure at the frame's own best threshold; 0 where the
            ground truth is empty. For looking at single frames; no average is made of it.
        is_empty: bool [F], the ground truth has no foreground.
        predicted_share: float64 [F] in [0, 1], predicted foreground as a share of all pixels.
        false_share: float64 [F] in [0, 1], predicted foreground outside the ground truth as a
            share of all pixels.
        f_curve_sum: float64 [255], the sum of the F curves of the frames that are not empty.
        regions: counts of two classes, the background and what sounds.
        classes: counts of the data set's classes; None where data or model tell none.
    """

    clip_id: str
    frame_index: np.ndarray
    jaccard: np.ndarray
    best_f: np.ndarray
    is_empty: np.ndarray
    predicted_share: np.ndarray
    false_share: np.ndarray
    f_curve_sum: np.ndarray
    regions: ClassCounts
    classes: ClassCounts | None = None

    @property
    def num_nonempty(self) -> int:
        """Number of frames with foreground in the ground truth."""
        return int((~self.is_empty).sum())


def score_clip(
    clip: Mapping[str, Any],
    output: Mapping[str, Tensor],
    negative: bool = False,
    num_classes: int = 0,
    longest_clip: int = 0,
) -> ClipScores:
    """Returns the scores of one clip's labelled frames.

    Args:
        clip: the evaluation mapper's dict with ``clip_id`` (str), ``union_masks`` (bool
            [T, height, width]) and ``labelled`` (bool [T]); frames without a label are left out.
            Of data with classes ``class_maps`` (integer [T, height, width], 0 the background).
        output: the model's dict with ``masks`` (bool [T, height, width], the binary decision: gives
            the Jaccard index and the shares) and ``scores`` (float [T, height, width] in [0, 1]:
            gives the F-measure). The two need not be a threshold apart, hence both. Of a model
            with classes ``class_maps`` as above.
        negative: the sound was replaced by one that nothing in the picture makes. Then every
            predicted pixel is false; all other scores are still those against the clip's masks.
        num_classes: of the class maps, with the background; 0 leaves them out, as does a clip or an
            output without any.
        longest_clip: T of the data set's longest clip.

    Raises:
        ValueError: a missing key, or shapes or dtypes other than stated above.
    """
    clip_id = str(clip.get("clip_id", "?"))
    union_masks, labelled = (_item(clip, key, f"the clip {clip_id!r}") for key in _CLIP_KEYS)
    masks, scores = (_item(output, key, f"the output for {clip_id!r}") for key in _OUTPUT_KEYS)
    if union_masks.dim() != 3 or labelled.shape != union_masks.shape[:1]:
        raise ValueError(
            f"clip {clip_id!r}: expected union_masks [T, height, width] and labelled [T], got "
            f"{list(union_masks.shape)} and {list(labelled.shape)}"
        )
    if masks.shape != union_masks.shape or scores.shape != union_masks.shape:
        raise ValueError(
            f"clip {clip_id!r}: expected masks and scores of the ground truth's shape "
            f"{list(union_masks.shape)}, got {list(masks.shape)} and {list(scores.shape)}; "
            "the model must return maps at the clip's native height and width"
        )
    labelled = labelled.bool()
    frame_index = labelled.nonzero().flatten()
    targets = union_masks.to(scores.device)[frame_index.to(scores.device)]
    scores = scores[frame_index.to(scores.device)]
    masks = masks.to(scores.device)[frame_index.to(scores.device)].bool()

    curves = f_curve(scores, targets)
    is_empty = ~targets.flatten(1).any(dim=1)
    false_pixels = masks if negative else masks & ~targets
    classes = None
    if num_classes and "class_maps" in clip and "class_maps" in output:
        predicted, truth = (
            _item(each, "class_maps", clip_id).to(scores.device)[frame_index.to(scores.device)]
            for each in (output, clip)
        )
        padded_frames = max(longest_clip - len(labelled), 0)
        classes = count_classes(predicted, truth, num_classes, padded_frames)
    return ClipScores(
        clip_id=clip_id,
        frame_index=_to_numpy(frame_index),
        jaccard=_to_numpy(frame_jaccard(masks.float(), targets)),
        best_f=_to_numpy(curves.amax(dim=1)),
        is_empty=_to_numpy(is_empty),
        predicted_share=_to_numpy(masks.flatten(1).double().mean(dim=1)),
        false_share=_to_numpy(false_pixels.flatten(1).double().mean(dim=1)),
        f_curve_sum=_to_numpy(curves[~is_empty].sum(dim=0)),
        regions=count_classes(masks.long(), targets.long(), num_classes=2),
        classes=classes,
    )


_CLIP_KEYS = ("union_masks", "labelled")
_OUTPUT_KEYS = ("masks", "scores")


def _item(mapping: Mapping[str, Any], key: str, owner: str) -> Tensor:
    if key not in mapping:
        raise ValueError(f"expected {key!r} in {owner}, got the keys {sorted(map(str, mapping))}")
    return mapping[key].detach()


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
