"""Multi-scale deformable attention in plain PyTorch: nothing to compile, any device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiScaleDeformableAttention(nn.Module):
    """Each query reads a few learned points of every feature map (Deformable DETR).

    Args:
        channels: C.
        num_levels: feature maps.
        num_heads: heads; ``channels`` is a multiple of it.
        num_points: points a head reads in each map.
    """

    def __init__(self, channels: int, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels ({channels}) must be a multiple of num_heads ({num_heads})")
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(channels, samples * 2)
        self.attention_weights = nn.Linear(channels, samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        # At the start head k looks in its own direction, point p at p + 1 cells from the query.
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        reach = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * reach[:, None]
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for proj in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(proj.weight)
            nn.init.zeros_(proj.bias)

    def forward(
        self, queries: Tensor, reference: Tensor, memory: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Returns ``[N, P, C]``.

        Args:
            queries: ``[N, P, C]``.
            reference: ``[P, 2]``, (x, y) of each query in [0, 1].
            memory: ``[N, sum(h*w), C]``, the maps one after the other.
            shapes: (h, w) of each map.
        """
        batch, points = queries.shape[:2]
        value = self.value_proj(memory).unflatten(-1, (self.num_heads, -1))
        heads, levels, samples = self.num_heads, self.num_levels, self.num_points
        offsets = self.sampling_offsets(queries).view(batch, points, heads, levels, samples, 2)
        weights = self.attention_weights(queries).view(batch, points, heads, levels * samples)
        weights = weights.softmax(-1).view(batch, points, heads, levels, samples)
        sizes = torch.tensor([(w, h) for h, w in shapes]).to(queries.device, non_blocking=True)
        # Offsets count cells of each map.
        places = reference[:, None, None, None] + offsets / sizes[:, None].to(offsets.dtype)
        grids = (2 * places - 1).transpose(1, 2).flatten(0, 1)  # [N*heads, P, levels, samples, 2]
        maps = value.split([h * w for h, w in shapes], dim=1)
        read = []
        for level, (height, width) in enumerate(shapes):
            image = maps[level].permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (height, width))
            # [N*heads, C/heads, P, samples]
            read.append(F.grid_sample(image, grids[:, :, level], align_corners=False))
        sampled = torch.stack(read, dim=-2).flatten(-2)
        weights = weights.transpose(1, 2).flatten(0, 1).flatten(-2)[:, None]
        output = (sampled * weights).sum(-1).view(batch, -1, points).transpose(1, 2)
        return self.output_proj(output)
