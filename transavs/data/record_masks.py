"""Masks of a record's frames, checked against their frames: unions, objects, classes.

``size`` is the (height, width) of the clip's frames in pixels, which every mask must have.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transavs.data.avsbench import Record
from transavs.data.class_maps import read_class_map
from transavs.data.targets import object_labels
from transavs.utils.image_files import Image, check_same_size, read_label_map, read_mask


def read_union(record: Record, second: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Returns all that sounds in a labelled frame, bool ``[H, W]``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, holds other values, or has another size than its frame.
    """
    if "mask_form" in record:
        return _read_classes(record, second, size) > 0
    name = record["mask_file_names"][second]
    mask = read_mask(name)
    check_same_size(name, mask.shape[:2], size, _frame_of(record, second))
    return mask


def read_target_classes(
    record: Record, second: int, size: tuple[int, int], num_classes: int
) -> Image:
    """Returns the class of each pixel of a labelled frame, uint8 ``[H, W]``, 0 the background.

    Args:
        num_classes: that the model knows, without the background.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`read_union`; the data have no classes, or more of them.
    """
    if "mask_form" not in record:
        raise ValueError(
            f"clip {record['clip_id']!r} has no class maps, which the targets 'classes' need: set "
            "MODEL.TRANSAVS.TARGETS to 'union' or 'components'"
        )
    classes = record["pixel_classes"] - 1
    if classes > num_classes:
        raise ValueError(
            f"clip {record['clip_id']!r} is of a data set with {classes} classes, but "
            f"MODEL.TRANSAVS.NUM_CLASSES is {num_classes}: set it to {classes}"
        )
    return _read_classes(record, second, size)


def read_sounding_objects(record: Record, second: int, size: tuple[int, int]) -> Image:
    """Returns the label map uint8 ``[H, W]`` of the objects that sound in a frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`read_union`; the data know no objects.
    """
    if "object_mask_file_names" not in record or "sounding_objects" not in record:
        raise ValueError(
            f"clip {record['clip_id']!r} has no object maps, which the targets 'objects' need; "
            "AVSBench has none: set MODEL.TRANSAVS.TARGETS to 'union' or 'components'"
        )
    name = record["object_mask_file_names"][second]
    label_map = read_label_map(name)
    check_same_size(name, label_map.shape, size, _frame_of(record, second))
    return object_labels(label_map, record["sounding_objects"][second])


def read_truth(record: Record, size: tuple[int, int]) -> dict[str, Tensor]:
    """Returns what an evaluation compares with: the masks of all T seconds.

    Returns:
        ``union_masks`` bool ``[T, H, W]``, ``labelled`` bool ``[T]`` (unlabelled rows are False)
        and, where the data have classes, ``class_maps`` uint8 ``[T, H, W]``, 0 the background.
    """
    labelled = [name is not None for name in record["mask_file_names"]]
    has_classes = "mask_form" in record
    read = _read_classes if has_classes else read_union
    maps = np.zeros((len(labelled), *size), dtype=np.uint8)
    for second in map(int, np.flatnonzero(labelled)):
        maps[second] = read(record, second, size)
    truth = {"union_masks": torch.from_numpy(maps > 0), "labelled": torch.tensor(labelled)}
    return {**truth, "class_maps": torch.from_numpy(maps)} if has_classes else truth


def _read_classes(record: Record, second: int, size: tuple[int, int]) -> Image:
    name = record["mask_file_names"][second]
    classes = read_class_map(name, record["mask_form"], record["pixel_classes"])
    check_same_size(name, classes.shape, size, _frame_of(record, second))
    return classes


def _frame_of(record: Record, second: int) -> str:
    return f"its frame {record['file_names'][second]}"
