"""Clips to measure with: random tensors for the network, and files on disk for the loader."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
import soundfile
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from transavs.audio.waveform import SAMPLE_RATE_HZ


def random_clips(
    cfg: CfgNode,
    count: int,
    frames: int,
    size: tuple[int, int],
    *,
    masks: int = 0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Returns clips as the mapper makes them, of random pictures and sounds.

    Args:
        cfg: says the seconds of sound, and the classes of the targets.
        count: B.
        frames: F, the frames of each; they show the first seconds.
        size: (H, W) of the frames.
        masks: true masks of each frame, random boxes; 0 leaves targets out.
        seed: equal calls give equal clips.
    """
    generator = torch.Generator().manual_seed(seed)
    seconds = max(int(cfg.INPUT.CLIP_SECONDS), frames)
    clips = []
    for _ in range(count):
        shape = (frames, 3, *size)
        clip: dict[str, Any] = {
            "frames": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            "frame_index": torch.arange(frames),
            "audio": torch.randn(seconds, 1, 96, 64, generator=generator),
        }
        if masks:
            most = int(cfg.MODEL.TRANSAVS.NUM_CLASSES)
            clip["target_masks"] = [_boxes(masks, size, generator) for _ in range(frames)]
            clip["target_classes"] = [
                torch.randint(0, most, (masks,), generator=generator) for _ in range(frames)
            ]
        clips.append(clip)
    return clips


def _boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Random boxes of a quarter of the width and height, bool ``[count, H, W]``."""
    boxes = torch.zeros((count, *size), dtype=torch.bool)
    height, width = max(size[0] // 4, 1), max(size[1] // 4, 1)
    for box in boxes:
        top = int(torch.randint(0, size[0] - height + 1, (), generator=generator))
        left = int(torch.randint(0, size[1] - width + 1, (), generator=generator))
        box[top : top + height, left : left + width] = True
    return boxes


def labelled_seconds(cfg: CfgNode) -> tuple[int, ...]:
    """Returns which seconds of a training clip have a mask, by the facts of ``DATASETS.TRAIN``.

    All ``INPUT.CLIP_SECONDS`` where no registered data set of ours is named.
    """
    seconds = int(cfg.INPUT.CLIP_SECONDS)
    for name in cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
        if metadata is not None and hasattr(metadata, "spec"):
            labelled = metadata.spec.split(metadata.split).labelled_seconds
            return tuple(second for second in labelled if second < seconds)
    return tuple(range(seconds))


def training_frames(cfg: CfgNode) -> int:
    """Returns how many frames of a clip a training step sees: labelled ones, perhaps some alone."""
    labelled = len(labelled_seconds(cfg))
    return min(labelled, int(cfg.INPUT.TRAIN_FRAMES) or labelled)


def write_clip_files(
    folder: str, seconds: int, size: tuple[int, int], seed: int = 0
) -> dict[str, Any]:
    """Writes the files of one clip, drawn at random, and returns its record.

    Frames are PNG files of smooth colours with some noise, which compress about as photographs do;
    each has a mask of one box. The sound is noise of two channels at 16 kHz, as in AVSBench.

    Args:
        folder: exists.
        seconds: T.
        size: (H, W) of frames and masks.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 255
    frames, masks = [], []
    for second in range(seconds):
        coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
        noisy = smooth.astype(np.int16) + rng.integers(-4, 5, smooth.shape)
        frames.append(os.path.join(folder, f"frame_{second}.png"))
        _write_png(frames[-1], np.clip(noisy, 0, 255).astype(np.uint8))
        masks.append(os.path.join(folder, f"mask_{second}.png"))
        _write_png(masks[-1], mask)
    sound = os.path.join(folder, "sound.wav")
    noise = rng.uniform(-0.5, 0.5, (seconds * SAMPLE_RATE_HZ, 2))
    soundfile.write(sound, noise, SAMPLE_RATE_HZ)
    return {
        "clip_id": "measured",
        "file_names": frames,
        "mask_file_names": masks,
        "audio_file": sound,
        "log_mel_file": None,
        "category": None,
    }


def _write_png(path: str, image: np.ndarray[Any, Any]) -> None:
    if not cv2.imwrite(path, image):
        raise OSError(f"cannot write {path}: choose another folder for temporary files (TMPDIR)")
