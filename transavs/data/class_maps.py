"""Class maps: which class each pixel of a frame belongs to, from ids or from colours."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transavs.data.image_files import Image, read_frame, read_whole_file

#: What a mask file may hold besides binary masks (``SubsetSpec.mask_form``).
CLASS_FORMS = ("class_ids", "class_colors")


def read_class_map(path: str, form: str, classes: int) -> Image:
    """Returns the class of every pixel, uint8 ``[H, W]``, 0 the background.

    Args:
        path: of the picture.
        form: "class_ids": single-channel, the value is the class; "class_colors": colours of
            :func:`voc_palette`.
        classes: number of classes with the background, at most 256.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, or a pixel has no class.
    """
    if form == "class_ids":
        return _read_ids(path, classes)
    if form == "class_colors":
        return _read_colors(path, classes)
    raise ValueError(f"expected a form out of {', '.join(CLASS_FORMS)}, got {form!r}")


def voc_palette(classes: int) -> NDArray[np.uint8]:
    """Returns the colours uint8 ``[classes, 3]`` (R, G, B) that PASCAL VOC gives to class ids.

    Bit 3i of an id is bit 7 - i of red, bit 3i + 1 of green and bit 3i + 2 of blue.
    """
    ids = np.arange(classes)
    colors = np.zeros((classes, 3), dtype=np.uint8)
    for channel in range(3):
        for step in range(3):
            bit = ids >> (3 * step + channel) & 1
            colors[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    return colors


def _read_ids(path: str, classes: int) -> Image:
    data = read_whole_file(path)
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            # A palette picture gives its indices.
            if picture.mode not in ("L", "P"):
                raise ValueError(
                    f"{path}: expected a map of class ids, 8-bit and single-channel, got a picture "
                    f"of mode {picture.mode!r}; colour-coded maps belong to the data sets with "
                    "'rgb' in their names"
                )
            ids = np.array(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no readable image ({error})") from None
    unknown = np.unique(ids[ids >= classes])
    if unknown.size:
        raise ValueError(
            f"{path}: expected class ids from 0 to {classes - 1}, got "
            f"{', '.join(map(str, unknown[:5]))} in {int((ids >= classes).sum())} pixels"
        )
    return ids


def _read_colors(path: str, classes: int) -> Image:
    codes = _pack(read_frame(path, "RGB"))
    known, order = _packed_palette(classes)
    place = np.searchsorted(known, codes).clip(max=classes - 1)
    unknown = known[place] != codes
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        code = int(codes[row, column])
        raise ValueError(
            f"{path}: the colour ({code >> 16}, {code >> 8 & 255}, {code & 255}) at row {row}, "
            f"column {column} is none of the {classes} classes' colours ({int(unknown.sum())} such "
            "pixels); a map must not be resized with interpolation or saved as JPEG"
        )
    return order[place]


@cache
def _packed_palette(classes: int) -> tuple[NDArray[np.int64], Image]:
    """Colours as sorted numbers, and the class of each."""
    codes = _pack(voc_palette(classes)[None])[0]
    order = np.argsort(codes)
    return codes[order], order.astype(np.uint8)


def _pack(colors: Image) -> NDArray[np.int64]:
    """One number for each colour of uint8 ``[H, W, 3]``."""
    wide = colors.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
