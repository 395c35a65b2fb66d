"""Clips become one batch: what the meta-architectures share, and what they accept as clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from transavs.audio import AudioEncoder
from transavs.modeling.clip_audio import clip_seconds, embed_clips
from transavs.modeling.feature_cache import FeatureCache
from transavs.structures import ClipAudio, FrameTargets, QueryOutput

Size = tuple[int, int]


@dataclass(frozen=True)
class ClipBatch:
    """B clips as one batch of N frames.

    Attributes:
        clips: checked, as ``ClipModel.forward`` describes them.
        images: float ``[N, 3, H, W]``, normalised and padded.
        sizes: (height, width) of each clip's frames.
        seconds: of each clip, which second each frame shows, int64 ``[F]``.
    """

    clips: list[dict[str, Any]]
    images: Tensor
    sizes: list[Size]
    seconds: list[Tensor]

    @property
    def padded(self) -> Size:
        """(H, W) of the padded frames."""
        return self.images.shape[-2], self.images.shape[-1]

    def targets(self) -> FrameTargets:
        """Returns the ground truth of the clips."""
        return FrameTargets.pack(
            [mask for clip in self.clips for mask in clip["target_masks"]],
            [label for clip in self.clips for label in clip["target_classes"]],
            self.padded,
            self.images.device,
        )


class ClipModel(nn.Module, ABC):
    """A meta-architecture that takes clips and segments what sounds in them.

    Clips of a batch may differ in their number of frames: these are joined, never padded, so that
    no loss, attention or norm meets a frame that is not there.

    Args:
        backbone: frames -> features.
        pixel_mean: per channel, in the order of the frames.
        pixel_std: likewise.
        size_divisibility: frames are padded to a multiple of this.
        freeze_backbone: no gradients in the backbone, running statistics kept.
        feature_folder: where a frozen backbone's features are kept; "" keeps none.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    audio_encoder: AudioEncoder  # set by the subclass
    # Whether the rule sees frames one by one: at the size of photographs, the masks of the queries
    # of a whole clip fill a memory.
    frame_by_frame = True

    def __init__(
        self,
        backbone: Backbone,
        pixel_mean: list[float],
        pixel_std: list[float],
        size_divisibility: int,
        freeze_backbone: bool,
        feature_folder: str = "",
    ) -> None:
        super().__init__()
        # Convolutions of the backbones are faster with channels last, on CPUs by a third.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.size_divisibility = size_divisibility
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False).eval()
        assert freeze_backbone or not feature_folder, "features of a backbone that learns"
        self._cache = FeatureCache(feature_folder, self.backbone) if feature_folder else None

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> ClipModel:
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    @abstractmethod
    def forward(self, clips: list[dict[str, Any]], with_queries: bool = False) -> Any:
        """Segments the sounding objects of B clips.

        Args:
            clips: each with ``frames`` uint8 ``[F, 3, H, W]`` in the order of ``INPUT.FORMAT``,
                ``audio`` float32 ``[T, 1, 96, 64]`` (or what another encoder takes) or
                ``audio_embeddings`` float32 ``[T, D]``, optional ``frame_index`` int64 ``[F]`` (the
                second that each frame shows; by default frame t shows second t and F == T),
                optional ``height`` and ``width`` of the wanted masks (default: the frames' own);
                in training ``target_masks`` and ``target_classes``, lists of F tensors
                ``[G, H, W]`` and ``[G]``.
            with_queries: in evaluation, return the queries as well, where the model has any.

        Returns:
            In training a dict of weighted losses. In evaluation, for each clip,
            ``{"masks": bool [F, height, width], "scores": float32 [F, height, width]}``, of a
            model that tells several classes ``"class_maps"`` int64 ``[F, height, width]`` (0 where
            ``masks`` is False, else 1 + the class), and on request ``"queries"``, the
            ``QueryOutput`` of the clip's frames.
        """

    @abstractmethod
    def segment(self, images: Tensor, audio: ClipAudio) -> Any:
        """Returns what the network says about N images ``[N, 3, H, W]``, normalised and padded."""

    @abstractmethod
    def candidates(self, output: Any) -> tuple[Tensor, ...]:
        """Returns those logits of :meth:`segment`'s output that :meth:`rule` needs, N first."""

    @abstractmethod
    def rule(
        self, logits: tuple[Tensor, ...], padded: Size, size: Size, wanted: Size
    ) -> dict[str, Tensor]:
        """Returns the results of ``forward`` for all frames at once, each ``[N, *wanted]``.

        Args:
            logits: of :meth:`candidates`.
            padded: (H, W) of the padded frames.
            size: (H, W) of the frames within them.
            wanted: (height, width) of the results.
        """

    def batches(self, clips: list[dict[str, Any]]) -> Iterator[ClipBatch]:
        """Yields the clips as batches, in order: one in training.

        In evaluation, clips of several sizes are batches of their own: padding would reach the
        norms and the attention, and no answer may depend on the neighbours.

        Raises:
            ValueError: clips that are not what ``forward`` describes.
        """
        check_clips(clips, self.training)
        parts = [clips]
        if not self.training and len({clip["frames"].shape[-2:] for clip in clips}) > 1:
            parts = [[clip] for clip in clips]
        for part in parts:
            sizes = [(clip["frames"].shape[-2], clip["frames"].shape[-1]) for clip in part]
            largest = (max(size[0] for size in sizes), max(size[1] for size in sizes))
            images = torch.cat([self.normalize(clip["frames"], largest) for clip in part])
            seconds = [frame_seconds(clip) for clip in part]
            images = images.contiguous(memory_format=torch.channels_last)
            yield ClipBatch(part, images, sizes, seconds)

    def normalize(self, frames: Tensor, size: Size) -> Tensor:
        """Returns frames uint8 ``[F, 3, h, w]`` normalised and padded, float ``[F, 3, H, W]``.

        Padding is at the right and below, of the mean colour (zero), up to ``size`` and to a
        multiple of the model's divisibility.
        """
        frames = frames.to(self.device, non_blocking=True)
        frames = (frames - self.pixel_mean) / self.pixel_std
        height, width = (
            -(-side // self.size_divisibility) * self.size_divisibility for side in size
        )
        return F.pad(frames, (0, width - frames.shape[-1], 0, height - frames.shape[-2]))

    def listen(self, batch: ClipBatch, shown_only: bool = False) -> ClipAudio:
        """Returns the embeddings of a batch: of all seconds, or only of those that frames show."""
        seconds = batch.seconds
        if not shown_only:
            embeddings = embed_clips(self.audio_encoder, batch.clips, self.device)
            return ClipAudio.pack(embeddings, seconds)
        embeddings = embed_clips(self.audio_encoder, batch.clips, self.device, seconds)
        return ClipAudio.pack(embeddings, [torch.arange(len(own)) for own in seconds])

    def image_features(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the backbone's maps, perhaps kept from before."""
        features: dict[str, Tensor]
        features = self._cache(images, self.backbone) if self._cache else self.backbone(images)
        return features

    def postprocess(
        self, output: Any, batch: ClipBatch, queries: QueryOutput | None = None
    ) -> list[dict[str, Any]]:
        """Returns what ``forward`` does in evaluation.

        Args:
            output: of :meth:`segment`.
            batch: what was segmented.
            queries: to be returned, of the same frames.
        """
        logits = self.candidates(output)
        results, first = [], 0
        for clip, size in zip(batch.clips, batch.sizes, strict=True):
            wanted = (int(clip.get("height", size[0])), int(clip.get("width", size[1])))
            count = len(clip["frames"])
            step = 1 if self.frame_by_frame else count
            parts = [
                self.rule(tuple(x[i : i + step] for x in logits), batch.padded, size, wanted)
                for i in range(first, first + count, step)
            ]
            result: dict[str, Any]
            result = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            if queries is not None:
                result["queries"] = queries.of_frames(first, first + count)
            results.append(result)
            first += count
        return results


def check_clips(clips: Any, training: bool) -> None:
    """Raises ValueError for clips that are not what ``ClipModel.forward`` describes."""
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
