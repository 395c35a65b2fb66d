"""Frames, object maps and sound of a planned clip."""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from PIL import Image
from pycocotools import mask as run_lengths
from scipy import ndimage

from transavs.data.demo.casting import CLIP_SECONDS
from transavs.data.demo.pictures import (
    MASK_ALPHA,
    Pose,
    change_colors,
    make_sprite,
    paste,
    place_sprite,
)
from transavs.data.demo.scene import Scene
from transavs.data.demo.sounds import (
    SAMPLE_RATE,
    Recording,
    Voice,
    mix,
    object_track,
    prepare_recording,
    vary_recording,
)
from transavs.synthetic.plan import Plan, Thing
from transavs.synthetic.plan import Voice as PlannedVoice
from transavs.synthetic.sources import Instance, Photo

logger = logging.getLogger(__name__)

_CANVAS = 1.6  # longest side of the photograph, relative to that of the frames
_CROPS = 10
_CROP_SHARES = (0.5, 1.0)
_ASPECT = 1.3
_PAN = 0.06
_ZOOM = 0.12
_WELL_SHOWN = (0.75, 0.015)  # of the leader's pixels, and of the frame's
_ALONE_SHARES = (0.04, 0.4)
_AMID_SHARES = (0.02, 0.16)
_MOST_ENLARGEMENT = 1.6
_SWAY_DEGREES = 5.0
_TILT_DEGREES = 12.0
_DRIFT = 0.05
_VARIED_SHARE = 0.6
_LONGEST_SECONDS = 12


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def render_pictures(plan: Plan, size: int, rng: np.random.Generator) -> Scene:
    """Returns the frames of a clip, and which pixels each thing covers.

    A crop moves slowly over the photograph, grows or shrinks a little, and is lighter or darker. Of
    several crops the first that shows the leader well is taken, or else the best.

    Args:
        plan: contents; the ids of the object map count its things from 1.
        size: longest side of the frames, in pixels.
        rng: draws everything else.
    """
    canvas, labels = _read_canvas(plan, round(size * _CANVAS))
    frames, maps = _paste_things(plan, canvas, labels, rng)
    boxes = _choose_path(plan, maps[0], rng)
    left, top, right, bottom = boxes[0]
    factor = size / max(right - left, bottom - top)
    shape = (max(16, round((right - left) * factor)), max(16, round((bottom - top) * factor)))
    light = rng.uniform(0.7, 1.2) * np.linspace(1, rng.uniform(0.9, 1.1), CLIP_SECONDS)
    mirrored = rng.random() < 0.5
    pictures, objects = [], []
    for second, box in enumerate(boxes):
        crop = Image.fromarray(frames[second]).resize(shape, Image.Resampling.BILINEAR, box=box)
        picture = np.clip(np.asarray(crop) * light[second] + 0.5, 0, 255).astype(np.uint8)
        found = Image.fromarray(maps[second]).resize(shape, Image.Resampling.NEAREST, box=box)
        step = -1 if mirrored else 1
        pictures.append(picture[:, ::step])
        objects.append(np.asarray(found)[:, ::step])
    return Scene(np.stack(pictures), np.stack(objects))


def read_instance(photo: Photo, instance: Instance) -> np.ndarray:
    """Returns the pixels of an annotated object, bool ``[photo.height, photo.width]``."""
    form = instance.segmentation
    if isinstance(form, list):
        runs = run_lengths.merge(run_lengths.frPyObjects(form, photo.height, photo.width))
    elif isinstance(form["counts"], list):
        runs = run_lengths.frPyObjects(form, photo.height, photo.width)
    else:
        runs = form
    return run_lengths.decode(runs).astype(bool)


def _read_photo(photo: Photo) -> Image.Image:
    with Image.open(photo.path) as image:
        return image.convert("RGB").resize((photo.width, photo.height))


