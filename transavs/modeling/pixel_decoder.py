"""Pixel decoders: backbone features -> three maps for the queries and the per-pixel embedding.

TransAVS (arXiv 2305.07223) names none: it uses f_1, f_2, f_3 as they come and upsamples f_3 for
the masks. That is SimplePixelDecoder; the other two are the usual choices of the field.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from transavs.layers import FeedForwardLayer, sine_position_encoding
from transavs.layers.deformable_attention import MultiScaleDeformableAttention
from transavs.structures import PixelFeatures

PIXEL_DECODER_REGISTRY = Registry("PIXEL_DECODER")
PIXEL_DECODER_REGISTRY.__doc__ = """
Pixel decoders, called as ``decoder(cfg, input_shape)`` and then with a dict of features
``{"res2": [N, C_v, H/4, W/4], ... "res5"}``; they return :class:`PixelFeatures`. One that does not
read all four features says so in an attribute ``needed_features``.
"""

# Coarse to fine: f_1, f_2, f_3 at strides 32, 16 and 8.
_MEMORY_FEATURES = ("res5", "res4", "res3")


def build_pixel_decoder(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Returns the pixel decoder ``MODEL.PIXEL_DECODER.NAME``."""
    decoder: nn.Module = _registered(cfg)(cfg, input_shape)
    return decoder


def needed_features(cfg: CfgNode) -> tuple[str, ...]:
    """Returns the names of the features that the configured pixel decoder reads."""
    every = (*_MEMORY_FEATURES, "res2")
    if cfg.MODEL.META_ARCHITECTURE == "TPAVI":
        return every  # it has no pixel decoder
    names: tuple[str, ...] = getattr(_registered(cfg), "needed_features", every)
    return names


def _registered(cfg: CfgNode) -> Any:
    name = cfg.MODEL.PIXEL_DECODER.NAME
    if name not in PIXEL_DECODER_REGISTRY:
        known = ", ".join(sorted(known for known, _ in PIXEL_DECODER_REGISTRY))
        raise ValueError(f"MODEL.PIXEL_DECODER.NAME must be one of {known}, got {name!r}")
    return PIXEL_DECODER_REGISTRY.get(name)


def _projection(
    in_channels: int, channels: int, norm: str, kernel: int = 1, bias: bool = False
) -> nn.Sequential:
    """A convolution with its norm, whose bias stands in for the convolution's unless asked."""
    bias = bias or norm == ""
    convolution = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    layers: list[nn.Module] = [convolution]
    if norm:
        layers.append(get_norm(norm, channels))
    return nn.Sequential(*layers)


def _mask_projection(in_channels: int, channels: int) -> nn.Conv2d:
    """W_2 of Eq. (7), a 1x1 convolution, scaled so that first mask logits are of order one."""
    convolution = nn.Conv2d(in_channels, channels, 1)
    nn.init.normal_(convolution.weight, std=(in_channels * channels) ** -0.5)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


