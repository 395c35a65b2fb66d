"""Class maps: which class each pixel of a frame belongs to, from ids or from colours."""

from __future__ import annotations

from functools import cache

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transavs.utils.image_files import Image, read_ids, read_stored

#: What a mask file may hold besides binary masks (``SubsetSpec.mask_form``).
CLASS_FORMS = ("class_ids", "class_colors")


def read_class_map(path: str, form: str, classes: int) -> Image:
    """Returns the class of every pixel, uint8 ``[H, W]``, 0 the background.

    Args:
        path: of the picture.
        form: "class_ids": single-channel, the value is the class; "class_colors": colours of
            :func:`voc_palette`. Pictures of the other kind are refused.
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
    what = "a map of class ids (colours belong to the data sets with 'rgb' in their names)"
    ids, palette = read_ids(path, what)
    unknown = np.unique(ids[ids >= classes])
    if unknown.size:
        raise ValueError(
            f"{path}: expected class ids from 0 to {classes - 1}, got "
            f"{', '.join(map(str, unknown[:5]))} in {int((ids >= classes).sum())} pixels"
        )
    if palette is not None:
        _check_palette(path, ids, palette, classes)
    return ids


def _check_palette(path: str, ids: Image, palette: Image, classes: int) -> None:
    """Refuses a colour-coded map that was saved with a palette of its own: its indices are no ids.

    Palettes of greys, or with a colour of no class, tell nothing and are let pass.
    """
    used = np.unique(ids)
    used = used[used < len(palette)]
    colors = palette[used]
    meant, known = _classes_of(_pack(colors[None])[0], classes)
    if known.all() and (meant != used).any() and (colors != colors[:, :1]).any():
        place = np.flatnonzero(meant != used)[0]
        raise ValueError(
            f"{path}: expected a map of class ids, got a colour-coded map with a palette: the "
            f"value {used[place]} has the colour of class {meant[place]}; such maps belong to the "
            "data sets with 'rgb' in their names"
        )


def _read_colors(path: str, classes: int) -> Image:
    pixels = read_stored(path)
    if not pixels.any():
        return np.zeros(pixels.shape[:2], dtype=np.uint8)
    _check_has_colors(path)
    colors = pixels[..., 2::-1]
    if pixels.shape[2] == 4:
        hidden = (pixels[..., 3] < np.iinfo(pixels.dtype).max) & colors.any(axis=-1)
        if hidden.any():
            raise ValueError(
                f"{path}: {int(hidden.sum())} pixels have a colour and are transparent; save the "
                "map without transparency"
            )
    if colors.dtype == np.uint16 and colors.max() > 255:
        colors = colors >> 8
    codes = _pack(colors)
    found, known = _classes_of(codes, classes)
    if not known.all():
        row, column = np.argwhere(~known)[0]
        code = int(codes[row, column])
        raise ValueError(
            f"{path}: the colour ({code >> 16}, {code >> 8 & 255}, {code & 255}) at row {row}, "
            f"column {column} is none of the {classes} classes' colours ({int((~known).sum())} "
            "such pixels); a map must not be resized with interpolation or saved as JPEG"
        )
    return found


def _check_has_colors(path: str) -> None:
    """Refuses grey pictures: some ids, read as greys, are the colours of other classes."""
    with PIL.Image.open(path) as picture:
        mode = picture.mode
        palette = picture.getpalette("RGB") or []
        if mode == "P" and palette == [place // 3 for place in range(len(palette))]:
            mode = "L"
    if mode not in ("RGB", "RGBA", "P"):
        raise ValueError(
            f"{path}: expected a colour-coded map, got a picture of mode {mode!r}; maps of class "
            "ids belong to the data sets without 'rgb' in their names"
        )


def _classes_of(codes: NDArray[np.int64], classes: int) -> tuple[Image, NDArray[np.bool_]]:
    """The class of each packed colour, and whether it is the colour of one."""
    known, order = _packed_palette(classes)
    place = np.searchsorted(known, codes).clip(max=classes - 1)
    return order[place], known[place] == codes


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
