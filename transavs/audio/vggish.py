"""VGGish: the audio encoder of TransAVS (arXiv 2305.07223, section 2) and of AVSBench.

Layer names and order follow the public PyTorch port (torchvggish), so that its weights load.
"""

from __future__ import annotations

from torch import Tensor, nn

from transavs.audio.encoder_base import AudioEncoder


class VGGish(AudioEncoder):
    """Six 3x3 convolutions and three linear layers: 128 channels, 72 141 184 parameters.

    Embeddings are >= 0: the last ReLU belongs to the released weights. AVS systems use neither
    the PCA nor the quantisation of the AudioSet release, and there is none here.
    """

    embedding_dim = 128
    released_weights = (
        "`vggish-10086976.pth`, a file of the torchvggish project's release v0.1 "
        "(harritaylor/torchvggish on GitHub)"
    )

    def __init__(self) -> None:
        super().__init__()
        # An example [1, 96, 64] becomes [512, 6, 4] after four poolings.
        self.features = nn.Sequential(
            *_convolution(1, 64),
            nn.MaxPool2d(2),
            *_convolution(64, 128),
            nn.MaxPool2d(2),
            *_convolution(128, 256),
            *_convolution(256, 256),
            nn.MaxPool2d(2),
            *_convolution(256, 512),
            *_convolution(512, 512),
            nn.MaxPool2d(2),
        )
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, self.embedding_dim),
            nn.ReLU(inplace=True),
        )

    def start_pretraining(self) -> None:
        """He's weights: PyTorch's own shrink what comes in to a thousandth in nine layers."""
        for name, values in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(values, nonlinearity="relu")
            else:
                nn.init.zeros_(values)

    def embed(self, examples: Tensor) -> Tensor:
        features = self.features(examples)  # [S, 512, 6, 4]
        # The released weights stem from TensorFlow, which flattens channels last.
        return self.embeddings(features.permute(0, 2, 3, 1).flatten(1))


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(inplace=True)]