def _read_canvas(plan: Plan, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The photograph, no larger than needed, and the map of its annotated things."""
    photo = plan.photo
    labels = np.zeros((photo.height, photo.width), dtype=np.uint8)
    for number, thing in enumerate(plan.things, start=1):
        if thing.instance is not None:  # the largest come first, and stay below the others
            labels[read_instance(photo, thing.instance)] = number
    factor = longest / max(photo.width, photo.height)
    shape = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
    canvas = _read_photo(photo).resize(shape, Image.Resampling.BILINEAR)
    small = Image.fromarray(labels).resize(shape, Image.Resampling.NEAREST)
    return np.array(canvas), np.array(small)


def _paste_things(
    plan: Plan, canvas: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The canvas and its object map in each second, with all cut-outs in their places."""
    frames = [canvas.copy() for _ in range(CLIP_SECONDS)]
    maps = [labels.copy() for _ in range(CLIP_SECONDS)]
    height, width = labels.shape
    crowded = len(plan.things) > 1
    for number, thing in enumerate(plan.things, start=1):
        if thing.cutout is None:
            continue
        rgba = _read_cutout(thing)
        gains = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)
        rgba = change_colors(rgba, gains, rng.uniform(0.9, 1.1))
        scale, x, y = _draw_place(thing, rgba, width, height, crowded, rng)
        sprite = make_sprite(rgba, scale, bool(rng.random() < 0.5))
        drift = rng.uniform(-_DRIFT, _DRIFT, 2) * max(width, height)
        tilt, sway = rng.uniform(-_TILT_DEGREES, _TILT_DEGREES), rng.uniform(0, _SWAY_DEGREES)
        for second in range(CLIP_SECONDS):
            part = second / (CLIP_SECONDS - 1) - 0.5
            pose = Pose(x + drift[0] * part, y + drift[1] * part, 1.0, tilt + 2 * sway * part)
            placed = place_sprite(sprite, pose, max(width, height))[:height, :width]
            paste(frames[second], placed)
            # Strings and handles belong to what they hold, and so does what is seen between them.
            maps[second][ndimage.binary_fill_holes(placed[..., 3] >= MASK_ALPHA)] = number
    return frames, maps


