"""Names of HTS-AT's weights as its authors, LAION-CLAP and transformers publish them."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from transavs.audio.hts_at_log_mel import mel_matrix

# Longest first. What the audio branch is called, and what else such files hold.
_PREFIXES = (
    "module.audio_branch.",
    "audio_branch.",
    "audio_model.audio_encoder.",
    "audio_encoder.",
    "sed_model.",
)
_OTHERS = re.compile(
    r"(module\.)?(text_branch|text_transform|text_projection|text_model|audio_transform|"
    r"audio_projection|logit_scale|token_embedding|positional_embedding|ln_final|transformer)"
)
# Tensors that follow from the size of the picture.
_DERIVED = ("relative_position_index", "attn_mask", "num_batches_tracked")
_BLOCK_OF_TRANSFORMERS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.self.relative_position_bias_table": "attn.relative_position_bias_table",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def rename_hts_at(
    tensors: dict[str, Tensor], sample_rate_hz: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors under the names of ``HTSAT``, and what is left with the reasons.

    Args:
        tensors: of a published file.
        sample_rate_hz: of the encoder's front-end, which the file's own mel matrix must agree with.

    Raises:
        ValueError: the file is for another sample rate, or for CLAP with fusion.
    """
    own: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    packed: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if _OTHERS.match(name):
            left[name] = "not of the audio branch"
            continue
        inner = next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), name)
        if inner == "logmel_extractor.melW":
            _check_mel_matrix(tensor, sample_rate_hz)
        reason = _reason_to_leave(inner)
        if reason:
            left[name] = reason
            continue
        part = re.fullmatch(r"(.+)\.attention\.self\.(query|key|value)\.(weight|bias)", inner)
        if part:
            packed.setdefault(f"{part[1]}.attn.qkv.{part[3]}", {})[part[2]] = tensor
        else:
            own[_timm_name(inner)] = tensor
    for name, parts in packed.items():
        if len(parts) == 3:
            own[_timm_name(name)] = torch.cat([parts[key] for key in ("query", "key", "value")])
        else:
            own |= {f"{name} ({key})": tensor for key, tensor in parts.items()}
    return own, left


def _reason_to_leave(name: str) -> str | None:
    if name.startswith(("spectrogram_extractor.", "logmel_extractor.")):
        return "the front-end computes this"
    if name.startswith(("tscam_conv.", "head.")):
        return "the classifier of AudioSet"
    if name.endswith(_DERIVED):
        return "follows from the architecture, or counts training steps"
    if "mel_conv2d" in name or "fusion_model" in name:
        raise ValueError(
            f"the file holds {name}: it is of CLAP with feature fusion, which is not supported; "
            "take the one without (unfused)"
        )
    return None


def _timm_name(name: str) -> str:
    if name.startswith(("bn0.", "batch_norm.")):
        return f"batch_norm.{name.partition('.')[2]}"
    block = re.fullmatch(r"(layers\.\d+\.blocks\.\d+)\.(.+)", name)
    if block:
        inner = block[2]
        for foreign, own in _BLOCK_OF_TRANSFORMERS.items():
            if inner == foreign or inner.startswith(f"{foreign}."):
                inner = own + inner.removeprefix(foreign)
                break
        name = f"{block[1]}.{inner}"
    # Here a stage ends with its downsampling; in timm the next one begins with it.
    name = re.sub(
        r"^layers\.(\d+)\.downsample\.",
        lambda match: f"layers.{int(match[1]) + 1}.downsample.",
        name,
    )
    return f"swin.{name}"


def _check_mel_matrix(matrix: Tensor, sample_rate_hz: int) -> None:
    ours = mel_matrix(sample_rate_hz)
    if matrix.shape != ours.shape or (matrix - ours).abs().max() > 1e-2 * ours.abs().max():
        raise ValueError(
            f"its own mel filters are not those of sounds at {sample_rate_hz} Hz: HTS-AT of "
            "AudioSet needs MODEL.AUDIO.NAME HTSAT (32 kHz), CLAP needs CLAPHTSAT (48 kHz)"
        )
