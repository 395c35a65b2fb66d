"""Tiny photographs, cut-outs and recordings, drawn here, to compose scenes of."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

# The helper demo_files, which writes packages, is imported by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data/demo"))

CLASSES = """
classes:
  person: {group: human, cutouts: [], sounds: [speech]}
  dog: {group: animal}
  car: {group: vehicle, sounds: [car, engine]}
  bus: {group: vehicle, sounds: [engine]}
  drum: {group: music, coco: []}
  cello: {group: music, coco: [], cutouts: [violin]}
  violin: {group: music, coco: []}
ambience: [rain]
"""
CATEGORIES = {1: "person", 2: "dog", 3: "car", 4: "bus", 5: "pizza"}
#: Photograph -> categories and left edges of its squares, and its part.
PHOTOS = {
    "people": ([(1, 8), (1, 60)], "train"),
    "walk": ([(1, 8), (2, 60)], "train"),
    "dog": ([(2, 30)], "train"),
    "street": ([(3, 8), (4, 60)], "train"),
    "table": ([(5, 30)], "train"),
    "other_walk": ([(1, 8), (2, 60)], "heldout"),
    "other_street": ([(3, 30)], "heldout"),
    "other_table": ([(5, 30)], "heldout"),
}
SOUNDS = ("speech", "dog", "car", "engine", "drum", "cello", "violin", "rain")


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with coco.json, images, cutouts, sounds, manifest.csv and classes.yaml."""
    root = tmp_path_factory.mktemp("material")
    (root / "classes.yaml").write_text(CLASSES)
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (name, (squares, part)) in enumerate(PHOTOS.items()):
        pixels = rng.integers(0, 255, (80, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}.jpg")
        image = {"id": number, "file_name": f"{name}.jpg", "width": 112, "height": 80}
        images.append({**image, "split": part})
        for category, left in squares:
            corners = [left, 20, left + 40, 20, left + 40, 60, left, 60]
            annotations.append(
                {
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [corners],
                    "area": 1600,
                    "bbox": [left, 20, 40, 40],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco.json").write_text(json.dumps(content))
    rows = ["file,split"]
    for name in ("drum", "violin"):
        for part in ("train", "heldout"):
            rgba = np.zeros((40, 40, 4), dtype=np.uint8)
            rgba[5:35, 5:35] = 255
            rgba[15:25, 15:25] = 0  # a hole, which the mask fills
            path = root / f"cutouts/{name}/{part}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rgba).save(path)
            rows.append(f"cutouts/{name}/{part}.png,{part}")
    for number, name in enumerate(SOUNDS):
        for part in ("train", "heldout"):
            time = np.arange(16000) / 16000
            path = root / f"sounds/{name}/{part}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * (200 + 150 * number) * time), 16000)
            rows.append(f"sounds/{name}/{part}.wav,{part}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def options(material: Path) -> list[str]:
    """Options of the command that name the material; sizes and output are left to the test."""
    return [
        *("--coco", f"{material}/coco.json", "--images", f"{material}/images"),
        *("--cutouts", f"{material}/cutouts", "--sounds", f"{material}/sounds"),
        *("--manifest", f"{material}/manifest.csv", "--classes", f"{material}/classes.yaml"),
        *("--size", "48", "--workers", "1", "--no-progress"),
    ]
