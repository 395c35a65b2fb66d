"""Agreement of sound and picture: an explicit loss against masks that ignore the sound.

Not part of TransAVS. AVSBench-Robust (arXiv 2502.00358) found such a loss, and not negative audio
alone, to make a model depend on its sound.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transavs.losses.processes import mean_over_processes
from transavs.structures import FrameTargets

# Cosines are multiplied by this at the start of training.
_INITIAL_SCALE = 10.0


class AudioVisualAlignmentLoss(nn.Module):
    """Cross-entropy of scaled cosines between the sound of a frame and places of its picture.

    Both sides are projected to one space. A frame whose sound has a visible source gives a positive
    pair, its sound and the mean feature within the true masks; every frame gives a negative pair,
    its sound and the mean feature of the rest of the picture, which is all of it under negative
    audio. The means of both kinds of pairs, over all processes, count alike.

    Args:
        audio_channels: of an audio embedding.
        channels: of the per-pixel embedding, and of the common space.
    """

    def __init__(self, audio_channels: int, channels: int) -> None:
        super().__init__()
        self.audio_proj = nn.Linear(audio_channels, channels)
        self.pixel_proj = nn.Linear(channels, channels)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE)))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(
        self, audio: Tensor, pixels: Tensor, targets: FrameTargets, num_sounding: int
    ) -> Tensor:
        """Returns the loss, a scalar.

        Args:
            audio: float ``[N, audio_channels]``, the embedding of each frame's own second.
            pixels: float ``[N, C, h, w]``, the per-pixel embedding.
            targets: of the N frames; classes from ``num_sounding`` on (the background) sound not.
            num_sounding: number of sounding classes.
        """
        sounding = targets.masks & (targets.classes < num_sounding)[:, :, None, None]
        union = sounding.any(1).float()[:, None]
        inside = F.interpolate(union, pixels.shape[-2:], mode="area").flatten(1)
        features = pixels.float().flatten(2)
        sound = F.normalize(self.audio_proj(audio.float()), dim=-1)
        scores = []
        for weights in (inside, 1 - inside):
            mean = (features * weights[:, None]).sum(2) / weights.sum(1, keepdim=True).clamp(1e-6)
            place = F.normalize(self.pixel_proj(mean), dim=-1)
            scores.append((sound * place).sum(1) * self.log_scale.exp() + self.bias)
        has_source = (inside.sum(1) > 0).float()
        sources = mean_over_processes(has_source.sum(), has_source.device)
        frames = mean_over_processes(len(audio), has_source.device)
        positive = (F.softplus(-scores[0]) * has_source).sum() / sources
        return (positive + F.softplus(scores[1]).sum() / frames) / 2
