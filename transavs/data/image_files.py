"""Reads frames, masks and object maps, and refuses files that would train or score wrongly."""

from __future__ import annotations

import io
import os
import stat
import struct
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

# Pixels uint8 [H, W, 3] or [H, W]; OpenCV's stubs promise no more than "some numbers".
Image = NDArray[Any]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
# The end chunk takes 12 bytes; some writers leave a few more behind it.
_PNG_TAIL_BYTES = 64
_JPEG_SIGNATURE = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
# Cameras and editors leave a little behind it.
_JPEG_TAIL_BYTES = 1024
#: Of a picture: a small file can promise gigabytes of pixels. 8192 x 8192.
MOST_PIXELS = 1 << 26
_REMEDY = "restore the file from the data set's archive"


def read_frame(path: str, image_format: str = "BGR") -> Image:
    """Returns a picture as uint8 ``[H, W, 3]``.

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
    """Returns a binary mask as bool ``[H, W]``: True where the file's grey value exceeds 127.

    AVSBench stores 0 and 255. A mask whose largest value is 1..127 follows another convention
    (0/1, class ids, palette colours) and is refused, because a threshold would silently empty it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, or its values are not those of a binary mask.
    """
    grey = _decode(path, cv2.IMREAD_GRAYSCALE)
    largest = int(grey.max())
    if 1 <= largest <= 127:
        raise ValueError(
            f"{path}: a mask holds 0 (background) and 255 (sounding object), but the largest value "
            f"here is {largest}; if the values are 0 and {largest}, multiply them to 0 and 255"
        )
    return grey > 127


def read_label_map(path: str) -> Image:
    """Returns a label map as uint8 ``[H, W]``: 0 background, i the visible pixels of object i.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken or not an 8-bit single-channel image.
    """
    labels = _decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(
            f"{path}: an object map is an 8-bit single-channel PNG, got an array of shape "
            f"{labels.shape} and type {labels.dtype}"
        )
    return labels


def read_picture_size(path: str) -> tuple[int, int]:
    """Returns (height, width) of a PNG or JPEG from its header, after a look at its end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated or neither.
    """
    if path.lower().endswith(".png"):
        return read_png_size(path)
    with _open(path) as file:
        start = file.read(len(_PNG_SIGNATURE))
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _JPEG_TAIL_BYTES))
        tail = file.read()
    if start == _PNG_SIGNATURE:  # which training reads whatever it is called
        return read_png_size(path)
    if not start.startswith(_JPEG_SIGNATURE):
        raise ValueError(f"{path} is no JPEG ({length} bytes); {_REMEDY}")
    if _JPEG_END not in tail:
        raise ValueError(f"{path} is truncated ({length} bytes); {_REMEDY}")
    try:
        with PIL.Image.open(path) as picture:
            width, height = picture.size
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no readable image ({error}); {_REMEDY}") from None
    return height, width


def read_png_size(path: str) -> tuple[int, int]:
    """Returns (height, width) of a PNG from its header, after a look at both ends of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated or no PNG.
    """
    with _open(path) as file:
        header = file.read(24)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _PNG_TAIL_BYTES))
        tail = file.read()
    if len(header) < 24 or not header.startswith(_PNG_SIGNATURE):
        raise ValueError(f"{path} is no PNG ({length} bytes); {_REMEDY}")
    if _PNG_END not in tail:
        raise ValueError(f"{path} is truncated ({length} bytes); {_REMEDY}")
    # Signature, then the first chunk: 4 bytes of length, "IHDR", width, height.
    width, height = struct.unpack(">II", header[16:24])
    return height, width


def check_same_size(path: str, size: tuple[int, int], expected: tuple[int, int], of: str) -> None:
    """Raises ValueError unless a picture has the (height, width) that something else has."""
    if size != expected:
        raise ValueError(
            f"{path} is {size[1]} x {size[0]} pixels, but {of} is {expected[1]} x {expected[0]}; "
            "all frames and masks of a clip must have one size"
        )


def read_whole_file(path: str) -> bytes:
    """Returns the bytes of a picture's file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no plain file (a device never ends), empty, a PNG or JPEG without its end, or of
            more than :data:`MOST_PIXELS`.
    """
    with _open(path) as file:
        data = file.read()
    # OpenCV returns the upper half of a truncated JPEG, and some versions that of a truncated PNG,
    # hence the look at the end.
    truncated = (data.startswith(_PNG_SIGNATURE) and _PNG_END not in data[-_PNG_TAIL_BYTES:]) or (
        data.startswith(_JPEG_SIGNATURE) and _JPEG_END not in data[-_JPEG_TAIL_BYTES:]
    )
    if not data or truncated:
        state = "truncated" if truncated else "empty"
        raise ValueError(f"{path} is {state} ({len(data)} bytes); {_REMEDY}")
    width, height = _promised_size(data)
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{path} is {width} x {height} pixels, more than the {MOST_PIXELS} that are read; "
            "scale it down"
        )
    return data


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
    """(width, height) by a picture's header; zeros where a decoder must tell what it is."""
    if data.startswith(_PNG_SIGNATURE):
        return struct.unpack(">II", data[16:24]) if len(data) >= 24 else (0, 0)
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except PIL.Image.DecompressionBombError:
        return (MOST_PIXELS, 2)
    except Exception:  # its readers of headers raise nearly anything
        return (0, 0)


def _decode(path: str, flags: int) -> Image:
    data = read_whole_file(path)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # a header that promises an absurd size
        pixels = None
    if pixels is None:
        raise ValueError(f"{path} is no readable image ({len(data)} bytes); {_REMEDY}")
    return pixels
