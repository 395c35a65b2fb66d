"""What counts as one ground-truth mask: the union, its components, sounding objects, or classes.

Every form first writes the targets of a frame into one label map (0 background, i target i). Label
maps travel through the geometry as one picture, and only then become masks: what is cropped away
or hidden has no pixel left, and no mask.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transavs.utils.image_files import Image

# How the data says what sounds -> how a frame's targets are formed (MODEL.TRANSAVS.TARGETS).
TARGET_FORMS = ("union", "components", "objects", "classes")
BACKGROUND_LABEL = 255
_MOST_LABELS = BACKGROUND_LABEL - 1


def union_labels(mask: NDArray[np.bool_]) -> Image:
    """Returns the label map of a mask bool ``[H, W]`` as one target."""
    return mask.astype(np.uint8)


def component_labels(mask: NDArray[np.bool_], min_area: int) -> Image:
    """Returns the label map of a mask's connected components (8 neighbours), largest first.

    Components of fewer than ``min_area`` pixels are left out: ragged annotations would otherwise
    ask for a query each. The largest one always stays, so that no sounding frame turns silent.

    Args:
        mask: bool ``[H, W]`` at the size of the annotation, before any resize.
        min_area: pixels.
    """
    count, components, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    largest_first = np.argsort(-areas, kind="stable")[:_MOST_LABELS]
    lookup = np.zeros(count, dtype=np.uint8)
    for rank, component in enumerate(largest_first):
        if rank == 0 or areas[component] >= min_area:
            lookup[component + 1] = rank + 1
    return lookup[components]


def object_labels(label_map: Image, sounding: Collection[int]) -> Image:
    """Returns the label map of those objects of a frame that sound.

    Args:
        label_map: uint8 ``[H, W]``: 0 background, i the visible pixels of object i.
        sounding: ids of the objects that sound while the frame is shown; a hidden one has no pixel.
    """
    lookup = np.zeros(256, dtype=np.uint8)
    for rank, label in enumerate(sorted(set(sounding))[:_MOST_LABELS]):
        lookup[label] = rank + 1
    return lookup[label_map]


def add_background(labels: Image) -> Image:
    """Returns the label map with the background as a target of its own, the last one.

    What geometry adds around a frame later on (0) belongs to no target.
    """
    return np.where(labels == 0, np.uint8(BACKGROUND_LABEL), labels)


def target_classes(labels: Image, num_sounding: int, by_class: bool) -> Tensor:
    """Returns the classes int64 ``[G]`` of a label map's masks, in the order of their labels.

    Args:
        labels: see above; the background, if it is a target, comes last.
        num_sounding: classes of what sounds; the background is the next one.
        by_class: label i is class i - 1; otherwise all that sounds is class 0.
    """
    present = np.unique(labels)
    present = present[present > 0].astype(np.int64)
    classes = present - 1 if by_class else np.zeros_like(present)
    classes[present == BACKGROUND_LABEL] = num_sounding
    return torch.from_numpy(classes)


def split_labels(labels: Image) -> Tensor:
    """Returns the masks bool ``[G, H, W]`` of a label map, in the order of their labels.

    Labels without a pixel have no mask; G is 0 for an empty map.
    """
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=2))
    present = present[present > 0].astype(np.uint8)
    return torch.from_numpy(labels[None] == present[:, None, None])
