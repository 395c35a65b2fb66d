"""Typed contracts between the rooms of the package, and the shape legend that all docstrings use.

Shape legend:
    B  clips in a batch.
    T  seconds of a clip, and frames of it: the data sets hold one frame a second.
    F  frames given of a clip: ``F == T``, or only the labelled ones during training.
    N  frames of a whole batch, clip after clip (N = sum of the clips' F).
    Q  audio queries ("N" in the paper, a letter that counts frames here).
    C  channels of a query ("d" in the paper).
    K  classes, without "no object".
    G  ground-truth masks of a frame.
    S  audio examples (log-mel patches of 0.96 s); L samples of a waveform.
    H, W  height and width in pixels; h, w those of a feature map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipAudio:
    """What is heard in B clips, and which second of which clip each of N frames shows.

    Attributes:
        embeddings: F_a of each clip, float ``[B, T, D]``; zero after the end of a shorter one.
        clip: int64 ``[N]``, in ascending order.
        second: int64 ``[N]``.
        frames: how many frames each clip has, or one number for all.
    """

    embeddings: Tensor
    clip: Tensor
    second: Tensor
    frames: list[int] | int

    @classmethod
    def pack(cls, embeddings: list[Tensor], seconds: list[Tensor]) -> ClipAudio:
        """Of clips of any length: ``[T_b, D]``, and the second of each frame, ``[F_b]``."""
        frames = [len(own) for own in seconds]
        clip = torch.cat([torch.full_like(own, row) for row, own in enumerate(seconds)])
        device = embeddings[0].device
        return cls(
            torch.nn.utils.rnn.pad_sequence(embeddings, batch_first=True),
            clip.to(device, non_blocking=True),
            torch.cat(seconds).to(device, non_blocking=True),
            frames,
        )

    @classmethod
    def of_whole_clips(cls, embeddings: Tensor) -> ClipAudio:
        """Of clips ``[B, T, D]`` that are equally long and have a frame a second."""
        clips, seconds = embeddings.shape[:2]
        clip = torch.arange(clips, device=embeddings.device)[:, None].expand(-1, seconds)
        second = torch.arange(seconds, device=embeddings.device).expand(clips, -1)
        return cls(embeddings, clip.flatten(), second.flatten(), seconds)

    def of_frames(self) -> Tensor:
        """Returns the embedding of the second that each frame shows, ``[N, D]``."""
        return self.embeddings[self.clip, self.second]


@dataclass(frozen=True)
class PixelFeatures:
    """What a pixel decoder makes of the image features of N frames.

    Attributes:
        memory: three maps ``[N, C, h, w]`` at strides 32, 16 and 8, coarse to fine: f_1, f_2, f_3
            of TransAVS (arXiv 2305.07223), Eq. (6).
        mask_features: ``[N, C, H/4, W/4]``, the per-pixel embedding ``W_2 f̂_3`` of Eq. (7).
    """

    memory: list[Tensor]
    mask_features: Tensor


@dataclass(frozen=True)
class QueryOutput:
    """Predictions of the queries after one decoder layer: the triples z = (q, m, p) of the paper.

    Attributes:
        queries: ``[N, Q, C]``, the q_i.
        class_logits: ``[N, Q, K + 1]``; the softmax over the last axis is p_i, whose last entry
            means "no object" (Eq. 8).
        mask_logits: ``[N, Q, h, w]`` at stride 4; their sigmoid is m_i (Eq. 7).
    """

    queries: Tensor
    class_logits: Tensor
    mask_logits: Tensor

    def of_frames(self, first: int, last: int) -> QueryOutput:
        """Returns those of the frames from ``first`` to before ``last``."""
        parts = (self.queries, self.class_logits, self.mask_logits)
        return QueryOutput(*(part[first:last] for part in parts))


@dataclass(frozen=True)
class FrameTargets:
    """Ground truth of N frames, padded to the largest number of masks among them.

    Attributes:
        masks: bool ``[N, G, H, W]``; rows beyond a frame's count are all False.
        classes: int64 ``[N, G]``; 0 is "sounding object" in the binary settings.
        counts: how many of the G rows are real, a list of N ints that lives on the CPU.
    """

    masks: Tensor
    classes: Tensor
    counts: list[int]

    @classmethod
    def pack(
        cls, masks: list[Tensor], classes: list[Tensor], size: tuple[int, int], device: torch.device
    ) -> FrameTargets:
        """Stacks per-frame targets of any number and size into one padded block.

        Args:
            masks: N tensors bool ``[G_n, H_n, W_n]``, none larger than (H, W); G_n may be 0.
            classes: N tensors int64 ``[G_n]``.
            size: (H, W) of the padded frames; what lies outside a mask is False.
            device: where the block shall live.
        """
        counts = [len(mask) for mask in masks]
        most = max(counts, default=0)
        packed = torch.zeros((len(masks), most, *size), dtype=torch.bool)
        labels = torch.zeros((len(masks), most), dtype=torch.int64)
        for row, (mask, label) in enumerate(zip(masks, classes, strict=True)):
            height, width = mask.shape[-2:]
            packed[row, : len(mask), :height, :width] = mask
            labels[row, : len(label)] = label
        return cls(
            packed.to(device, non_blocking=True), labels.to(device, non_blocking=True), counts
        )
