"""Reads frames, masks and maps of ids, and refuses files that would train or score wrongly.

Every picture is read upright, as viewers and Detectron2's ``read_image`` show it: turned and
mirrored as its own EXIF orientation says, be it a frame or a mask. Sizes are those of the upright
picture.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transavs.utils.picture_ends import JPEG_SIGNATURE, PNG_SIGNATURE, ends_early, has_end

# Pixels uint8 [H, W, 3] or [H, W]; OpenCV's stubs promise no more than "some numbers".
Image = NDArray[Any]

_TIFF_SIGNATURES = (b"II", b"MM")
_EXIF_ORIENTATION = 0x0112
# Without any of these no PNG, JPEG or WebP says how it is turned.
_SIGNS_OF_ORIENTATION = (b"Exif", b"eXIf", b"EXIF", b"tiff:Orientation")
#: Of a picture: a small file can promise gigabytes of pixels. 8192 x 8192.
MOST_PIXELS = 1 << 26
_REMEDY = "restore the file from the data set's archive, or export it again"
_MASK_VALUES = "a mask holds 0 (background) and 255 (sounding object)"
_MASK_REMEDY = "save it again with 0 and 255 alone, 255 for all that sounds"


def read_frame(path: str, image_format: str = "BGR") -> Image:
    """Returns a picture as uint8 ``[H, W, 3]``, upright.

    Args:
        path: any image file; grey pictures get three equal channels.
        image_format: order of the channels, "RGB" or "BGR".

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated or no image.
    """
    frame = _decode(path, cv2.IMREAD_COLOR)
    return frame if image_format == "BGR" else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def read_mask(path: str) -> NDArray[np.bool_]:
    """Returns a binary mask as bool ``[H, W]``, upright: True where the file is white.

    AVSBench stores 0 and 255. In 16 bits white may be 65535 or 255. Palettes and RGB are read where
    all their colours are greys. The greys of smooth edges are cut in the middle (127 is
    background); they may fill half of the picture, and few may lie further than a
    32nd of its side from black or from white. What is
    transparent is background, provided that all the rest is white. Any other file may mean another
    mask than its bright pixels (0 and 1, class ids, an object a grey or a colour, black on
    transparent) and is refused.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, or its values are not those of a binary mask.
    """
    pixels = read_stored(path)
    if pixels.ndim == 2:
        return _white(path, pixels)
    opaque = np.ones(pixels.shape[:2], dtype=np.bool_)
    if pixels.shape[2] == 4:
        opaque = _white(path, pixels[..., 3], "transparency")
    blue, green, red = (pixels[..., channel] for channel in range(3))
    colored = ((blue != green) | (green != red)) & opaque
    if colored.any():
        row, column = np.argwhere(colored)[0]
        color = tuple(int(value) for value in pixels[row, column, 2::-1])
        raise ValueError(
            f"{path}: {_MASK_VALUES}, but has the colour {color} at row {row}, column {column}: "
            f"colours may be classes or objects; {_MASK_REMEDY}"
        )
    mask = _white(path, blue * opaque)
    hidden = not opaque.any() and blue.min() < blue.max()
    if not opaque.all() and (hidden or (mask != opaque).any()):
        raise ValueError(
            f"{path}: {_MASK_VALUES}, but its transparency shows another shape than its greys; "
            f"{_MASK_REMEDY} and no transparency"
        )
    return mask


def _white(path: str, values: Image, kind: str = "grey") -> NDArray[np.bool_]:
    """Which of the values ``[H, W]`` are in the upper half; refuses all but black and one white."""
    if values.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{path}: expected a mask of 8 or 16 bits, got {values.dtype}; {_MASK_REMEDY}"
        )
    largest = int(values.max())
    middle = 127 if largest <= 255 else 32767
    mask: NDArray[np.bool_] = values > middle
    # A value that fills a neighbourhood is an area of its own, and not the blur of an edge.
    values = np.ascontiguousarray(values)
    block = np.ones((3, 3), dtype=np.uint8)
    areas = values[cv2.erode(values, block) == cv2.dilate(values, block)]
    levels = {*np.flatnonzero(np.bincount(areas)).tolist(), largest} - {0}
    if len(levels) > 1 or 0 < largest <= middle:
        told = ", ".join(map(str, sorted(levels)[:5]))
        raise ValueError(
            f"{path}: {_MASK_VALUES}, but there are areas of the {kind} {told}, which may be "
            f"classes or objects; {_MASK_REMEDY}"
        )
    # Edges are narrow, and not everywhere.
    dark, bright = largest // 8, largest - largest // 8
    soft = (values > dark) & (values < bright)
    is_noise = soft.mean() > 0.5
    if soft.any():
        reach = np.ones((2 * max(2, min(values.shape) // 32) + 1,) * 2, np.uint8)
        soft &= (cv2.erode(values, reach) > dark) | (cv2.dilate(values, reach) < bright)
    if is_noise or soft.sum() > mask.sum() / 2:
        raise ValueError(
            f"{path}: {_MASK_VALUES}, but has more of another {kind} than edges between black and "
            f"white have; {_MASK_REMEDY}"
        )
    return mask


def read_stored(path: str) -> Image:
    """Returns a picture's values as they are stored, but upright.

    Returns:
        Usually uint8 or uint16; ``[H, W]`` of a grey picture, otherwise ``[H, W, 3]`` in the order
        B, G, R, or ``[H, W, 4]`` with the opacity behind them. Palettes become colours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, or marks one of its greys as transparent.
    """
    return _decode(path, cv2.IMREAD_UNCHANGED)


def read_ids(path: str, what: str) -> tuple[Image, Image | None]:
    """Returns the number that each pixel holds, uint8 ``[H, W]``, and the palette if there is one.

    Args:
        path: a single-channel picture of 8 or 16 bits, or one with a palette, whose places count.
        what: it should be, for messages.

    Returns:
        The numbers, upright, and None or the colours uint8 ``[N, 3]`` (R, G, B) of the palette.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, of another kind, or holds numbers above 255.
    """
    file = _read(path)
    palette = None
    try:
        with PIL.Image.open(io.BytesIO(file.data)) as picture:
            mode = "JPEG" if file.data.startswith(JPEG_SIGNATURE) else picture.mode
            if mode not in ("L", "P", "I", "I;16", "I;16B"):
                raise ValueError(
                    f"{path}: expected {what}, single-channel and lossless, got a picture of mode "
                    f"{mode!r}; save it as a grey PNG whose values are the numbers"
                )
            ids = np.array(picture)
            if mode == "P":
                palette = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no readable image ({error}); {_REMEDY}") from None
    if ids.min() < 0 or ids.max() > 255:
        raise ValueError(
            f"{path}: expected {what} with numbers from 0 to 255, got {ids.min()} to {ids.max()}; "
            "save it with the numbers themselves"
        )
    return _upright(ids.astype(np.uint8, copy=False), file.orientation), palette


def read_label_map(path: str) -> Image:
    """Returns a label map as uint8 ``[H, W]``: 0 background, i the visible pixels of object i.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`read_ids`.
    """
    return read_ids(path, "an object map")[0]


def read_picture_size(path: str) -> tuple[int, int]:
    """Returns (height, width) of the upright picture from its header, after a look at its end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated or no image.
    """
    file = _read(path)
    if not file.height * file.width:
        raise ValueError(f"{path} is no readable image ({len(file.data)} bytes); {_REMEDY}")
    size = (file.height, file.width)
    return size[::-1] if file.orientation > 4 else size


def check_same_size(path: str, size: tuple[int, int], expected: tuple[int, int], of: str) -> None:
    """Raises ValueError unless a picture has the (height, width) that something else has."""
    if size != expected:
        turned = ""
        if size == expected[::-1]:
            turned = " (pictures are read upright, turned as their EXIF orientation says)"
        raise ValueError(
            f"{path} is {size[1]} x {size[0]} pixels, but {of} is {expected[1]} x {expected[0]}"
            f"{turned}; all frames and masks of a clip must have one size"
        )


class _File(NamedTuple):
    """A picture's bytes, its stored size (zeros where only a decoder can tell) and orientation."""

    data: bytes
    height: int
    width: int
    orientation: int


