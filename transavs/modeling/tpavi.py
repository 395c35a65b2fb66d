"""The network of AVSBench's baseline behind its backbone: necks, TPAVI blocks, decoder and head.

"Audio-Visual Segmentation" (arXiv 2207.05042): temporal pixel-wise audio-visual interaction. Shapes
as in ``transavs.structures``; a stage is one of the four maps of the backbone, fine to coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import Tensor, nn

#: Fine to coarse: strides 4, 8, 16 and 32.
STAGES = ("res2", "res3", "res4", "res5")
_DILATIONS = (3, 6, 12, 18)
_HEAD_CHANNELS = 32


@dataclass(frozen=True)
class TPAVIOutput:
    """Predictions for N frames.

    Attributes:
        mask_logits: ``[N, H, W]`` at the size of the pictures.
        audio: of each stage with a block, the projected audio of each frame, ``[N, C]``.
        visual: of each such stage, the map that left the block, behind the ReLU that begins the
            decoder's first unit, ``[N, C, h, w]``.
    """

    mask_logits: Tensor
    audio: list[Tensor]
    visual: list[Tensor]


class DilatedNeck(nn.Module):
    """Sum of four parallel 3 x 3 convolutions, dilated by 3, 6, 12 and 18.

    Args:
        in_channels: of the stage.
        channels: C.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        for dilation in _DILATIONS:
            convolution = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation)
            nn.init.normal_(convolution.weight, std=0.01)
            self.convolutions.append(convolution)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``[N, in_channels, h, w]`` to ``[N, C, h, w]``."""
        summed: Tensor = sum(convolution(features) for convolution in self.convolutions)
        return summed


class TPAVIBlock(nn.Module):
    """Every place of every frame of a clip looks at the clip's sound and, through it, at the clip.

    With visual features v of the T h w places of a clip, and at each place the projected audio a of
    its second, ``y = (theta(v) phi(a)^T / (T h w)) g(v)`` and the output is
    ``LayerNorm(v + norm(W y))``. The norm starts at zero: at first, sound changes nothing.

    The attention has no softmax, so ``theta (phi^T g)`` is the same without the matrix of
    (T h w)^2 numbers; and phi is one vector a second, so of g only its mean over each frame is
    needed, which, g being linear, is g of the mean.

    Args:
        channels: C, even; the attention has half of them.
        audio_channels: of an audio embedding.
        norm: by detectron2's names; must have weight and bias.
    """

    def __init__(self, channels: int, audio_channels: int, norm: str = "BN") -> None:
        super().__init__()
        inner = channels // 2
        self.audio_proj = nn.Linear(audio_channels, channels)
        self.theta = nn.Conv2d(channels, inner, 1)
        # Convolutions of size 1 on what is the same at all places of a second.
        self.phi = nn.Linear(channels, inner)
        self.g = nn.Linear(channels, inner)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = get_norm(norm, channels)
        self.layer_norm = nn.LayerNorm(channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(
        self, visual: Tensor, audio: Tensor, clip_lengths: Sequence[int] | int
    ) -> tuple[Tensor, Tensor]:
        """Returns the fused map and the projected audio.

        Args:
            visual: ``[N, C, h, w]``, clip after clip.
            audio: ``[N, audio_channels]``, the embedding of each frame's second.
            clip_lengths: frames of each clip, or one number for all; no clip sees another.

        Returns:
            ``[N, C, h, w]`` and ``[N, C]``.
        """
        sound = self.audio_proj(audio)
        # phi^T g / (T h w) of each frame, then of its clip.
        context = self.phi(sound)[:, :, None] * self.g(visual.mean((2, 3)))[:, None]
        context = _mean_of_clips(context, clip_lengths)
        query = self.theta(visual).permute(0, 2, 3, 1)
        mixed = (query.flatten(1, 2) @ context).view_as(query).permute(0, 3, 1, 2)
        fused = visual + self.norm(self.out(mixed))
        return self.layer_norm(fused.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), sound


def _mean_of_clips(context: Tensor, clip_lengths: Sequence[int] | int) -> Tensor:
    """Each frame gets the mean over its clip, of ``[N, ...]``."""
    if isinstance(clip_lengths, Sequence):
        parts = context.split(list(clip_lengths))
        return torch.cat([own.mean(0, keepdim=True).expand_as(own) for own in parts])
    # A compiler's number of frames may stand for any.
    clips = context.unflatten(0, (-1, clip_lengths))
    return clips.mean(1, keepdim=True).expand_as(clips).flatten(0, 1)


class ResidualUnit(nn.Module):
    """``r + conv(relu(conv(r)))`` with ``r = relu(x)`` and 3 x 3 convolutions.

    The shortcut adds r, not x: the official unit applies its first ReLU in place.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``[N, C, h, w]`` to the same shape."""
        features = F.relu(features)
        refined: Tensor = self.conv2(F.relu(self.conv1(features)))
        return features + refined


class RefineBlock(nn.Module):
    """Joins a stage to what comes from the coarser ones, and doubles the size.

    The stage passes one residual unit, its sum with the coarser map another. The coarsest stage has
    nothing to be added to, and no first unit (the official network holds one that it never uses).

    Args:
        channels: C.
        coarsest: of all stages.
    """

    def __init__(self, channels: int, coarsest: bool = False) -> None:
        super().__init__()
        self.skip_unit = None if coarsest else ResidualUnit(channels)
        self.unit = ResidualUnit(channels)

    def forward(self, stage: Tensor, coarser: Tensor | None = None) -> Tensor:
        """Returns ``[N, C, 2 h, 2 w]``.

        Args:
            stage: ``[N, C, h, w]``.
            coarser: what this block returned for the next coarser stage, of the same shape; None
                for the coarsest.
        """
        if self.skip_unit is not None:
            assert coarser is not None, "only the coarsest stage stands alone"
            stage = self.skip_unit(stage) + coarser
        return F.interpolate(
            self.unit(stage), scale_factor=2.0, mode="bilinear", align_corners=True
        )


class TPAVIDecoder(nn.Module):
    """Features of the backbone and audio embeddings -> one mask a frame.

    Args:
        in_channels: of the four stages, fine to coarse.
        audio_channels: of an audio embedding.
        channels: C.
        stages: those of ``STAGES`` that have a TPAVI block; the others do not hear.
        norm: of the blocks.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        audio_channels: int,
        channels: int = 256,
        stages: Sequence[str] = STAGES,
        norm: str = "BN",
    ) -> None:
        super().__init__()
        self.necks = nn.ModuleDict(
            {
                stage: DilatedNeck(inputs, channels)
                for stage, inputs in zip(STAGES, in_channels, strict=True)
            }
        )
        self.blocks = nn.ModuleDict(
            {
                stage: TPAVIBlock(channels, audio_channels, norm)
                for stage in STAGES
                if stage in stages
            }
        )
        self.refine = nn.ModuleDict(
            {stage: RefineBlock(channels, stage == STAGES[-1]) for stage in STAGES}
        )
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(channels // 2, _HEAD_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_HEAD_CHANNELS, 1, 1),
        )

    def forward(
        self, features: dict[str, Tensor], audio: Tensor, clip_lengths: Sequence[int] | int
    ) -> TPAVIOutput:
        """Segments N frames.

        Args:
            features: the ``STAGES`` of frames whose sides are multiples of 32 pixels, ``[N, C_v, h,
                w]``.
            audio: ``[N, audio_channels]``, the embedding of each frame's second.
            clip_lengths: frames of each clip, or one number for all.
        """
        maps = {stage: neck(features[stage]) for stage, neck in self.necks.items()}
        sounds = []
        for stage, block in self.blocks.items():
            maps[stage], sound = block(maps[stage], audio, clip_lengths)
            sounds.append(sound)
        path: Tensor | None = None
        for stage in reversed(STAGES):
            path = self.refine[stage](maps[stage], path)
        logits = self.head(path)[:, 0]
        return TPAVIOutput(logits, sounds, [F.relu(maps[stage]) for stage in self.blocks])
