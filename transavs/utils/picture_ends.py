"""Tells whether the bytes of a picture are all there: decoders fill up what is missing."""

from __future__ import annotations

import io

import PIL.Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
JPEG_SIGNATURE = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
# Cameras and editors leave a little behind it; where they leave more, the picture is decoded.
_JPEG_TAIL_BYTES = 1024
# A decoder looks so far ahead; zeros hold it up less than a marker that ends the picture would.
_LOOK_AHEAD = bytes(16)
# Formats of which Pillow tells whether they are whole; it would start programs for others.
_CHECKED_FORMATS = ("JPEG", "BMP", "WEBP", "TIFF")


def has_end(data: bytes) -> bool:
    """Whether a picture has its end; True as well of what is no picture."""
    if data.startswith(PNG_SIGNATURE):
        # Some writers leave bytes behind it.
        return data.rfind(_PNG_END) >= 0
    is_jpeg = data.startswith(JPEG_SIGNATURE)
    if is_jpeg and _JPEG_END in data[-_JPEG_TAIL_BYTES:]:
        return True
    try:
        with PIL.Image.open(io.BytesIO(data), formats=_CHECKED_FORMATS) as picture:
            picture.load()
    except PIL.UnidentifiedImageError:
        return not is_jpeg
    except Exception:  # its readers raise nearly anything
        return False
    return True


class _EndLater(io.BytesIO):
    """A JPEG whose end marker comes when a decoder has worked off all the rest.

    Attributes:
        picture: that reads from here.
        corner: its last pixel before the end marker was read; None until then.
    """

    picture: PIL.Image.Image | None = None
    corner: object = None

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if not found and self.picture is not None and self.corner is None:
            self.corner = _corner(self.picture)
            return _JPEG_END
        return found


def _corner(picture: PIL.Image.Image) -> object:
    return picture.im.getpixel((picture.width - 1, picture.height - 1))


def ends_early(data: bytes) -> bool:
    """Whether the end marker of a JPEG comes before its last row.

    libjpeg fills up the rows that are missing with grey, without an error. Until it sees the end
    marker it waits for more bytes, so that the marker itself brings about the last pixel. Of
    progressive JPEGs this tells nothing: they are decoded after their end alone.
    """
    file = _EndLater(data[: data.rfind(_JPEG_END)] + _LOOK_AHEAD)
    try:
        with PIL.Image.open(file, formats=("JPEG",)) as picture:
            file.picture = picture
            picture.load()
            is_progressive = "progressive" in picture.info
            return file.corner not in (None, _corner(picture)) and not is_progressive
    except Exception:  # its readers raise nearly anything
        return False
