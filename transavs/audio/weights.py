"""Weights of audio encoders: read a file, check every tensor, load it."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from transavs.utils.lightning_checkpoint import load_lightning_checkpoint
from transavs.utils.plain_tensors import is_plain, is_same_kind
from transavs.utils.torch_files import load_tensors, refusal

logger = logging.getLogger(__name__)

# torchaudio's former VGGISH bundle holds the same layers under other names.
TORCHAUDIO_PREFIXES = {"features_network.": "features.", "embedding_network.": "embeddings."}
LISTED_NAMES = 8


def load_encoder_weights(encoder: nn.Module, path: str | os.PathLike[str]) -> None:
    """Fills an encoder with the weights of a file, all of them or none.

    Args:
        encoder: an ``AudioEncoder``.
        path: a ``.safetensors`` file, or a flat dictionary of tensors saved by ``torch.save``
            (``.pth``; ``vggish-10086976.pth`` is one), also one that lies under ``state_dict`` or
            ``model`` beside other things. The names of torchaudio's bundle, and what the encoder's
            ``rename_weights`` knows, are translated. "" loads nothing and logs that the encoder is
            random.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or a tensor is missing, unexpected, of another shape or not finite.
    """
    if not os.fspath(path):
        report_random_weights(encoder, "MODEL.AUDIO.WEIGHTS is empty")
        return
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"no audio encoder weights at {file}: mend MODEL.AUDIO.WEIGHTS"
            + _where_to_get_weights(encoder)
        )
    rename = getattr(encoder, "rename_weights", None)
    tensors = _read_tensors(file)
    left: dict[str, str] = {}
    try:
        if rename:
            tensors, left = rename(tensors)
    except ValueError as error:
        raise ValueError(f"{file} does not fit {type(encoder).__name__}: {error}") from error
    tensors = {_own_name(name): tensor for name, tensor in tensors.items()}
    # Counters of batches, which files of frozen encoders may lack, change no embedding.
    counters = [name for name in encoder.state_dict() if name.endswith("num_batches_tracked")]
    tensors |= {name: encoder.state_dict()[name] for name in counters if name not in tensors}
    _check_tensors(encoder.state_dict(), tensors, file, type(encoder).__name__)
    encoder.load_state_dict(tensors)
    logger.info("Loaded %d tensors of %s from %s", len(tensors), type(encoder).__name__, file)
    for reason in sorted(set(left.values())):
        names = [name for name in left if left[name] == reason]
        logger.info("%d left, %s: %s", len(names), reason, _listed(names))


def report_random_weights(encoder: nn.Module, reason: str) -> None:
    """Logs that an encoder has no weights, and loudly where that makes it useless.

    Args:
        encoder: an ``AudioEncoder``.
        reason: begins the message.
    """
    name = type(encoder).__name__
    where = _where_to_get_weights(encoder)
    if getattr(encoder, "frozen", False):
        logger.warning(
            "%s and %s is frozen: unless a checkpoint loaded next holds it, it stays RANDOM and "
            "its embeddings mean nothing%s",
            reason,
            name,
            where,
        )
    elif where:
        logger.warning("%s: %s starts from RANDOM weights%s", reason, name, where)
    else:
        logger.info("%s: %s is trained from scratch", reason, name)


def _where_to_get_weights(encoder: nn.Module) -> str:
    released = getattr(encoder, "released_weights", "")
    return f"; get {released} and set MODEL.AUDIO.WEIGHTS to its path" if released else ""


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(file, device="cpu")
        elif file.suffix == ".ckpt":
            tensors = load_lightning_checkpoint(file)
        else:
            tensors = load_tensors(file)
    except pickle.UnpicklingError as error:
        raise ValueError(f"cannot read {file} as weights: {refusal(error)}") from None
    except Exception as error:  # each format has exceptions of its own, down to KeyError
        raise ValueError(
            f"cannot read {file} as weights ({type(error).__name__}: {error}): "
            "expected a .safetensors file or a dictionary of tensors saved by "
            "torch.save; fetch it again"
        ) from error
    if not isinstance(tensors, dict):
        raise ValueError(
            f"expected a dictionary of tensors in {file}, got {type(tensors).__name__}"
        )
    for wrapper in ("state_dict", "model"):
        inner: Any = tensors.get(wrapper)
        if isinstance(inner, dict):
            tensors = inner
    odd = [
        str(name)
        for name, value in tensors.items()
        if not isinstance(name, str) or not is_plain(value)
    ]
    if odd:
        raise ValueError(
            f"expected a flat dictionary of dense tensors by name in {file}, but these entries are "
            f"none: {_listed(odd)}; save the encoder's state_dict() alone, neither quantised nor "
            "sparse"
        )
    return tensors


def _own_name(name: str) -> str:
    for prefix, own in TORCHAUDIO_PREFIXES.items():
        if name.startswith(prefix):
            return own + name.removeprefix(prefix)
    return name


def _check_tensors(
    expected: dict[str, Tensor], tensors: dict[str, Tensor], file: Path, encoder_name: str
) -> None:
    shared = [name for name in expected if name in tensors]
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} (expected {list(expected[name].shape)}, got {list(tensors[name].shape)})"
            for name in shared
            if expected[name].shape != tensors[name].shape
        ],
        "of another type": [
            f"{name} (expected {expected[name].dtype}, got {tensors[name].dtype})"
            for name in shared
            if not is_same_kind(tensors[name], expected[name])
        ],
        "not finite": [name for name in shared if not torch.isfinite(tensors[name]).all()],
    }
    found = [f"{what}: {_listed(names)}" for what, names in problems.items() if names]
    if found:
        raise ValueError(
            f"{file} does not fit {encoder_name}; tensors " + "; ".join(found) + ". "
            "Check that MODEL.AUDIO.NAME and MODEL.AUDIO.WEIGHTS belong together"
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(names[:LISTED_NAMES]) + more
