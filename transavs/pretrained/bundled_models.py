"""Bundled models: the trained parts of a network in one small file, without its image backbone.

A frozen backbone with public weights needs no copy in every file. The file holds a fingerprint of
it instead, and can only be loaded into a model that has the same one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor, nn

from transavs.utils.fingerprint import fingerprint

BACKBONE = "backbone."
# Needed in training alone: a file may lack them, or hold more of them than the model.
TRAINING_ONLY = ("criterion.", "agreement_loss.")
FORMAT = "transavs-trained-parts"
# Of a converted file: what its metadata calls it, and the tensors of the model that it lacks.
CONVERTED_FORMAT = "transavs-starting-weights"
FRESH = "fresh"
_FINGERPRINT = "backbone_fingerprint"


def pack_trained_parts(model: nn.Module, notes: Mapping[str, str], half: bool = False) -> bytes:
    """Returns the content of a ``.safetensors`` file with all that evaluation needs of a model.

    Args:
        model: not in the wrapper of several processes; its backbone is left out, as is what only
            training needs.
        notes: entries of the file's metadata.
        half: store weights as float16. Vectors (biases, norms, running statistics) keep their
            type: they are small, and some have values that float16 cannot hold.

    Raises:
        ValueError: a weight is too large for float16, or not finite.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.startswith((BACKBONE, *TRAINING_ONLY)):
            continue
        tensor = tensor.detach().cpu().contiguous()
        if half and tensor.is_floating_point() and tensor.dim() > 1:
            tensor = tensor.half()
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f"{name} has values that are not finite" + (" in float16" if half else "")
            )
        tensors[name] = tensor
    backbone = model.get_submodule(BACKBONE.removesuffix("."))
    metadata = {**notes, "format": FORMAT, _FINGERPRINT: fingerprint(backbone)}
    return bytes(safetensors.torch.save(tensors, metadata))


def read_safetensors(path: str) -> dict[str, Any]:
    """Returns the tensors of a ``.safetensors`` file, on the CPU.

    Those of a bundled model come as float32, as ``{"model": tensors, "backbone_fingerprint":
    str}``; converted ones (``transavs.pretrained.conversion``) as ``{"model": tensors, "fresh":
    names}``; any other file as a flat dict.
    """
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    metadata = read_notes(path)
    if metadata.get("format") == CONVERTED_FORMAT:
        return {"model": tensors, FRESH: json.loads(metadata.get(FRESH, "[]"))}
    if metadata.get("format") != FORMAT:
        return tensors
    model = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    return {"model": model, _FINGERPRINT: metadata.get(_FINGERPRINT, "")}


def read_notes(path: str) -> dict[str, str]:
    """Returns the metadata of a ``.safetensors`` file."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def add_own_backbone(checkpoint: dict[str, Any], model: nn.Module, source: str) -> None:
    """Completes what was read of a bundled model by the backbone that ``model`` was built with.

    Does nothing to any other checkpoint.

    Args:
        checkpoint: of :func:`read_safetensors`; changed in place.
        model: about to be filled.
        source: of the checkpoint, for the message.

    Raises:
        ValueError: the model's backbone is not the one that the bundled model was trained with.
    """
    expected = checkpoint.pop(_FINGERPRINT, None)
    if expected is None:
        return
    own = getattr(model, "backbone", None)
    if own is None or fingerprint(own) != expected:
        raise ValueError(
            f"{source} holds a model without its image backbone, which must come from the "
            "configuration, and this configuration builds another one (or random weights). "
            "Evaluate it with the configuration that it was trained with: MODEL.BACKBONE.NAME "
            "build_timm_backbone, MODEL.TIMM.WEIGHTS packaged, as in configs/demo"
        )
    checkpoint["model"] |= {f"{BACKBONE}{name}": value for name, value in own.state_dict().items()}
