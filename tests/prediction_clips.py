"""Manifests of generated films and clips: a drawn shape each, with a tone of its own.

``python tests/prediction_clips.py FOLDER COUNT`` writes a manifest of many, poisoned items among
them, as docs/prediction_at_scale.md measures it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile

RATE_HZ = 16_000
SIZE = (48, 64)
#: Every so manyth item is a film; the others are pictures with a wav.
FILM_PERIOD = 10
#: An ordinary picture. For the measured runs a ``sitecustomize.py`` on PYTHONPATH replaced
#: ``cv2.imread`` in the workers by one that kills its process when it is given this name.
DEADLY = "deadly.png"


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


def write_film(
    folder: Path, number: int, seconds: int = 5, size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    """Likewise as a film with sound."""
    import films

    name = f"film_{number:05d}.mp4"
    films.write_film(
        folder / name,
        seconds,
        picture=lambda moment: picture(number, int(moment), size),
        voices=(lambda moments: tone(number, moments),),
    )
    return {"video": name}


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes JSON lines; returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_mute_film(path: Path) -> None:
    """Writes a film of a second without a sound track."""
    import films

    films.write_film(path, 1.0, picture=lambda _: picture(0, 0), voices=())


def write_poisoned(folder: Path) -> list[dict[str, Any]]:
    """Writes items that cannot be predicted; returns their lines."""
    (folder / "words.mp4").write_text("These are words, and no film.\n")
    write_mute_film(folder / "mute.mp4")
    write_clip(folder / "broken", 0)
    (folder / "broken" / "clip_00000" / "3.png").write_bytes(b"\x89PNG, but no more")
    write_clip(folder / "deadly", 0)
    pictures = folder / "deadly" / "clip_00000"
    (pictures / "2.png").rename(pictures / DEADLY)
    return [
        {"id": "poison no film", "video": "words.mp4"},
        {"id": "poison no sound", "video": "mute.mp4"},
        {"id": "poison not there", "video": "nowhere.mp4"},
        {"id": "poison picture", "frames": "broken/clip_00000", "audio": "broken/clip_00000.wav"},
        {"id": "poison deadly", "frames": "deadly/clip_00000", "audio": "deadly/clip_00000.wav"},
    ]


def write_many(folder: Path, count: int, size: tuple[int, int] = SIZE) -> Path:
    """Writes a manifest of ``count`` items, five of them poisoned; returns its path."""
    folder.mkdir(parents=True)
    poisoned = write_poisoned(folder)
    rows = []
    for number in range(count - len(poisoned)):
        write = write_film if number % FILM_PERIOD == FILM_PERIOD - 1 else write_clip
        rows.append({"id": f"item {number:05d}", **write(folder, number, size=size)})
    for place, row in enumerate(poisoned):
        rows.insert((place + 1) * len(rows) // (len(poisoned) + 1), row)
    return write_manifest(folder / "manifest.jsonl", rows)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    print(write_many(Path(sys.argv[1]), int(sys.argv[2])))
