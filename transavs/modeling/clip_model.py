"""What the meta-architectures share: an image backbone that may be frozen, and clips in a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from transavs.modeling.clip_checks import check_clips, frame_seconds
from transavs.modeling.clip_frames import batch_frames
from transavs.modeling.feature_cache import FeatureCache
from transavs.structures import FrameTargets


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

    def forward(self, clips: list[dict[str, Any]]) -> Any:
        """Segments the sounding objects of B clips.

        Args:
            clips: each with ``frames`` uint8 ``[F, 3, H, W]`` in the order of ``INPUT.FORMAT``,
                ``audio`` float32 ``[T, 1, 96, 64]`` (or what another encoder takes) or
                ``audio_embeddings`` float32 ``[T, D]``, optional ``frame_index`` int64 ``[F]`` (the
                second that each frame shows; by default frame t shows second t and F == T),
                optional ``height`` and ``width`` of the wanted masks (default: the frames' own);
                in training ``target_masks`` and ``target_classes``, lists of F tensors
                ``[G, H, W]`` and ``[G]``.

        Returns:
            In training a dict of weighted losses. In evaluation, for each clip,
            ``{"masks": bool [F, height, width], "scores": float32 [F, height, width]}``, and of a
            model that tells several classes ``"class_maps"`` int64 ``[F, height, width]``: 0 where
            ``masks`` is False, else 1 + the class.
        """
        check_clips(clips, self.training)
        if not self.training and len({clip["frames"].shape[-2:] for clip in clips}) > 1:
            # Padding would reach the norms and the attention: no answer may depend on neighbours.
            return [self([clip])[0] for clip in clips]
        images, sizes = batch_frames(clips, self.pixel_mean, self.pixel_std, self.size_divisibility)
        return self._answer(clips, images, sizes, [frame_seconds(clip) for clip in clips])

    @abstractmethod
    def _answer(
        self,
        clips: list[dict[str, Any]],
        images: Tensor,
        sizes: list[tuple[int, int]],
        seconds: list[Tensor],
    ) -> Any:
        """Returns what ``forward`` does.

        Args:
            clips: checked; in evaluation their frames have one size.
            images: float ``[N, 3, H, W]``, normalised and padded.
            sizes: (height, width) of each clip's frames.
            seconds: of each clip, which second each frame shows, int64 ``[F]``.
        """

    def _image_features(self, images: Tensor) -> dict[str, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_backbone):
            features: dict[str, Tensor]
            if self._cache is None:
                features = self.backbone(images)
            else:
                features = self._cache(images, self.backbone)
        return features

    def _targets(self, clips: list[dict[str, Any]], images: Tensor) -> FrameTargets:
        return FrameTargets.pack(
            [mask for clip in clips for mask in clip["target_masks"]],
            [label for clip in clips for label in clip["target_classes"]],
            (images.shape[-2], images.shape[-1]),
            self.device,
        )
