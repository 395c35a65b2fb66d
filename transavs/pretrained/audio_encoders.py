"""Weights of audio encoders: MODEL.AUDIO.WEIGHTS fills the encoder with all of a file or none."""

from __future__ import annotations

import logging
import os
from typing import Any

from torch import nn

from transavs.pretrained.conversion import convert, listed
from transavs.pretrained.files import read_weights
from transavs.pretrained.formats import VGGISH

logger = logging.getLogger(__name__)

_PART = "audio_encoder."


def load_encoder_weights(encoder: nn.Module, path: str | os.PathLike[str]) -> None:
    """Fills an encoder with the weights of a file, all of them or none.

    Args:
        encoder: an ``AudioEncoder``; its ``weights_format`` translates the names of the file.
        path: as ``transavs.pretrained.read_weights`` takes it. "" loads nothing and logs that the
            encoder is random.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or a tensor is missing, unexpected, of another shape or not finite.
    """
    if not os.fspath(path):
        report_random_weights(encoder, "MODEL.AUDIO.WEIGHTS is empty")
        return
    name = type(encoder).__name__
    try:
        tensors = read_weights(path, "MODEL.AUDIO.WEIGHTS")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{_where_to_get_weights(encoder)}") from None
    check: Any = getattr(encoder, "check_file", None)
    if check is not None:
        check(tensors, os.fspath(path))
    own = encoder.state_dict()
    expected = {f"{_PART}{key}": tensor for key, tensor in own.items()}
    conversion = convert(tensors, getattr(encoder, "weights_format", VGGISH), expected)
    conversion.check(os.fspath(path), name)
    parameters = {f"{_PART}{key}" for key, _ in encoder.named_parameters()}
    random = [key for key in conversion.fresh if key in parameters]
    if random and getattr(encoder, "frozen", False):
        raise ValueError(
            f"{path} does not fit {name}: it lacks {listed(random)}, which MODEL.AUDIO.FREEZE True "
            f"would keep random; {conversion.fresh[random[0]]}"
        )
    filled = {key.removeprefix(_PART): value for key, value in conversion.tensors.items()}
    encoder.load_state_dict(own | filled)
    logger.info("Loaded %s from %s: %s", name, path, conversion.report())


def report_random_weights(encoder: nn.Module, reason: str) -> None:
    """Logs that an encoder has no weights, and loudly where that makes it useless.

    Args:
        encoder: an ``AudioEncoder``.
        reason: begins the message.
    """
    name, where = type(encoder).__name__, _where_to_get_weights(encoder)
    if getattr(encoder, "frozen", False):
        logger.warning(
            "%s and %s is frozen: unless a checkpoint loaded next holds it, it stays RANDOM and "
            "its embeddings mean nothing%s",
            *(reason, name, where),
        )
    elif where:
        logger.warning("%s: %s starts from RANDOM weights%s", reason, name, where)
    else:
        logger.info("%s: %s is trained from scratch", reason, name)


def _where_to_get_weights(encoder: nn.Module) -> str:
    released: Any = getattr(encoder, "released_weights", "")
    return f"; get {released} and set MODEL.AUDIO.WEIGHTS to its path" if released else ""
