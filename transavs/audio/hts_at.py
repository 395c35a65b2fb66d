"""HTS-AT, the Swin transformer that hears, on top of timm's Swin.

"HTS-AT: A Hierarchical Token-Semantic Audio Transformer" (arXiv 2202.00874); CLAP's audio branch
(arXiv 2211.06687) is the same network trained with text. Only what leads to the embedding is here:
the classifier of AudioSet is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from transavs.audio.encoder_base import AudioEncoder
from transavs.audio.hts_at_log_mel import MEL_BANDS, HTSATLogMel, mel_matrix
from transavs.pretrained.formats import CLAP_HTS_AT, HTS_AT

# The network sees 10.24 s as a square picture: four quarters of the time, one above the other.
PICTURE_SIZE = 256
QUARTERS = PICTURE_SIZE // MEL_BANDS
PICTURE_WINDOWS = PICTURE_SIZE * QUARTERS


class HTSAT(AudioEncoder):
    """HTS-AT of AudioSet (32 kHz): 768 channels a second, 27.5 M parameters.

    Each second is embedded alone. As the authors do with short sounds, it is repeated to the
    length that the network was trained on.

    Args:
        embed_dim: channels of the first stage.
        depths: blocks of each stage.
        num_heads: of each stage.
    """

    embedding_dim = 768
    front_end = HTSATLogMel(32_000)
    weights_format = HTS_AT
    released_weights = (
        "`HTSAT_AudioSet_Saved_1.ckpt` of the authors (RetroCirce/HTS-Audio-Transformer on GitHub)"
    )

    def __init__(
        self,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
    ) -> None:
        super().__init__()
        self.embedding_dim = embed_dim << (len(depths) - 1)
        self.batch_norm = nn.BatchNorm2d(MEL_BANDS)
        self.swin = SwinTransformer(
            img_size=PICTURE_SIZE,
            patch_size=4,
            in_chans=1,
            num_classes=0,
            global_pool="",
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=8,
        )

    def embed(self, examples: Tensor) -> Tensor:
        # Norm over mel bands, as channels.
        normed = self.batch_norm(examples.transpose(1, 3)).transpose(1, 3)
        repeated = normed.repeat(1, 1, PICTURE_WINDOWS // normed.shape[2], 1)
        stretched = F.interpolate(
            repeated, (PICTURE_WINDOWS, MEL_BANDS), mode="bicubic", align_corners=True
        )
        # [S, 1, 1024, 64] -> [S, 1, 256, 256]: mel bands of the first quarter, of the second ...
        quarters = stretched.unflatten(2, (QUARTERS, PICTURE_SIZE)).squeeze(1)
        picture = quarters.transpose(2, 3).flatten(1, 2)[:, None]
        return self.swin.forward_features(picture).flatten(1, 2).mean(1)

    def check_file(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Raises ValueError for a file whose own mel filters are for another sample rate."""
        rate_hz = self.front_end.sample_rate_hz
        ours = mel_matrix(rate_hz)
        for name, theirs in tensors.items():
            if name.endswith("logmel_extractor.melW") and (
                theirs.shape != ours.shape or (theirs - ours).abs().max() > 1e-2 * ours.abs().max()
            ):
                raise ValueError(
                    f"{source} does not fit {type(self).__name__}: its mel filters are not those "
                    f"of sounds at {rate_hz} Hz. HTS-AT of AudioSet needs MODEL.AUDIO.NAME HTSAT "
                    "(32 kHz), CLAP needs CLAPHTSAT (48 kHz)"
                )


class CLAPHTSAT(HTSAT):
    """The audio branch of CLAP (48 kHz, without fusion), before its projection to text."""

    front_end = HTSATLogMel(48_000)
    weights_format = CLAP_HTS_AT
    released_weights = (
        "`630k-audioset-best.pt` of LAION-CLAP, or the `model.safetensors` of clap-htsat-unfused"
    )
