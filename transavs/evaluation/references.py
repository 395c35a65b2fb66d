"""What a model that does not listen would score: two references for a data set with known objects.

A Jaccard index says little by itself: where most visible objects sound most of the time, marking
all of them scores well. These references tell how well, for "mark nothing" and for "mark every
object", with the same :func:`transavs.evaluation.frame_jaccard` that scores the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from transavs.evaluation.metrics import frame_jaccard
from transavs.utils.image_files import read_label_map, read_mask


def reference_scores(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean Jaccard index of marking nothing and of marking every visible object.

    Args:
        records: data set records with ``clip_id``, ``mask_file_names`` (one path a frame, or None
            where a frame has no label; such frames are left out) and ``object_mask_file_names``
            (one path a frame: a picture of uint8 labels, 0 background, i the visible pixels of
            object i, sounding or not).

    Returns:
        Percentages ``nothing`` and ``every_object`` over all labelled frames (an empty ground truth
        scores its background accuracy), and ``nothing_nonempty`` and ``every_object_nonempty`` over
        the frames in which something sounds (NaN if there is none).

    Raises:
        ValueError: a record has no object masks, a mask cannot be read, the two masks of a frame
            differ in size, or there is no labelled frame at all.
        FileNotFoundError: a mask is missing.
    """
    frames = [scores for record in records for scores in _record_scores(record)]
    if not frames:
        raise ValueError("expected at least one labelled frame, got none: no references to compute")
    nothing, every_object, is_empty = (np.asarray(column) for column in zip(*frames, strict=True))
    nonempty = ~is_empty.astype(bool)
    return {
        "nothing": _percent(nothing),
        "every_object": _percent(every_object),
        "nothing_nonempty": _percent(nothing[nonempty]),
        "every_object_nonempty": _percent(every_object[nonempty]),
    }


def _record_scores(record: Mapping[str, Any]) -> list[tuple[float, float, bool]]:
    """Returns (Jaccard of nothing, Jaccard of every object, ground truth is empty) a frame."""
    object_files = record.get("object_mask_file_names")
    if object_files is None:
        raise ValueError(
            f"clip {record.get('clip_id')!r} has no 'object_mask_file_names': only the composed "
            "demo set knows every visible object; AVSBench has masks of sounding objects alone"
        )
    if len(object_files) != len(record["mask_file_names"]):
        raise ValueError(
            f"clip {record.get('clip_id')!r}: expected one object mask a frame, got "
            f"{len(object_files)} for {len(record['mask_file_names'])} frames"
        )
    scores = []
    for mask_file, object_file in zip(record["mask_file_names"], object_files, strict=True):
        if mask_file is None:
            continue
        target = torch.from_numpy(read_mask(mask_file))
        objects = torch.from_numpy(read_label_map(object_file) > 0)
        if target.shape != objects.shape:
            raise ValueError(
                f"expected masks of one size, got {list(target.shape)} in {mask_file} and "
                f"{list(objects.shape)} in {object_file}"
            )
        predictions = torch.stack([torch.zeros_like(objects), objects]).float()
        nothing, every_object = frame_jaccard(predictions, target.expand(2, -1, -1)).tolist()
        scores.append((nothing, every_object, not bool(target.any())))
    return scores


def _percent(values: np.ndarray) -> float:
    return float(100.0 * values.mean()) if values.size else float("nan")