@PIXEL_DECODER_REGISTRY.register()
class SimplePixelDecoder(nn.Module):
    """The paper's letter: projections of f_1, f_2, f_3, and f_3 upsampled to stride 4."""

    needed_features = _MEMORY_FEATURES

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        channels, norm = cfg.MODEL.TRANSAVS.HIDDEN_DIM, cfg.MODEL.PIXEL_DECODER.NORM
        # Maps that a short query decoder never comes to would have projections without gradient.
        names = _MEMORY_FEATURES[: cfg.MODEL.TRANSAVS.DECODER_LAYERS]
        self.memory_proj = nn.ModuleDict(
            {name: _projection(_channels(input_shape, name), channels, norm) for name in names}
        )
        finest = _channels(input_shape, _MEMORY_FEATURES[-1])
        # The norm brings backbones of any scale to the same first mask logits.
        self.mask_norm = get_norm(norm, finest) if norm and finest % 32 == 0 else nn.Identity()
        self.mask_proj = _mask_projection(finest, channels)

    def forward(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Returns the maps and the per-pixel embedding of the features of N frames."""
        memory = [proj(features[name]) for name, proj in self.memory_proj.items()]
        finest = self.mask_proj(self.mask_norm(features[_MEMORY_FEATURES[-1]]))
        # A 1x1 convolution and bilinear upsampling commute: W_2 first is four times cheaper.
        upsampled = F.interpolate(finest, scale_factor=2, mode="bilinear", align_corners=False)
        return PixelFeatures(memory, upsampled)


@PIXEL_DECODER_REGISTRY.register()
class FPNPixelDecoder(nn.Module):
    """Feature pyramid: lateral projections, top-down sums, one 3x3 convolution a level."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        node = cfg.MODEL.PIXEL_DECODER
        channels, norm = cfg.MODEL.TRANSAVS.HIDDEN_DIM, node.NORM
        names = (*_MEMORY_FEATURES, "res2")
        self.lateral = nn.ModuleDict(
            {name: _projection(_channels(input_shape, name), channels, norm) for name in names}
        )
        kernels = {name: node.FINE_KERNEL if name == "res2" else 3 for name in names}
        self.output = nn.ModuleDict(
            {name: _projection(channels, channels, norm, kernels[name]) for name in names}
        )
        self.mask_proj = _mask_projection(channels, channels)

    def forward(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Returns the maps and the per-pixel embedding of the features of N frames."""
        maps: list[Tensor] = []
        for name, lateral in self.lateral.items():
            level = lateral(features[name])
            if maps:
                level = level + F.interpolate(maps[-1], level.shape[-2:], mode="nearest")
            maps.append(F.relu(self.output[name](level)))
        return PixelFeatures(maps[:-1], self.mask_proj(maps[-1]))


class _DeformableEncoderLayer(nn.Module):
    def __init__(self, channels: int, hidden: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(channels, levels, heads, points)
        self.norm = nn.LayerNorm(channels)
        self.feedforward = FeedForwardLayer(channels, hidden)

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        attended = self.attention(tokens + position, reference, tokens, shapes)
        return cast(Tensor, self.feedforward(self.norm(tokens + attended)))


@PIXEL_DECODER_REGISTRY.register()
class MSDeformAttnPixelDecoder(nn.Module):
    """Mask2Former's pixel decoder: deformable self-attention over strides 32, 16 and 8, then one
    lateral step to stride 4. With ``PROJECTION_BIAS`` it holds every tensor of theirs."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        node = cfg.MODEL.PIXEL_DECODER
        channels = cfg.MODEL.TRANSAVS.HIDDEN_DIM
        self.memory_proj = nn.ModuleDict(
            {
                name: _projection(
                    _channels(input_shape, name), channels, node.NORM, bias=node.PROJECTION_BIAS
                )
                for name in _MEMORY_FEATURES
            }
        )
        levels = len(_MEMORY_FEATURES)
        self.level = nn.Embedding(levels, channels)
        self.layers = nn.ModuleList(
            _DeformableEncoderLayer(
                channels,
                node.ENCODER_FEEDFORWARD_DIM,
                levels,
                cfg.MODEL.TRANSAVS.NUM_HEADS,
                node.ENCODER_POINTS,
            )
            for _ in range(node.ENCODER_LAYERS)
        )
        self.lateral = _projection(_channels(input_shape, "res2"), channels, node.NORM)
        self.output = _projection(channels, channels, node.NORM, kernel=3)
        self.mask_proj = _mask_projection(channels, channels)

    def forward(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Returns the maps and the per-pixel embedding of the features of N frames."""
        maps = [self.memory_proj[name](features[name]) for name in _MEMORY_FEATURES]
        shapes = [(int(level.shape[-2]), int(level.shape[-1])) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        positions = [
            sine_position_encoding(height, width, level.shape[1], level.device).flatten(1).T
            + self.level.weight[index]
            for index, (level, (height, width)) in enumerate(zip(maps, shapes, strict=True))
        ]
        position = torch.cat(positions).to(tokens.dtype)
        reference = _cell_centres(shapes, tokens.device).to(tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens, position, reference, shapes)
        parts = tokens.split([height * width for height, width in shapes], dim=1)
        memory = [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        fine = self.lateral(features["res2"])
        fine = fine + F.interpolate(
            memory[-1], fine.shape[-2:], mode="bilinear", align_corners=False
        )
        return PixelFeatures(memory, self.mask_proj(F.relu(self.output(fine))))


def _cell_centres(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """(x, y) in [0, 1] of the cells of all maps, ``[P, 2]``."""
    centres = []
    for height, width in shapes:
        rows = (torch.arange(height, device=device) + 0.5) / height
        columns = (torch.arange(width, device=device) + 0.5) / width
        grid = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack((grid[1], grid[0]), -1).flatten(0, 1))
    return torch.cat(centres)


def _channels(input_shape: dict[str, ShapeSpec], name: str) -> int:
    if name not in input_shape:
        raise ValueError(
            f"the pixel decoder needs the backbone's feature {name!r}; it has {list(input_shape)}. "
            "For a ResNet set MODEL.RESNETS.OUT_FEATURES to [res2, res3, res4, res5]"
        )
    return cast(int, input_shape[name].channels)
