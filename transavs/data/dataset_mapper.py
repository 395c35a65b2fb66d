"""AVSDatasetMapper: a clip record becomes the tensors that the model is fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from transavs.data.avsbench import Record
from transavs.data.clip_audio import ClipAudio, build_clip_audio
from transavs.data.negative_audio import NegativeAudio, build_negative_audio
from transavs.data.record_masks import (
    read_sounding_objects,
    read_target_classes,
    read_truth,
    read_union,
)
from transavs.data.targets import (
    TARGET_FORMS,
    add_background,
    component_labels,
    split_labels,
    target_classes,
    union_labels,
)
from transavs.data.transforms import ClipAugmentation, ClipTransform
from transavs.utils.image_files import Image, check_same_size, read_frame


class AVSDatasetMapper:
    """Reads, checks and transforms one clip.

    In training only labelled frames are read (one a clip in S4), and they carry target masks
    at the size of the transformed frames. In evaluation all T frames are read, and the ground
    truth keeps its native size.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        clip_seconds: int,
        augmentation: ClipAugmentation,
        targets: str = "union",
        num_classes: int = 1,
        component_min_area: int = 16,
        audio: ClipAudio | None = None,
        background_target: bool = False,
        negative_audio: NegativeAudio | None = None,
        train_frames: int = 0,
    ) -> None:
        """
        Args:
            is_train: training or evaluation, see above.
            clip_seconds: seconds, and frames, of the longest clip.
            augmentation: what frames and masks go through; it also says the channel order.
            targets: a training target is the "union" of the sounding objects of a frame, one of
                its "components", one of the "objects" (data with object maps only), or all that
                is of one of the "classes" (data with class maps only).
            num_classes: classes of the targets, without the background.
            component_min_area: smallest component, in pixels of the annotation.
            audio: reads the sound; None: VGGish's log-mel from the waveform.
            background_target: the background of a frame is a target too, of the class behind the
                others.
            negative_audio: in training, replaces the sound of some clips, whose frames then have
                no sounding target; None replaces none.
            train_frames: in training, so many of a clip's labelled frames are drawn each time, or
                all of them if there are fewer; 0 takes all.
        """
        if targets not in TARGET_FORMS:
            raise ValueError(f"expected targets out of {', '.join(TARGET_FORMS)}, got {targets!r}")
        self.is_train = is_train
        self.clip_seconds = clip_seconds
        self.augmentation = augmentation
        self.targets = targets
        self.num_classes = num_classes
        self.component_min_area = component_min_area
        self.audio = ClipAudio() if audio is None else audio
        self.background_target = background_target
        self.negative_audio = negative_audio
        self.train_frames = train_frames

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        return {
            "is_train": is_train,
            "clip_seconds": cfg.INPUT.CLIP_SECONDS,
            "augmentation": build_augmentation(cfg, is_train),
            "targets": cfg.MODEL.TRANSAVS.TARGETS,
            "num_classes": cfg.MODEL.TRANSAVS.NUM_CLASSES,
            "component_min_area": cfg.MODEL.TRANSAVS.COMPONENT_MIN_AREA,
            "audio": build_clip_audio(cfg),
            "background_target": cfg.MODEL.TRANSAVS.BACKGROUND_TARGET,
            "negative_audio": build_negative_audio(cfg) if is_train else None,
            "train_frames": cfg.INPUT.TRAIN_FRAMES,
        }

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Returns the clip that a record describes.

        Args:
            record: see ``transavs.data.avsbench``; it is not changed.
            rng: source of the augmentation; None draws from fresh entropy.

        Returns:
            A dict with
            ``frames`` uint8 ``[F, 3, H, W]`` in the configured channel order,
            ``frame_index`` int64 ``[F]``, the second that each frame shows,
            what ``ClipAudio.read`` says of the sound: ``audio`` float32 ``[T, 1, 96, 64]``, log-mel
            examples (or those of another front-end), or ``audio_embeddings``,
            ``height`` and ``width`` of the files in pixels (in evaluation of what they are
            stretched to, if they are), ``clip_id``, ``file_names``;
            in training ``target_masks``, F tensors bool ``[G, H, W]`` (G may be 0), and
            ``target_classes``, F tensors int64 ``[G]``: 0 "sounding object", 1 the background (with
            the targets "classes": the class's pixel value minus 1, and behind these the
            background);
            in evaluation ``union_masks`` bool ``[T, height, width]`` and ``labelled`` bool ``[T]``
            (unlabelled rows of the masks are False), and of data with class maps ``class_maps``
            uint8 ``[T, height, width]``, 0 the background.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is broken, or contradicts the record or another file.
        """
        if rng is None:
            rng = np.random.default_rng()
        seconds = self._seconds_to_read(record, rng)
        frames = self._read_frames(record, seconds)
        height, width = frames[0].shape[:2]
        transform = self.augmentation.draw(height, width, rng)
        replaced = None
        if self.is_train and self.negative_audio is not None:
            replaced = self.negative_audio.draw(record, rng)
        moved = np.stack(transform.apply_frames(frames))
        clip: dict[str, Any] = {
            "clip_id": record["clip_id"],
            "file_names": [record["file_names"][second] for second in seconds],
            "height": height,
            "width": width,
            "frames": torch.from_numpy(np.ascontiguousarray(moved.transpose(0, 3, 1, 2))),
            "frame_index": torch.tensor(seconds, dtype=torch.int64),
            **self.audio.read(replaced or record),
        }
        if self.is_train:
            size = (height, width)
            labels = [self._read_target_labels(record, second, size) for second in seconds]
            if replaced is not None:
                labels = [np.zeros_like(label) for label in labels]
            if self.background_target:
                labels = [add_background(label) for label in labels]
            labels = [transform.apply_labels(label) for label in labels]
            clip["target_masks"] = [split_labels(label) for label in labels]
            by_class = self.targets == "classes"
            clip["target_classes"] = [
                target_classes(label, self.num_classes, by_class) for label in labels
            ]
        else:
            clip |= read_truth(record, (height, width))
            if self.augmentation.stretch is not None:
                clip["height"], clip["width"] = self.augmentation.stretch
                for name in {"union_masks", "class_maps"} & set(clip):
                    clip[name] = _moved(clip[name], transform)
        return clip

    def _seconds_to_read(self, record: Record, rng: np.random.Generator) -> list[int]:
        clip_seconds = len(record["file_names"])
        if clip_seconds > self.clip_seconds:
            raise ValueError(
                f"clip {record['clip_id']!r} has {clip_seconds} seconds, but INPUT.CLIP_SECONDS is "
                f"{self.clip_seconds}; set it to the length of the data set's longest clips"
            )
        seconds = list(range(clip_seconds))
        if self.is_train:
            seconds = [second for second in seconds if record["mask_file_names"][second]]
            if not seconds:
                raise ValueError(
                    f"clip {record['clip_id']!r} has no labelled frame and cannot be trained on"
                )
            if 0 < self.train_frames < len(seconds):
                seconds = sorted(rng.permutation(seconds)[: self.train_frames].tolist())
        return seconds

    def _read_frames(self, record: Record, seconds: list[int]) -> list[Image]:
        names = [record["file_names"][second] for second in seconds]
        frames = [read_frame(name, self.augmentation.image_format) for name in names]
        for name, frame in zip(names, frames, strict=True):
            check_same_size(name, frame.shape[:2], frames[0].shape[:2], f"the frame {names[0]}")
        return frames

    def _read_target_labels(self, record: Record, second: int, size: tuple[int, int]) -> Image:
        if self.targets == "objects":
            return read_sounding_objects(record, second, size)
        if self.targets == "classes":
            return read_target_classes(record, second, size, self.num_classes)
        mask = read_union(record, second, size)
        if self.targets == "components":
            return component_labels(mask, self.component_min_area)
        return union_labels(mask)


def _moved(masks: Tensor, transform: ClipTransform) -> Tensor:
    """Returns bool or uint8 masks ``[T, H, W]`` as the transform leaves them, in their dtype."""
    moved = [transform.apply_labels(mask) for mask in masks.to(torch.uint8).numpy()]
    return torch.from_numpy(np.stack(moved)).to(masks.dtype)


def build_augmentation(cfg: CfgNode, is_train: bool) -> ClipAugmentation:
    """Returns the augmentation that ``cfg.INPUT`` asks for; in evaluation it only resizes."""
    image_format = cfg.INPUT.FORMAT
    if not is_train:
        return ClipAugmentation(
            min_sizes=(cfg.INPUT.MIN_SIZE_TEST,),
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            stretch=tuple(cfg.INPUT.STRETCH_TEST) or None,
            image_format=image_format,
        )
    crop_size = None
    if cfg.INPUT.CROP.ENABLED:
        if cfg.INPUT.CROP.TYPE != "absolute":
            raise ValueError(
                "INPUT.CROP.TYPE must be 'absolute' (pixels: all frames and masks of a clip share "
                f"one window), got {cfg.INPUT.CROP.TYPE!r}"
            )
        height, width = cfg.INPUT.CROP.SIZE
        crop_size = (int(height), int(width))
    flips = {"horizontal": 0.5, "none": 0.0}
    if cfg.INPUT.RANDOM_FLIP not in flips:
        raise ValueError(
            f"INPUT.RANDOM_FLIP must be one of {', '.join(flips)}, got {cfg.INPUT.RANDOM_FLIP!r}"
        )
    sampling = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if sampling not in ("choice", "range"):
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING must be 'choice' or 'range', got {sampling!r}"
        )
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    return ClipAugmentation(
        min_sizes=(sizes,) if isinstance(sizes, int) else tuple(sizes),
        max_size=cfg.INPUT.MAX_SIZE_TRAIN,
        sample_range=sampling == "range",
        crop_size=crop_size,
        flip_probability=flips[cfg.INPUT.RANDOM_FLIP],
        color_strength=cfg.INPUT.COLOR_JITTER,
        # Padding has the mean colour, which the model's normalisation maps to zero.
        pad_color=tuple(cfg.MODEL.PIXEL_MEAN),
        image_format=image_format,
    )
