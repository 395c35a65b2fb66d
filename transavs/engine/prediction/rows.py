"""What is kept of a moment: its mask in run lengths, and that of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from transavs.engine.prediction.manifest import Item
from transavs.engine.prediction.settings import Settings
from transavs.engine.predictor import FramePrediction, VideoPredictor
from transavs.video import Film, FrameFiles

Row = dict[str, Any]


def predict_item(predictor: VideoPredictor, item: Item, settings: Settings) -> list[Row]:
    """Returns a row for each moment of an item, in order; see ``SCHEMA`` for their columns.

    Raises:
        OSError, ValueError: the item cannot be read, has no sound, or shows no picture.
    """
    film = item.open(settings.longest_side, settings.folder_rate)
    if not film.has_sound and not settings.silent_films:
        raise ValueError(f"{_without_sound(film)}: leave it out, or allow silent films")
    moments = predictor.predict(film, per_second=settings.per_second)
    rows = [_row(moment, predictor.known_classes) for moment in moments]
    if not rows:
        raise ValueError(f"{film.name} shows no picture")
    return rows


def _without_sound(film: Film) -> str:
    if isinstance(film, FrameFiles) and film.sound_file is not None:
        return f"{film.sound_file} holds no samples"
    return f"{film.name} has no sound"


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Returns the ``counts`` of COCO's compressed run lengths of a mask, bool ``[H, W]``."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return str(encoded["counts"].decode("ascii"))


def decode_mask(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Returns the mask, bool ``[height, width]``, of COCO's compressed run lengths."""
    encoded = {"size": [height, width], "counts": counts.encode("ascii")}
    mask: NDArray[np.bool_] = coco_mask.decode(encoded).astype(bool)
    return mask


def _row(moment: FramePrediction, names: tuple[str, ...]) -> Row:
    height, width = moment.mask.shape
    row: Row = {
        "frame": moment.number,
        "seconds": float(moment.seconds),
        "height": int(height),
        "width": int(width),
        "counts": encode_mask(moment.mask),
        "score": float(moment.confidence),
        "classes": None,
        "class_counts": None,
    }
    if moment.class_map is not None:
        found = [int(number) for number in np.unique(moment.class_map) if number > 0]
        row["classes"] = [_class_name(number, names) for number in found]
        row["class_counts"] = [encode_mask(moment.class_map == number) for number in found]
    return row


def _class_name(number: int, names: tuple[str, ...]) -> str:
    return names[number - 1] if number <= len(names) else f"class {number}"