def _read(path: str) -> _File:
    """The file that every reader of pictures starts from.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no plain file (a device never ends), empty, truncated, or of more than
            :data:`MOST_PIXELS`.
    """
    with _open(path) as file:
        data = file.read()
    if not data:
        raise ValueError(f"{path} is empty (0 bytes); {_REMEDY}")
    height, width = _promised_size(data)
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{path} is {width} x {height} pixels, more than the {MOST_PIXELS} that are read; "
            "scale it down"
        )
    # OpenCV returns the upper part of a truncated JPEG, and some versions that of others.
    if not has_end(data):
        raise ValueError(f"{path} is truncated ({len(data)} bytes); {_REMEDY}")
    orientation = _orientation(data)
    if orientation > 1 and data.startswith(_TIFF_SIGNATURES):
        # Decoders disagree about these.
        raise ValueError(f"{path} is a TIFF that says it is turned; save it upright, as PNG")
    return _File(data, height, width, orientation)


def _open(path: str) -> BinaryIO:
    """The file, opened; a pipe or a device, to which a link may lead, would never end."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise ValueError(f"{path} is no plain file; {_REMEDY}")
        return open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"no {path}; {_REMEDY}") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read as a picture ({error.strerror}); {_REMEDY}") from None


def _promised_size(data: bytes) -> tuple[int, int]:
    """(height, width) as stored, by a picture's header; zeros where a decoder must tell."""
    try:
        if data.startswith(PNG_SIGNATURE):
            width, height = struct.unpack(">II", data[16:24])
            return height, width
        with PIL.Image.open(io.BytesIO(data)) as picture:
            return picture.height, picture.width
    except PIL.Image.DecompressionBombError:
        return (MOST_PIXELS, 2)
    except Exception:  # its readers of headers raise nearly anything
        return (0, 0)


