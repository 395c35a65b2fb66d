"""The drawn assets: shapes with a timbre each, computed, for tests and machines without packages.

They go through the same composer as the photographs and recordings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import signal

from transavs.data.demo.assets import Background, ClassAssets, DemoAssets
from transavs.data.demo.pictures import Picture
from transavs.data.demo.sounds import SAMPLE_RATE, Recording, prepare_recording

_PICTURE_SIZE = 160
_SMOOTHING = 4  # drawn this many times larger, then reduced
_BACKGROUND_SIZE = 288
_BACKGROUND_COUNT = 10
_HELD_OUT_BACKGROUNDS = 2
_RECORDING_SECONDS = (1.2, 1.8, 1.5)  # two recordings for training, the last is held out

_Points = list[tuple[float, float]]


def _regular(corners: int, start_turn: float = -0.25) -> _Points:
    turns = start_turn + np.arange(corners) / corners
    return [(float(np.cos(2 * np.pi * t)), float(np.sin(2 * np.pi * t))) for t in turns]


def _star(points: int, inner: float) -> _Points:
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return [(r * x, r * y) for r, (x, y) in zip(radii, _regular(2 * points), strict=True)]


def _bar(width: float, height: float) -> _Points:
    return [(-width, -height), (width, -height), (width, height), (-width, height)]


_PLUS: _Points = [
    *[(-0.3, -1.0), (0.3, -1.0), (0.3, -0.3), (1.0, -0.3), (1.0, 0.3), (0.3, 0.3)],
    *[(0.3, 1.0), (-0.3, 1.0), (-0.3, 0.3), (-1.0, 0.3), (-1.0, -0.3), (-0.3, -0.3)],
]
_ARROW: _Points = [(-1, -0.35), (0.1, -0.35), (0.1, -0.9), (1, 0), (0.1, 0.9), (0.1, 0.35)]
_ARROW.append((-1, 0.35))


def _harmonic(time: np.ndarray, pitch: float) -> np.ndarray:
    overtones = np.arange(1, 6)[:, None]
    return (np.sin(2 * np.pi * pitch * overtones * time) / overtones).sum(axis=0)


def _frequency_modulated(time: np.ndarray, pitch: float) -> np.ndarray:
    return np.sin(2 * np.pi * 2 * pitch * time + 6 * np.sin(2 * np.pi * 1.41 * pitch * time))


def _pulses(time: np.ndarray, pitch: float) -> np.ndarray:
    phase = (pitch / 25 * time) % 1
    return np.exp(-60 * phase) * np.sin(2 * np.pi * 8 * pitch * time)


def _chirps(time: np.ndarray, pitch: float) -> np.ndarray:
    phase = (4 * time) % 1
    return np.sin(2 * np.pi * 4 * pitch * time + 2 * np.pi * pitch * phase**2)


def _low_noise(time: np.ndarray, pitch: float) -> np.ndarray:
    return _noise_band(time, pitch, 1.6 * pitch)


def _high_noise(time: np.ndarray, pitch: float) -> np.ndarray:
    return _noise_band(time, 16 * pitch, 24 * pitch)


def _tremolo(time: np.ndarray, pitch: float) -> np.ndarray:
    return (1 + np.sin(2 * np.pi * 11 * time)) * np.sin(2 * np.pi * 6 * pitch * time)


def _plucks(time: np.ndarray, pitch: float) -> np.ndarray:
    return np.exp(-9 * ((3 * time) % 1)) * _harmonic(time, 1.5 * pitch)


def _noise_band(time: np.ndarray, low: float, high: float) -> np.ndarray:
    noise = np.random.default_rng(len(time)).standard_normal(len(time))
    band = signal.butter(4, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(band, noise)


_Timbre = Callable[[np.ndarray, float], np.ndarray]

# Class name, outline in [-1, 1] (x to the right, y down), colour, timbre.
_CLASSES: tuple[tuple[str, _Points, tuple[int, int, int], _Timbre], ...] = (
    ("disc", _regular(60), (220, 60, 50), _harmonic),
    ("triangle", _regular(3), (240, 190, 40), _frequency_modulated),
    ("square", _bar(0.8, 0.8), (60, 120, 220), _pulses),
    ("star", _star(5, 0.45), (250, 240, 120), _chirps),
    ("plus", _PLUS, (60, 180, 90), _low_noise),
    ("beam", _bar(1.0, 0.35), (150, 80, 200), _high_noise),
    ("hexagon", _regular(6), (240, 130, 40), _tremolo),
    ("arrow", _ARROW, (60, 190, 200), _plucks),
)
_THINGS: tuple[tuple[str, _Points, tuple[int, int, int]], ...] = (
    ("burr", _star(12, 0.6), (120, 120, 120)),
    ("pillar", _bar(0.35, 1.0), (90, 70, 60)),
    ("diamond", _regular(4), (200, 200, 210)),
)


def make_drawn_assets() -> DemoAssets:
    """Eight classes of shapes with a timbre each, three silent shapes, ten textures.

    Always the same; nothing is read or drawn at random.
    """
    backgrounds = [_texture(number) for number in range(_BACKGROUND_COUNT)]
    return DemoAssets(
        source="drawn",
        classes=tuple(
            _draw_class(name, outline, color, timbre) for name, outline, color, timbre in _CLASSES
        ),
        silent=tuple(_draw_shape(name, outline, color, "a") for name, outline, color in _THINGS),
        backgrounds=tuple(backgrounds[:-_HELD_OUT_BACKGROUNDS]),
        held_out_backgrounds=tuple(backgrounds[-_HELD_OUT_BACKGROUNDS:]),
        origin=(),
    )


def _draw_class(
    name: str, outline: _Points, color: tuple[int, int, int], timbre: _Timbre
) -> ClassAssets:
    darker = (color[0] * 3 // 4, color[1] * 3 // 4, color[2] * 3 // 4)
    *training, held_out = (
        _record(name, timbre, number, seconds) for number, seconds in enumerate(_RECORDING_SECONDS)
    )
    return ClassAssets(
        name=name,
        category=f"{name}_sounding",
        group="shape",
        pictures=(
            _draw_shape(name, outline, color, "a"),
            _draw_shape(name, outline, darker, "b"),
        ),
        recordings=tuple(training),
        held_out=held_out,
    )


def _record(name: str, timbre: _Timbre, number: int, seconds: float) -> Recording:
    """The timbre at a pitch of its own: the held-out one lies between the others."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = (220.0, 262.0, 240.0)[number]
    samples = timbre(time, pitch).astype(np.float32)
    return prepare_recording(f"drawn:{name}_{number}.wav", samples, SAMPLE_RATE)


