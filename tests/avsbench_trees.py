"""Writes tiny trees in the layout of AVSBench, for the tests of whatever reads data.

Paths are spelled out here and not taken from ``transavs.data.avsbench_spec``, so that a mistake
there does not hide in the tests. Frames and sounds are drawn from the clip's name: every clip
looks and sounds different, and equal calls write equal files.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import soundfile

SECONDS = 5
SAMPLE_RATE = 16000
SIZE = (24, 32)  # height, width of every frame

# The odd names are those of the release: a leading "-" or "_", an underscore before a number.
S4_CLIPS = {
    "train": [("dog_barking", "-en-yFsmIO8"), ("horse_clip-clop", "_8m_rszChvE")],
    "val": [("playing_piano", "aaaaaaaaaaa")],
    "test": [("helicopter", "bbbbbbbbbbb")],
}
MS3_CLIPS = {
    "train": ["0WxgIKuetYI_0", "-CNbSq__q-BY"],
    "val": ["YYbShzoZWRo_25"],
    "test": ["kgw1OadfJWA"],
}
# Part, folder and classes of each clip: 17 dog, 28 guitar, 41 man, 35 helicopter, 12 cat.
AVSS_CLIPS = {
    "train": [
        ("v1s", "-en-yFsmIO8_0_5000", (17,)),
        ("v1m", "0WxgIKuetYI_0", (28, 41)),
        ("v2", "-HeRZSisQLY_10000_20000", (12, 35)),
    ],
    "val": [("v1m", "YYbShzoZWRo_25", (17, 41))],
    "test": [("v1s", "bbbbbbbbbbb_0_5000", (35,)), ("v2", "_8m_rszChvE_0_10000", (28, 41))],
}
AVSS_NAMES = {12: "cat", 17: "dog", 28: "guitar", 35: "helicopter", 41: "man"}
AVSS_COLORS = {  # R, G, B
    0: (0, 0, 0),
    12: (64, 0, 128),
    17: (128, 64, 0),
    28: (64, 64, 128),
    35: (128, 128, 64),
    41: (192, 0, 64),
}
DEMO_CLASSES = ("cow", "dog")


def write_avsbench(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """Writes S4 and MS3 under ``root`` as the official archives have them; returns ``root``."""
    write_s4(root / "Single-source", S4_CLIPS, size)
    write_ms3(root / "Multi-sources", MS3_CLIPS, size)
    return root


def write_demo(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """Writes ``transavs_demo`` under ``root``, with its unseen split and objects; returns ``root``.

    Every frame shows two touching objects: 1, a dog on the left, and 2, a cow on the right. The dog
    sounds in seconds 0 to 2, the cow in seconds 2 and 3, nothing in second 4.
    """
    demo = root / "transavs_demo"
    s4 = {split: [("dog", f"dog_{split}")] for split in ("train", "val", "test", "unseen")}
    ms3 = {split: [f"both_{split}"] for split in ("train", "val", "test", "unseen")}
    write_s4(demo / "Single-source", s4, size)
    write_ms3(demo / "Multi-sources", ms3, size)
    s4_folders = {f"dog/dog_{split}": (split, f"{split}/dog/dog_{split}") for split in s4}
    ms3_folders = {f"both_{split}": (split, f"{split}/both_{split}") for split in ms3}
    write_objects(demo / "Single-source" / "s4_data", s4_folders, size)
    write_objects(demo / "Multi-sources" / "ms3_data", ms3_folders, size)
    return root


def write_s4(
    folder: Path, clips: Mapping[str, Iterable[tuple[str, str]]], size: tuple[int, int] = SIZE
) -> None:
    """Writes a single-source subset: masks of training clips for their first frame alone."""
    lines = ["name,start,category,split"]
    data = folder / "s4_data"
    for split, entries in clips.items():
        for category, name in entries:
            lines.append(f"{name},0,{category},{split}")
            place = f"{split}/{category}/{name}"
            for number in range(1, SECONDS + 1):
                frame = data / "visual_frames" / place / f"{name}_{number}.png"
                write_image(frame, picture(name, number, size))
                if split != "train" or number == 1:
                    mask = data / "gt_masks" / place / f"{name}_{number}.png"
                    write_image(mask, binary_mask(size))
            write_wav(data / "audio_wav" / f"{place}.wav", waveform(name))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s4_meta_data.csv").write_text("\n".join(lines) + "\n")


def write_ms3(
    folder: Path, clips: Mapping[str, Iterable[str]], size: tuple[int, int] = SIZE
) -> None:
    """Writes a multi-sources subset: no split folder for frames, ".mp4" in their names."""
    lines = ["video_id,split"]
    data = folder / "ms3_data"
    for split, names in clips.items():
        for name in names:
            lines.append(f"{name},{split}")
            for number in range(1, SECONDS + 1):
                frame = data / "visual_frames" / name / f"{name}.mp4_{number}.png"
                write_image(frame, picture(name, number, size))
                mask = data / "gt_masks" / split / name / f"{name}_{number}.png"
                write_image(mask, binary_mask(size))
            write_wav(data / "audio_wav" / split / f"{name}.wav", waveform(name))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ms3_meta_data.csv").write_text("\n".join(lines) + "\n")


def write_avss(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """Writes AVSBench-semantic under ``root`` as the official archive has it; returns ``root``.

    Frames are JPEG and counted from 0, five of them in v1s and v1m and ten in v2. A clip shows its
    first class on the left in every second but the last; its second class, where it has one, on the
    right from second 2 on.
    """
    folder = root / "AVSBench_semantic"
    lines = ["vid,uid,s_min,s_sec,a_obj,split,label"]
    for split, clips in AVSS_CLIPS.items():
        for part, uid, classes in clips:
            heard = "_".join(AVSS_NAMES[label] for label in classes)
            lines.append(f"{uid[:11]},{uid},0,0,{heard},{split},{part}")
            seconds = 10 if part == "v2" else 5
            for second in range(seconds):
                place = folder / part / uid
                write_image(place / "frames" / f"{second}.jpg", picture(uid, second, size))
                if part == "v1s" and split == "train" and second:
                    continue
                ids = class_map(classes, second, seconds, size)
                write_image(place / "labels_semantic" / f"{second}.png", ids)
                write_image(place / "labels_rgb" / f"{second}.png", colored(ids))
            write_wav(folder / part / uid / "audio.wav", waveform(uid, seconds))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def class_map(
    classes: tuple[int, ...], second: int, seconds: int, size: tuple[int, int] = SIZE
) -> np.ndarray:
    """Returns the class of each pixel uint8 ``[H, W]`` in one second, see :func:`write_avss`."""
    labels = object_map(size)
    shown = [0, classes[0] if second < seconds - 1 else 0, 0]
    if len(classes) > 1 and second >= 2:
        shown[2] = classes[1]
    return np.array(shown, dtype=np.uint8)[labels]


def colored(ids: np.ndarray) -> np.ndarray:
    """Returns the picture uint8 ``[H, W, 3]``, in OpenCV's order, of a class map."""
    picture = np.zeros((*ids.shape, 3), dtype=np.uint8)
    for label, color in AVSS_COLORS.items():
        picture[ids == label] = color[::-1]
    return picture


