"""Frames and label maps of one clip: objects that drift and sway in front of a photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from transavs.data.demo.assets import Background
from transavs.data.demo.pictures import (
    MASK_ALPHA,
    Picture,
    Pose,
    change_colors,
    make_sprite,
    paste,
    place_sprite,
    turned_half_size,
)

FRAME_SIZE = 224
"""Pixels, width and height, that of the official archives."""

_AREA_SHARES = (0.05, 0.17)
_CROWDED_AREA_SHARES = (0.05, 0.11)  # four objects and more
_MOST_ENLARGEMENT = 1.2
_LONGEST_SIDE_SHARE = 0.8
_DRIFT_SHARE = 0.12
_TILT_DEGREES = 8.0
_SWAY_DEGREES = 5.0
_PULSE = 0.05
_LEAST_VISIBLE = 0.75
_ATTEMPTS = 12
_CANDIDATES = 40
_SHRINK = 0.94


@dataclass(frozen=True)
class Scene:
    """A rendered clip.

    Attributes:
        frames: uint8 [T, 224, 224, 3], RGB.
        labels: uint8 [T, 224, 224], 0 = background, i = visible pixels of object i (1-based).
    """

    frames: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class _Motion:
    """Path of one object but for its place: everything that layout attempts share."""

    sprite: Image.Image
    area: float  # pixels of the object in the sprite
    drift: np.ndarray  # float [2], pixels from the first to the last frame
    scales: np.ndarray  # float [T]
    angles: np.ndarray  # float [T], degrees


def render_scene(
    pictures: Sequence[Picture], background: Background, seconds: int, rng: np.random.Generator
) -> Scene:
    """Lay out, move and paste objects; those later in the list lie in front.

    Args:
        pictures: cut-outs of the objects, by object id.
        background: what lies behind them.
        seconds: number of frames, T.
        rng: draws everything else.
    """
    frames = _move_background(background, seconds, rng)
    motions = [_draw_motion(picture, len(pictures), seconds, rng) for picture in pictures]
    placed = _lay_out(motions, seconds, rng)
    labels = np.zeros((seconds, FRAME_SIZE, FRAME_SIZE), dtype=np.uint8)
    for number, sprites in enumerate(placed, start=1):
        for second, sprite in enumerate(sprites):
            paste(frames[second], sprite)
            labels[second][sprite[..., 3] >= MASK_ALPHA] = number
    return Scene(frames, labels)


def _move_background(background: Background, seconds: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [T, 224, 224, 3]: a square crop that pans slowly, maybe mirrored, lighter or darker."""
    image = Image.fromarray(background.rgb)
    side = min(image.size) * rng.uniform(0.55, 0.95)
    room = np.array(image.size) - side
    start = rng.uniform(0, 1, 2) * room
    stop = np.clip(start + rng.uniform(-0.06, 0.06, 2) * side, 0, room)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    brightness = rng.uniform(0.7, 1.15)
    frames = np.empty((seconds, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    for second, progress in enumerate(np.linspace(0, 1, seconds)):
        left, top = start + (stop - start) * progress
        crop = image.resize(
            (FRAME_SIZE, FRAME_SIZE),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
        frames[second] = np.clip(np.asarray(crop) * brightness + 0.5, 0, 255)
    return frames


def _draw_motion(picture: Picture, count: int, seconds: int, rng: np.random.Generator) -> _Motion:
    share = rng.uniform(*(_AREA_SHARES if count < 4 else _CROWDED_AREA_SHARES))
    scale = math.sqrt(share * FRAME_SIZE**2 / picture.area)
    longest = _LONGEST_SIDE_SHARE * FRAME_SIZE / max(picture.rgba.shape[:2])
    scale = min(scale, _MOST_ENLARGEMENT, longest)
    rgba = change_colors(
        picture.rgba,
        rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3),
        rng.uniform(0.9, 1.1),
    )
    mirrored = bool(rng.random() < 0.5) and picture.may_mirror
    direction, length = rng.uniform(0, 2 * math.pi), rng.uniform(0, _DRIFT_SHARE) * FRAME_SIZE
    phase = rng.uniform(0, 2 * math.pi) + np.arange(seconds) * rng.uniform(0.6, 1.6)
    return _Motion(
        make_sprite(rgba, scale, mirrored),
        picture.area * scale**2,
        length * np.array([math.cos(direction), math.sin(direction)]),
        1 + rng.uniform(0, _PULSE) * np.sin(phase),
        rng.uniform(-_TILT_DEGREES, _TILT_DEGREES) + rng.uniform(0, _SWAY_DEGREES) * np.cos(phase),
    )


def _lay_out(
    motions: Sequence[_Motion], seconds: int, rng: np.random.Generator
) -> list[list[np.ndarray]]:
    """Placed sprites, by object and second, of the layout in which the objects hide least.

    Layouts are drawn until every object shows three quarters of itself in every frame; from
    attempt to attempt the objects shrink a little.
    """
    best: list[list[np.ndarray]] = []
    best_visible = -1.0
    shrink = 1.0
    for _ in range(_ATTEMPTS):
        poses = _draw_poses(motions, shrink, seconds, rng)
        placed = [
            [place_sprite(motion.sprite, pose, FRAME_SIZE) for pose in path]
            for motion, path in zip(motions, poses, strict=True)
        ]
        visible = _least_visible(placed, [motion.area * shrink**2 for motion in motions])
        if visible > best_visible:
            best, best_visible = placed, visible
        if visible >= _LEAST_VISIBLE:
            break
        shrink *= _SHRINK
    return best


def _draw_poses(
    motions: Sequence[_Motion], shrink: float, seconds: int, rng: np.random.Generator
) -> list[list[Pose]]:
    """Poses by object and second: of many random layouts, the one whose boxes overlap least."""
    progress = np.linspace(-0.5, 0.5, seconds)
    # [objects, T, 2] half width and half height, and way from the middle of the path.
    half = np.array(
        [
            [
                turned_half_size(motion.sprite, shrink * scale, angle)
                for scale, angle in zip(motion.scales, motion.angles, strict=True)
            ]
            for motion in motions
        ]
    )
    way = np.array([progress[:, None] * motion.drift for motion in motions])
    lowest = np.minimum((half - way).max(axis=1), FRAME_SIZE / 2)
    highest = np.maximum((FRAME_SIZE - half - way).min(axis=1), lowest)
    middles = rng.uniform(lowest, highest, (_CANDIDATES, *lowest.shape))
    centers = middles[:, :, None, :] + way  # [candidates, objects, T, 2]
    distance = np.abs(centers[:, :, None] - centers[:, None, :])
    overlap = np.clip(half[:, None] + half[None, :] - distance, 0, None).prod(axis=-1)
    smaller = np.minimum(half[:, None].prod(axis=-1), half[None, :].prod(axis=-1))
    hidden = overlap / (4 * smaller)
    hidden[:, np.arange(len(motions)), np.arange(len(motions))] = 0
    chosen = centers[hidden.max(axis=(1, 2, 3), initial=0).argmin()]
    return [
        [
            Pose(float(x), float(y), float(shrink * scale), float(angle))
            for (x, y), scale, angle in zip(path, motion.scales, motion.angles, strict=True)
        ]
        for path, motion in zip(chosen, motions, strict=True)
    ]


def _least_visible(placed: list[list[np.ndarray]], areas: list[float]) -> float:
    """Smallest share of an object's whole area that is seen in a frame."""
    least = 1.0
    for second in range(len(placed[0])):
        covered = np.zeros((FRAME_SIZE, FRAME_SIZE), dtype=bool)
        for sprites, area in zip(reversed(placed), reversed(areas), strict=True):
            solid = sprites[second][..., 3] >= MASK_ALPHA
            least = min(least, float((solid & ~covered).sum()) / area)
            covered |= solid
    return least