def _orientation(data: bytes) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 is upright."""
    if not data.startswith(_TIFF_SIGNATURES) and not any(
        sign in data for sign in _SIGNS_OF_ORIENTATION
    ):
        return 1
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # its readers of headers raise nearly anything
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(pixels: Image, orientation: int) -> Image:
    """A stored picture ``[H, W, ...]`` turned and mirrored as an EXIF orientation says."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode(path: str, flags: int) -> Image:
    file = _read(path)
    try:
        encoded = np.frombuffer(file.data, np.uint8)
        # Versions of OpenCV differ in which formats they turn.
        pixels = cv2.imdecode(encoded, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # a header that promises an absurd size
        pixels = None
    if pixels is None:
        raise ValueError(f"{path} is no readable image ({len(file.data)} bytes); {_REMEDY}")
    # What is missing becomes grey down to the last pixel; so few pictures are looked at again.
    corner = pixels[-1, -1]
    is_jpeg = file.data.startswith(JPEG_SIGNATURE)
    if is_jpeg and corner.min() == corner.max() > 0 and ends_early(file.data):
        raise ValueError(
            f"{path} is truncated ({len(file.data)} bytes, with an end before its last row); "
            f"{_REMEDY}"
        )
    if flags == cv2.IMREAD_UNCHANGED and pixels.ndim == 2:
        before_pixels, _, _ = file.data.partition(b"IDAT")
        if before_pixels.startswith(PNG_SIGNATURE) and b"tRNS" in before_pixels:
            raise ValueError(
                f"{path}: one of its greys is marked as transparent; save it without transparency"
            )
    return _upright(pixels, file.orientation)
