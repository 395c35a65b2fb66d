"""A simple feature pyramid: four maps from the single map of a plain vision transformer.

After "Exploring Plain Vision Transformer Backbones for Object Detection" (arXiv 2203.16527),
section 3: every map comes from the last one, by transposed convolutions or pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.layers import get_norm
from torch import Tensor, nn

# Stride of a plain transformer's map, in pixels.
PLAIN_STRIDE = 16


class SimpleFeaturePyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 from one at stride 16.

    Args:
        in_channels: of the map, a multiple of 4.
        channels: of the results.
        strides: which to make, out of these four.
    """

    def __init__(
        self, in_channels: int, channels: int, strides: Sequence[int] = (4, 8, 16, 32)
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleDict(
            {str(stride): _level(in_channels, channels, stride) for stride in strides}
        )

    def forward(self, features: Tensor) -> dict[int, Tensor]:
        """Returns stride -> map ``[N, channels, H/stride, W/stride]``.

        Args:
            features: ``[N, in_channels, H/16, W/16]`` of even height and width.
        """
        return {int(stride): level(features) for stride, level in self.levels.items()}


def _level(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    half, quarter = in_channels // 2, in_channels // 4
    scale: dict[int, tuple[list[nn.Module], int]] = {
        4: (
            [
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                get_norm("LN", half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ],
            quarter,
        ),
        8: ([nn.ConvTranspose2d(in_channels, half, 2, stride=2)], half),
        16: ([], in_channels),
        32: ([nn.MaxPool2d(2)], in_channels),
    }
    layers, width = scale[stride]
    return nn.Sequential(
        *layers,
        nn.Conv2d(width, channels, 1, bias=False),
        get_norm("LN", channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        get_norm("LN", channels),
    )
