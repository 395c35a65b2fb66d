"""Cut-outs: cleaning, resizing, colour changes and pasting, always with premultiplied alpha.

Resizing plain RGBA mixes the hidden colour of transparent pixels into the edge; premultiplied
colours do not have that halo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

MASK_ALPHA = 128
"""A pixel belongs to the object when its alpha, 0 to 255, is at least this."""

_EDGE_PIXELS = 2
_BACKGROUND_SHORT_SIDE = 448


@dataclass(frozen=True)
class Picture:
    """An object cut out of a photograph.

    Attributes:
        reference: name of the file, see `catalogue`.
        rgba: uint8 [height, width, 4], straight alpha, cropped to the object.
        may_mirror: False if the object looks wrong mirrored.
    """

    reference: str
    rgba: np.ndarray
    may_mirror: bool

    @property
    def name(self) -> str:
        """File name without folder and suffix, such as ``"cow_white"``."""
        return self.reference.rpartition("/")[2].rpartition(".")[0]

    @property
    def area(self) -> int:
        """Number of pixels that belong to the object."""
        return int((self.rgba[..., 3] >= MASK_ALPHA).sum())


@dataclass(frozen=True)
class Pose:
    """Where and how a sprite lies in one frame: centre in pixels, scale, clockwise angle."""

    center_x: float
    center_y: float
    scale: float
    angle_degrees: float


def cut_out(image: Image.Image, reference: str) -> np.ndarray:
    """Largest connected part of an image with alpha, cropped to it.

    Args:
        image: any mode that holds transparency (RGBA, LA, P); specks away from the object go.
        reference: name for the error message.

    Returns:
        uint8 [height, width, 4], straight alpha.

    Raises:
        ValueError: nothing in the image is opaque, or everything is.
    """
    rgba = np.array(image.convert("RGBA"))
    solid = rgba[..., 3] >= MASK_ALPHA
    if not solid.any() or solid.all():
        raise ValueError(f"{reference}: expected an object on a transparent ground")
    parts, _ = ndimage.label(solid, structure=np.ones((3, 3)))
    largest = parts == np.bincount(parts[solid]).argmax()
    # The soft edge around the part is kept, everything further away is not.
    near = ndimage.binary_dilation(largest, iterations=_EDGE_PIXELS)
    rgba[~near] = 0
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return np.ascontiguousarray(
        rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dtype=np.uint8
    )


def shrink_photograph(image: Image.Image) -> np.ndarray:
    """uint8 [height, width, 3] whose short side is at most twice the frame's."""
    rgb = image.convert("RGB")
    factor = min(1.0, _BACKGROUND_SHORT_SIDE / min(rgb.size))
    size = (round(rgb.width * factor), round(rgb.height * factor))
    return np.array(rgb.resize(size, Image.Resampling.LANCZOS))


def change_colors(rgba: np.ndarray, gains: np.ndarray, contrast: float) -> np.ndarray:
    """Colours times ``gains`` (float [3]), contrast around mid-grey times ``contrast``."""
    rgb = (rgba[..., :3].astype(np.float32) * gains - 128) * contrast + 128
    changed = rgba.copy()
    changed[..., :3] = np.clip(np.rint(rgb), 0, 255)
    return changed


def make_sprite(rgba: np.ndarray, scale: float, mirrored: bool) -> Image.Image:
    """Premultiplied image of a cut-out at its typical size, ready for `place_sprite`."""
    image = Image.fromarray(np.ascontiguousarray(rgba[:, ::-1]) if mirrored else rgba)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGBa").resize(size, Image.Resampling.BICUBIC)


def turned_half_size(
    sprite: Image.Image, scale: float, angle_degrees: float
) -> tuple[float, float]:
    """Half width and half height of the upright box around a turned sprite, in pixels."""
    cosine = abs(math.cos(math.radians(angle_degrees)))
    sine = abs(math.sin(math.radians(angle_degrees)))
    width, height = sprite.width * scale / 2, sprite.height * scale / 2
    return width * cosine + height * sine, width * sine + height * cosine


def place_sprite(sprite: Image.Image, pose: Pose, size: int) -> np.ndarray:
    """The sprite on an empty frame.

    Returns:
        uint8 [size, size, 4], premultiplied; zero outside the object.
    """
    half_width, half_height = turned_half_size(sprite, pose.scale, pose.angle_degrees)
    left = min(max(math.floor(pose.center_x - half_width) - 1, 0), size - 1)
    top = min(max(math.floor(pose.center_y - half_height) - 1, 0), size - 1)
    right = min(max(math.ceil(pose.center_x + half_width) + 1, left + 1), size)
    bottom = min(max(math.ceil(pose.center_y + half_height) + 1, top + 1), size)
    # Maps a pixel of that box to the sprite: move the centre to the origin, turn back, move to the
    # sprite's centre.
    center_x, center_y = pose.center_x - left, pose.center_y - top
    cosine = math.cos(math.radians(pose.angle_degrees)) / pose.scale
    sine = math.sin(math.radians(pose.angle_degrees)) / pose.scale
    matrix = (
        cosine,
        sine,
        sprite.width / 2 - cosine * center_x - sine * center_y,
        -sine,
        cosine,
        sprite.height / 2 + sine * center_x - cosine * center_y,
    )
    box = sprite.transform(
        (right - left, bottom - top), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    placed = np.zeros((size, size, 4), dtype=np.uint8)
    placed[top:bottom, left:right] = np.asarray(box)
    return placed


def paste(frame: np.ndarray, placed: np.ndarray) -> None:
    """Lay a placed sprite over ``frame`` (uint8 [height, width, 3]) in place."""
    rows = np.flatnonzero(placed[..., 3].any(axis=1))
    columns = np.flatnonzero(placed[..., 3].any(axis=0))
    if not rows.size:
        return
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    see_through = 255 - placed[box][..., 3:].astype(np.uint32)
    under = (frame[box] * see_through + 127) // 255
    frame[box] = np.minimum(under + placed[box][..., :3], 255).astype(np.uint8)
