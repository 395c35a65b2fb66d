"""Manifests of generated videos and clips: a drawn shape each, with a tone of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import films
import numpy as np
import soundfile

RATE_HZ = 16_000
SIZE = (48, 64)


def picture(number: int, second: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A disc or a square that moves, uint8 ``[H, W, 3]``, RGB."""
    rng = np.random.default_rng(number)
    image = np.full((*size, 3), rng.integers(20, 90), dtype=np.uint8)
    color = tuple(int(value) for value in rng.integers(120, 255, 3))
    radius = min(size) // 5
    x = radius + (7 * second + int(rng.integers(size[1]))) % (size[1] - 2 * radius)
    y = radius + int(rng.integers(size[0] - 2 * radius))
    if number % 2:
        cv2.circle(image, (x, y), radius, color, -1)
    else:
        cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), color, -1)
    return image


def tone(number: int, seconds: np.ndarray) -> np.ndarray:
    """Tone ``number``, on and off, float64 as ``seconds``."""
    on = (seconds * 2).astype(int) % (2 + number % 3) == 0
    return 0.5 * on * np.sin(2 * np.pi * (200 + 37 * (number % 50)) * seconds)


def write_clip(
    folder: Path, number: int, seconds: int = 5, size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    """Writes pictures and a wav; returns the line of the manifest, without an id."""
    name = f"clip_{number:05d}"
    (folder / name).mkdir(parents=True)
    for second in range(seconds):
        image = cv2.cvtColor(picture(number, second, size), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / name / f"{second}.png"), image)
    samples = tone(number, np.arange(seconds * RATE_HZ) / RATE_HZ)
    soundfile.write(folder / f"{name}.wav", samples, RATE_HZ)
    return {"frames": name, "audio": f"{name}.wav"}


def write_video(
    folder: Path, number: int, seconds: int = 5, size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    """Likewise as a video with audio."""
    name = f"video_{number:05d}.mp4"
    films.write_film(
        folder / name,
        seconds,
        picture=lambda second: picture(number, int(second), size),
        voices=(lambda seconds: tone(number, seconds),),
    )
    return {"video": name}


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes JSON lines; returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_mute_video(path: Path) -> None:
    """Writes a video of a second without audio."""
    films.write_film(path, 1.0, picture=lambda _: picture(0, 0), voices=())
