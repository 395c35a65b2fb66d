"""Compose one clip and write its files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.casting import (
    CLIP_SECONDS,
    SPLITS,
    SUBSETS,
    Cast,
    DemoClass,
    category_of,
    draw_cast,
)
from transavs.data.demo.layout import ClipFiles, clip_files, clip_name
from transavs.data.demo.scene import render_scene
from transavs.data.demo.sounds import SAMPLE_RATE, Voice, mix, object_track

TEMPORARY_SUFFIX = ".tmp"

_PNG_LEVEL = 1
_JPEG_QUALITY = 92
_NOISE_SHARE = 0.5
_NOISE_DB = (-75.0, -62.0)
_GAIN_DB = (-6.0, 0.0)
_PAN = (0.35, 0.65)

# Every aspect of a clip is drawn from a generator of its own, so that nothing depends on the order
# of the work, and the contents are known without rendering.
_CAST, _SCENE, _SOUND = range(3)


def clip_generator(
    seed: int, subset: str, split: str, index: int, aspect: int
) -> np.random.Generator:
    """Generator of one aspect of one clip, independent of all others."""
    return np.random.default_rng([seed, SUBSETS.index(subset), SPLITS.index(split), index, aspect])


def files_of_clip(classes: Sequence[DemoClass], subset: str, split: str, index: int) -> ClipFiles:
    """Paths of clip ``index`` of a subset's split."""
    name = clip_name(subset, split, index)
    return clip_files(subset, split, name, category_of(classes, split, index))


def cast_of_clip(assets: DemoAssets, seed: int, subset: str, split: str, index: int) -> Cast:
    """Contents of clip ``index`` of a subset's split."""
    rng = clip_generator(seed, subset, split, index, _CAST)
    return draw_cast(assets, subset, split, index, rng)


def describe(cast: Cast, split: str) -> dict[str, Any]:
    """Entry of ``objects.json``; object ids count from 1 and are the values of the label maps."""
    return {
        "split": split,
        "background": cast.background.reference,
        "objects": [
            {
                "id": number,
                "class": actor.name,
                "picture": actor.picture.reference,
                "recording": None if actor.recording is None else actor.recording.reference,
                "sounding": list(actor.sounding),
            }
            for number, actor in enumerate(cast.actors, start=1)
        ],
    }


def sounding_masks(sounding: Sequence[Sequence[bool]], labels: np.ndarray) -> np.ndarray:
    """uint8 {0, 255} [T, H, W]: visible pixels of the objects that sound in each second.

    Args:
        sounding: by object, in the order of the ids, one flag a second.
        labels: uint8 [T, H, W], see `scene.Scene`.
    """
    values = np.zeros((len(labels), len(sounding) + 1), dtype=np.uint8)
    for number, flags in enumerate(sounding, start=1):
        values[:, number] = np.where(flags, 255, 0)
    return np.stack([lut[frame] for lut, frame in zip(values, labels, strict=True)])


def compose_sound(cast: Cast, rng: np.random.Generator) -> np.ndarray:
    """int16 [T * 16000, 2]: the mix of all objects that sound."""
    voices = []
    for actor in cast.actors:
        if actor.recording is not None:
            gain_db, pan = rng.uniform(*_GAIN_DB), rng.uniform(*_PAN)
            track = object_track(actor.recording, actor.sounding, rng)
            voices.append(Voice(track, gain_db, pan))
    noise_db = rng.uniform(*_NOISE_DB) if rng.random() < _NOISE_SHARE else None
    return mix(voices, CLIP_SECONDS, noise_db, int(rng.integers(2**32)))


def write_clip(
    assets: DemoAssets, root: Path, seed: int, subset: str, split: str, index: int
) -> None:
    """Compose clip ``index`` of a subset's split and write it below ``root``.

    Each file appears under its name only when it is complete.
    """
    files = files_of_clip(assets.classes, subset, split, index)
    cast = cast_of_clip(assets, seed, subset, split, index)
    scene = render_scene(
        [actor.picture for actor in cast.actors],
        cast.background,
        CLIP_SECONDS,
        clip_generator(seed, subset, split, index, _SCENE),
    )
    sound = compose_sound(cast, clip_generator(seed, subset, split, index, _SOUND))
    masks = sounding_masks([actor.sounding for actor in cast.actors], scene.labels)
    write_pictures(root, files.frames, scene.frames)
    write_pictures(root, files.masks, masks)  # fewer where only the first second is labelled
    write_pictures(root, files.object_masks, scene.labels)
    write_sound(root / files.audio, sound)


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` never exists half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    temporary.write_bytes(content)
    temporary.replace(path)


def write_pictures(root: Path, paths: Sequence[Path], images: np.ndarray) -> None:
    """Write the first of ``images`` (uint8 [T, H, W] or [T, H, W, 3]) below ``root``, one for each
    path, as PNG or JPEG by its suffix."""
    for path, image in zip(paths, images, strict=False):
        data = io.BytesIO()
        if path.suffix == ".png":
            Image.fromarray(image).save(data, "PNG", compress_level=_PNG_LEVEL)
        else:
            Image.fromarray(image).save(data, "JPEG", quality=_JPEG_QUALITY)
        write_file(root / path, data.getvalue())


def write_sound(path: Path, sound: np.ndarray) -> None:
    """Write 16-bit samples at 16 kHz, int16 [L] or [L, channels], as wav."""
    wav = io.BytesIO()
    soundfile.write(wav, sound, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    write_file(path, wav.getvalue())
