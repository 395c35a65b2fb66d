"""What a model accepts as clips; everything else gets one clear error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from transavs.modeling.clip_audio import clip_seconds


def check_clips(clips: Any, training: bool) -> None:
    """Raises ValueError for clips that are not what ``TransAVS.forward`` describes."""
    if not isinstance(clips, Sequence) or not clips or not all(isinstance(c, dict) for c in clips):
        raise ValueError(
            f"expected a list of at least one clip (a dict each), got {type(clips).__name__}"
            + (" without any" if isinstance(clips, Sequence) and not clips else "")
        )
    for clip in clips:
        _check_clip(clip)
        if training:
            _check_targets(clip)


def _check_clip(clip: dict[str, Any]) -> None:
    name = clip.get("clip_id", "")
    sound = "audio" if clip.get("audio_embeddings") is None else "audio_embeddings"
    for key in ("frames", sound):
        if not isinstance(clip.get(key), Tensor):
            raise ValueError(
                f"clip {name!r}: expected a tensor {key!r}, got {type(clip.get(key)).__name__}"
            )
    frames, audio = clip["frames"], clip[sound]
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
        raise ValueError(
            f"clip {name!r}: expected frames uint8 [F, 3, H, W], got {frames.dtype} "
            f"{list(frames.shape)}"
        )
    if audio.dtype != torch.float32:
        raise ValueError(f"clip {name!r}: expected {sound} float32, got {audio.dtype}")
    if not torch.isfinite(audio).all():
        kind = "log-mel examples" if sound == "audio" else "precomputed embeddings"
        raise ValueError(f"clip {name!r}: the {kind} hold NaN or infinite values")
    for key in ("height", "width"):
        if key in clip and int(clip[key]) < 1:
            raise ValueError(f"clip {name!r}: {key} must be at least 1, got {clip[key]}")


def _check_targets(clip: dict[str, Any]) -> None:
    name, frames = clip.get("clip_id", ""), clip["frames"]
    masks, classes = clip.get("target_masks"), clip.get("target_classes")
    if masks is None or classes is None or not len(masks) == len(classes) == len(frames):
        raise ValueError(
            f"clip {name!r}: training needs `target_masks` and `target_classes`, a tensor for each "
            f"of the {len(frames)} frames"
        )
    size = tuple(frames.shape[-2:])
    for mask, labels in zip(masks, classes, strict=True):
        if mask.dtype != torch.bool or mask.ndim != 3 or tuple(mask.shape[-2:]) != size:
            raise ValueError(
                f"clip {name!r}: expected target masks bool [G, {size[0]}, {size[1]}], got "
                f"{mask.dtype} {list(mask.shape)}"
            )
        if len(labels) != len(mask):
            raise ValueError(
                f"clip {name!r}: {len(mask)} target masks but {len(labels)} target classes"
            )


def frame_seconds(clip: dict[str, Any]) -> Tensor:
    """Which second each frame of a clip shows, checked against the clip's audio."""
    frames, seconds = len(clip["frames"]), clip_seconds(clip)
    index = clip.get("frame_index")
    if index is None:
        if frames != seconds:
            raise ValueError(
                f"a clip has {frames} frames and {seconds} seconds of audio: without "
                "`frame_index` there must be one frame a second"
            )
        return torch.arange(frames)
    index = torch.as_tensor(index)
    if index.is_floating_point():
        raise ValueError(f"`frame_index` must hold whole seconds, got {index.dtype}")
    if len(index) != frames or (frames and not 0 <= int(index.min()) <= int(index.max()) < seconds):
        raise ValueError(
            f"`frame_index` must hold the second (0 to {seconds - 1}) of each of the {frames} "
            f"frames, got {index.tolist()}"
        )
    return index