def write_objects(
    data: Path,
    folders: Mapping[str, tuple[str, str]],
    size: tuple[int, int] = SIZE,
    classes: tuple[str, str] = ("dog", "cow"),
) -> None:
    """Adds objects.json and object maps, and masks that agree with them.

    Args:
        data: the data folder of a subset.
        folders: clip id -> (split, folder of its masks under ``gt_masks``).
        size: (height, width) of the frames.
        classes: of the left object and of the right one.
    """
    sounding = ([True, True, True, False, False], [False, False, True, True, False])
    labels = object_map(size)
    objects = {}
    for clip_id, (split, place) in folders.items():
        items = [
            {"id": number, "class": name, "picture": f"{name}.png", "sounding": seconds}
            for number, name, seconds in zip((1, 2), classes, sounding, strict=True)
        ]
        objects[clip_id] = {"objects": items, "background": "meadow.jpg", "split": split}
        name = place.split("/")[-1]
        for number in range(1, SECONDS + 1):
            write_image(data / "object_masks" / place / f"{name}_{number}.png", labels)
            mask = data / "gt_masks" / place / f"{name}_{number}.png"
            if mask.exists():
                ids = [item["id"] for item in items if item["sounding"][number - 1]]
                write_image(mask, np.isin(labels, ids).astype(np.uint8) * 255)
    (data / "objects.json").write_text(json.dumps(objects))


def picture(name: str, number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Returns a smooth colour picture uint8 ``[H, W, 3]`` that depends on clip and frame."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {number}".encode()))
    coarse = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def binary_mask(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Returns a mask uint8 ``[H, W]`` of {0, 255}: a quarter of the frame, off its centre."""
    height, width = size
    mask = np.zeros(size, dtype=np.uint8)
    mask[height // 4 : 3 * height // 4, width // 8 : 5 * width // 8] = 255
    return mask


def object_map(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Returns the label map uint8 ``[H, W]`` of two touching objects."""
    height, width = size
    labels = np.zeros(size, dtype=np.uint8)
    labels[height // 4 : 3 * height // 4, width // 8 : width // 2] = 1
    labels[height // 4 : 3 * height // 4, width // 2 : 7 * width // 8] = 2
    return labels


def waveform(name: str, seconds: float = SECONDS, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Returns a tone float64 ``[L]`` whose pitch (200 to 1199 Hz) depends on the clip."""
    pitch = 200 + zlib.crc32(name.encode()) % 1000
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image), path


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Writes samples ``[L]`` in two equal channels, like the release, and ``[L, C]`` as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples.ndim == 1:
        samples = np.stack([samples, samples], axis=1)
    soundfile.write(path, samples, rate, subtype="PCM_16")