def _read_cutout(thing: Thing) -> np.ndarray:
    """uint8 ``[height, width, 4]``, straight alpha, cropped to the object."""
    if isinstance(thing.cutout, tuple):
        photo, instance = thing.cutout
        solid = read_instance(photo, instance)
        alpha = ndimage.gaussian_filter(solid.astype(np.float32), 0.7) * 255
        rgba = np.dstack([np.asarray(_read_photo(photo)), np.rint(alpha).astype(np.uint8)])
    else:
        assert thing.cutout is not None
        with Image.open(thing.cutout) as image:
            rgba = np.array(image.convert("RGBA"))
    solid = rgba[..., 3] >= MASK_ALPHA
    if not solid.any():
        raise ValueError(f"{thing.cutout}: expected an object on a transparent ground, it is empty")
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    return np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _draw_place(
    thing: Thing,
    rgba: np.ndarray,
    width: int,
    height: int,
    crowded: bool,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Scale of a cut-out and the place of its middle on the canvas, in pixels."""
    longest = max(rgba.shape[:2])
    if thing.over is not None:
        left, top, wide, high = thing.over.box
        reach = min(high * height, 1.6 * wide * width)
        scale = min(rng.uniform(0.45, 1.2) * reach / longest, 2 * _MOST_ENLARGEMENT)
        x = (left + wide * rng.uniform(0.3, 0.7)) * width
        return scale, x, (top + high * rng.uniform(0.45, 0.75)) * height
    low, high = np.log(_AMID_SHARES if crowded else _ALONE_SHARES)
    share = math.exp(rng.uniform(low, high))
    area = int((rgba[..., 3] >= MASK_ALPHA).sum())
    scale = math.sqrt(share * width * height / area)
    scale = min(scale, _MOST_ENLARGEMENT, 0.9 * width / rgba.shape[1], 0.9 * height / rgba.shape[0])
    half_width, half_height = rgba.shape[1] * scale / 2, rgba.shape[0] * scale / 2
    x = rng.uniform(half_width, width - half_width)
    # Things stand on something more often than they fly.
    y = half_height + (height - 2 * half_height) * rng.beta(2, 1.3)
    return scale, x, y


def _choose_path(plan: Plan, labels: np.ndarray, rng: np.random.Generator) -> list[Box]:
    """The crop in each second."""
    height, width = labels.shape
    ids = [i for i, thing in enumerate(plan.things, start=1) if thing.name == plan.leader]
    shown = np.isin(labels, ids)
    best, best_score = [Box(0.0, 0.0, float(width), float(height))] * CLIP_SECONDS, -1.0
    aspect = min(max(width / height * _ASPECT ** rng.uniform(-1, 1), 0.6), 1.9)
    wide = min(width, height * aspect)
    for _ in range(_CROPS):
        share = rng.uniform(*_CROP_SHARES)
        shares = share * np.linspace(1, 1 + rng.uniform(-_ZOOM, _ZOOM), CLIP_SECONDS)
        sides = np.minimum(shares, 1.0)[:, None] * np.array([wide, wide / aspect])
        room = np.maximum(np.array([width, height]) - sides, 0)  # may be -1e-14
        way = rng.uniform(-_PAN, _PAN, 2) * np.linspace(0, 1, CLIP_SECONDS)[:, None]
        starts = np.clip(rng.uniform(0, 1, 2) + way, 0, 1) * room
        path = [Box(*map(float, box)) for box in np.hstack([starts, starts + sides])]
        if not shown.any():
            return path
        left, top, right, bottom = map(round, path[0])
        inside = shown[top:bottom, left:right]
        kept, large = inside.sum() / shown.sum(), inside.mean()
        if kept >= _WELL_SHOWN[0] and large >= _WELL_SHOWN[1]:
            return path
        if kept * min(1.0, large / _WELL_SHOWN[1]) > best_score:
            best, best_score = path, kept * min(1.0, large / _WELL_SHOWN[1])
    return best


def render_sound(plan: Plan, varied: bool, rng: np.random.Generator) -> np.ndarray:
    """Returns the sound of a clip, int16 ``[seconds * 16000]``.

    Args:
        plan: contents.
        varied: whether recordings may be changed in speed, colour and room.
        rng: draws everything else.
    """
    voices = []
    for voice in plan.voices:
        recording = _read_voice(voice)
        if recording is None:
            continue
        if varied and rng.random() < _VARIED_SHARE:
            recording = vary_recording(recording, rng)
        track = object_track(recording, voice.sounding, rng)
        voices.append(Voice(track, voice.gain_db + plan.gain_db, 0.5))
    noise_db = plan.noise_db
    if noise_db is not None and rng.random() < 0.5:
        voices.append(Voice(_pink_noise(rng), noise_db + 6, 0.5))
        noise_db = None
    return mix(voices, CLIP_SECONDS, noise_db, int(rng.integers(2**32)))[:, 0]


def _pink_noise(rng: np.random.Generator) -> np.ndarray:
    """float32 ``[seconds * 16000]`` of unit power."""
    length = CLIP_SECONDS * SAMPLE_RATE
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, length)
    return (noise / noise.std()).astype(np.float32)


def _read_voice(voice: PlannedVoice) -> Recording | None:
    """The first of a voice's recordings that can be heard; None if there is none."""
    for path in voice.options:
        try:
            return _read_recording(path)
        except (ValueError, soundfile.LibsndfileError) as error:
            logger.warning("%s is passed over: %s", path, error)
    return None


@lru_cache(maxsize=512)
def _read_recording(path: Path) -> Recording:
    with soundfile.SoundFile(path) as file:
        samples = file.read(_LONGEST_SECONDS * file.samplerate, dtype="float32", always_2d=True)
        return prepare_recording(str(path), samples.mean(axis=1), file.samplerate)
