"""Augmentation of a clip: one random draw, applied alike to all of its frames and masks.

Drawing is apart from applying, so a clip cannot be transformed by two different draws: a
``ClipAugmentation`` draws a ``ClipTransform`` from an explicit generator, and the transform itself
holds no randomness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from transavs.utils.image_files import Image

# Weights of the channels R, G, B in the grey value (ITU-R BT.601, as in OpenCV and PIL).
_GREY_WEIGHTS = {"RGB": (0.299, 0.587, 0.114), "BGR": (0.114, 0.587, 0.299)}


@dataclass(frozen=True)
class ColorJitter:
    """Factors of brightness, contrast and saturation; 1 changes nothing."""

    brightness: float
    contrast: float
    saturation: float

    def apply(self, frames: Sequence[Image], image_format: str) -> list[Image]:
        """Returns jittered frames uint8 ``[H, W, 3]``.

        Brightness scales the values, contrast scales their distance from the mean grey value,
        saturation their distance from each pixel's own grey. The mean is that of the whole clip:
        equal colours stay equal in all frames. All three are affine in the colours, and so one
        3 x 4 matrix.
        """
        weights = np.array(_GREY_WEIGHTS[image_format])
        mean_color = np.mean([cv2.mean(frame)[:3] for frame in frames], axis=0)
        mean_grey = self.brightness * float(weights @ mean_color)
        saturate = self.saturation * np.eye(3) + (1 - self.saturation) * weights[None, :]
        matrix = np.empty((3, 4))
        matrix[:, :3] = self.contrast * self.brightness * saturate
        # Saturation leaves a grey as it is, hence the plain offset.
        matrix[:, 3] = (1 - self.contrast) * mean_grey
        return [cv2.transform(frame, matrix) for frame in frames]


@dataclass(frozen=True)
class ClipTransform:
    """One draw: what happens to every frame and mask of a clip.

    Applied in this order: colour (frames only), resize, crop or pad, flip.

    Attributes:
        size: (height, width) after the resize.
        window: (top, left, height, width) of the crop in the resized picture; top and left are
            negative, and the window reaches beyond the picture, where that is smaller. None keeps
            the resized picture.
        flip: mirror left and right.
        color: colour jitter, or None.
        pad_color: value of frame pixels outside of the picture, in the frames' channel order;
            masks hold 0 there.
        image_format: channel order of the frames, "RGB" or "BGR".
    """

    size: tuple[int, int]
    window: tuple[int, int, int, int] | None = None
    flip: bool = False
    color: ColorJitter | None = None
    pad_color: tuple[float, ...] = (0.0, 0.0, 0.0)
    image_format: str = "RGB"

    def apply_frames(self, frames: Sequence[Image]) -> list[Image]:
        """Returns the transformed frames, uint8 ``[H, W, 3]`` each.

        Resizing is bilinear, or by pixel area where the picture shrinks.
        """
        if self.color is not None:
            frames = self.color.apply(frames, self.image_format)
        shrinks = self.size[0] * self.size[1] < frames[0].shape[0] * frames[0].shape[1]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return [self._move(frame, interpolation, self.pad_color) for frame in frames]

    def apply_labels(self, labels: Image) -> Image:
        """Returns a transformed label map uint8 ``[H, W]``; no value appears that was not there."""
        # "Exact" samples at pixel centres, as the frames' resizing does; plain nearest is half a
        # pixel off.
        return self._move(labels, cv2.INTER_NEAREST_EXACT, (0.0,))

    def _move(self, picture: Image, interpolation: int, fill: Sequence[float]) -> Image:
        height, width = self.size
        if picture.shape[:2] != self.size:
            picture = cv2.resize(picture, (width, height), interpolation=interpolation)
        if self.window is not None:
            top, left, crop_height, crop_width = self.window
            bottom, right = top + crop_height, left + crop_width
            picture = picture[max(top, 0) : bottom, max(left, 0) : right]
            margins = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
            if any(margins):
                value = tuple(round(channel) for channel in fill)
                picture = cv2.copyMakeBorder(
                    picture, *margins, borderType=cv2.BORDER_CONSTANT, value=value
                )
        return cv2.flip(picture, 1) if self.flip else picture


@dataclass(frozen=True)
class ClipAugmentation:
    """The distribution that ``ClipTransform`` are drawn from.

    Attributes:
        min_sizes: sizes of the shortest edge, one of which is drawn; (0,) keeps the size.
        max_size: upper limit of the longest edge, which wins over ``min_sizes``; 0 for none.
        sample_range: draw an integer between the smallest and the largest of ``min_sizes``.
        crop_size: (height, width) of a random crop, or None. A smaller picture is placed at
            random in a canvas of that size.
        flip_probability: chance of a mirror image.
        color_strength: factors of brightness, contrast and saturation are drawn from
            [1 - strength, 1 + strength]; 0 is off.
        pad_color: see ``ClipTransform``.
        image_format: see ``ClipTransform``.
        stretch: (height, width) that pictures of any shape are resized to, in the place of
            ``min_sizes`` and ``max_size``; None keeps the aspect.
    """

    min_sizes: tuple[int, ...] = (0,)
    max_size: int = 0
    sample_range: bool = False
    crop_size: tuple[int, int] | None = None
    flip_probability: float = 0.0
    color_strength: float = 0.0
    pad_color: tuple[float, ...] = (0.0, 0.0, 0.0)
    image_format: str = "RGB"
    stretch: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.min_sizes or min(self.min_sizes) < 0:
            raise ValueError(f"expected sizes of the shortest edge >= 0, got {self.min_sizes}")
        if self.crop_size is not None and min(self.crop_size) < 1:
            raise ValueError(f"expected a crop (height, width) in pixels, got {self.crop_size}")
        if not 0.0 <= self.color_strength < 1.0:
            raise ValueError(f"expected a colour jitter in [0, 1), got {self.color_strength}")

    def draw(self, height: int, width: int, rng: np.random.Generator) -> ClipTransform:
        """Returns one random transform for clips of ``height`` x ``width`` pixels."""
        if self.sample_range:
            shortest = int(rng.integers(min(self.min_sizes), max(self.min_sizes) + 1))
        else:
            shortest = self.min_sizes[int(rng.integers(len(self.min_sizes)))]
        size = self.stretch or resized_shape(height, width, shortest, self.max_size)
        window = None
        if self.crop_size is not None:
            top, left = (
                _draw_offset(have, want, rng)
                for have, want in zip(size, self.crop_size, strict=True)
            )
            window = (top, left, *self.crop_size)
        flip = bool(rng.random() < self.flip_probability)
        color = None
        if self.color_strength:
            factors = rng.uniform(1 - self.color_strength, 1 + self.color_strength, size=3)
            color = ColorJitter(*(float(factor) for factor in factors))
        return ClipTransform(size, window, flip, color, self.pad_color, self.image_format)


def resized_shape(height: int, width: int, shortest: int, max_size: int = 0) -> tuple[int, int]:
    """Returns the (height, width) at which the shortest edge is ``shortest`` pixels.

    The aspect ratio is kept. If the longest edge would exceed ``max_size``, that edge gets
    ``max_size`` pixels and the shortest becomes smaller. 0 stands for "keep the size", and for "no
    limit".
    """
    scale = shortest / min(height, width) if shortest else 1.0
    if max_size:
        scale = min(scale, max_size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _draw_offset(have: int, want: int, rng: np.random.Generator) -> int:
    """Returns where a window of ``want`` pixels starts in ``have``; negative where it is larger."""
    slack = have - want
    return int(rng.integers(min(slack, 0), max(slack, 0) + 1))