def _draw_shape(name: str, outline: _Points, color: tuple[int, int, int], variant: str) -> Picture:
    large = _PICTURE_SIZE * _SMOOTHING
    corners = [((x * 0.96 + 1) * large / 2, (y * 0.96 + 1) * large / 2) for x, y in outline]
    alpha = Image.new("L", (large, large))
    ImageDraw.Draw(alpha).polygon(corners, fill=255)
    alpha = alpha.resize((_PICTURE_SIZE, _PICTURE_SIZE), Image.Resampling.BOX)
    rgba = np.empty((_PICTURE_SIZE, _PICTURE_SIZE, 4), dtype=np.uint8)
    shade = np.linspace(1.1, 0.7, _PICTURE_SIZE)[:, None, None]
    rgba[..., :3] = np.clip(shade * color, 0, 255)
    rgba[..., 3] = np.asarray(alpha)
    rows, columns = np.flatnonzero(rgba[..., 3].any(1)), np.flatnonzero(rgba[..., 3].any(0))
    cropped = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Picture(f"drawn:{name}_{variant}.png", cropped, may_mirror=True)


def _texture(number: int) -> Background:
    """Soft coloured noise between two colours."""
    name = f"texture_{number}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
    size = (_BACKGROUND_SIZE, _BACKGROUND_SIZE)
    weight = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    grain = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
    grain = grain.filter(ImageFilter.GaussianBlur(1.5))
    colors = rng.uniform(40, 200, (2, 3))
    rgb = colors[0] + (colors[1] - colors[0]) * weight[..., None]
    rgb = rgb + (np.asarray(grain, dtype=np.float32)[..., None] - 128) * 0.6
    return Background(f"drawn:{name}.png", np.clip(rgb, 0, 255).astype(np.uint8))
