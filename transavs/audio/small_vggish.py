"""SmallVGGish: a light audio encoder that trains on a CPU within minutes.

It shares VGGish's interface, not its weights: train it along with the model or pretrain it.
"""

from __future__ import annotations

from torch import Tensor, nn

from transavs.audio.encoder_base import AudioEncoder
from transavs.audio.log_mel import MEL_BANDS, SILENCE_LOG_MEL

# Log-mel values lie between ln 0.01 = -4.6 (silence) and about 5. The network sees silence as 0,
# so that the zeros which convolutions pad with are silence too, and everyday sound at about 1.
LOG_MEL_SCALE = 3.0

# (channels, stride) of the convolutions. Halving the patch at once keeps an example cheap.
CONVOLUTIONS = ((24, 2), (48, 2), (96, 2), (224, 2), (288, 1))


class SmallVGGish(AudioEncoder):
    """Five 3x3 convolutions with batch norm, pooled over time: 128 channels, 1.0 M parameters.

    Only time is pooled (mean plus maximum: what goes on, and what happens once). The four
    frequency bands that are left stay apart, since low and high sounds are different things.
    Embeddings have either sign.
    """

    embedding_dim = 128

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, bands = 1, MEL_BANDS
        for width, stride in CONVOLUTIONS:
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels, bands = width, bands // stride
        self.features = nn.Sequential(*layers)
        self.embedding = nn.Linear(channels * bands, self.embedding_dim)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                # Keeps the signal's size through the stack before batch norm has seen any data.
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def embed(self, examples: Tensor) -> Tensor:
        if examples.shape[0] == 0:  # batch norm in training has no statistics of nothing
            return examples.new_zeros((0, self.embedding_dim))
        features = self.features((examples - SILENCE_LOG_MEL) / LOG_MEL_SCALE)  # [S, C, 6, 4]
        pooled = features.mean(dim=2) + features.amax(dim=2)
        return self.embedding(pooled.flatten(1))
