"""The registry of audio encoders: ``MODEL.AUDIO.NAME`` picks one."""

from __future__ import annotations

import os
from typing import Any

from fvcore.common.config import CfgNode
from fvcore.common.registry import Registry

from transavs.audio.encoder_base import AudioEncoder
from transavs.audio.front_end import VGGISH_LOG_MEL, FrontEnd
from transavs.audio.hts_at import CLAPHTSAT, HTSAT
from transavs.audio.no_audio import NoAudio
from transavs.audio.small_vggish import SmallVGGish
from transavs.audio.vggish import VGGish
from transavs.audio.yamnet import YAMNet
from transavs.pretrained.audio_encoders import load_encoder_weights, report_random_weights

AUDIO_ENCODER_REGISTRY = Registry("AUDIO_ENCODER")
AUDIO_ENCODER_REGISTRY.__doc__ = """
Audio encoders by name. An entry is a subclass of ``AudioEncoder``, built by its ``from_config``,
or a function of ``cfg`` that returns an ``AudioEncoder``; a function whose encoder does not take
VGGish's log-mel has an attribute ``front_end``, too.
"""

AUDIO_ENCODER_REGISTRY.register(VGGish)
AUDIO_ENCODER_REGISTRY.register(SmallVGGish)
AUDIO_ENCODER_REGISTRY.register(NoAudio)
AUDIO_ENCODER_REGISTRY.register(HTSAT)
AUDIO_ENCODER_REGISTRY.register(CLAPHTSAT)
AUDIO_ENCODER_REGISTRY.register(YAMNet)


def build_audio_encoder(cfg: CfgNode) -> AudioEncoder:
    """Returns the audio encoder of a configuration, with its weights.

    Args:
        cfg: reads ``MODEL.AUDIO.NAME`` (a name in ``AUDIO_ENCODER_REGISTRY``), ``WEIGHTS`` (a file
            for ``load_encoder_weights``; "" or a file that is not there leaves the encoder random,
            with a loud warning) and ``FREEZE`` (bool).

    Returns:
        a module with ``embedding_dim`` that maps its front-end's examples, such as
        ``[S, 1, 96, 64]``, to ``[S, embedding_dim]``.
        Frozen, its parameters need no gradient, it runs without one, and it stays in evaluation
        mode whatever its parent's ``train()`` says.

    Raises:
        ValueError: an unknown name, or weights that do not fit.
    """
    name, weights, freeze = cfg.MODEL.AUDIO.NAME, cfg.MODEL.AUDIO.WEIGHTS, cfg.MODEL.AUDIO.FREEZE
    entry = _registered(name)
    encoder = getattr(entry, "from_config", entry)(cfg)
    if not isinstance(encoder, AudioEncoder):
        raise TypeError(
            f"the audio encoder {name!r} must be an AudioEncoder, got {type(encoder).__name__}: "
            "subclass transavs.audio.AudioEncoder"
        )
    if freeze:
        encoder.freeze()
    if not encoder.state_dict():
        return encoder
    if weights and not os.path.isfile(weights):
        # A model can be built, measured or filled from a checkpoint without this file; training
        # from such an encoder is what the warning is about.
        report_random_weights(encoder, f"MODEL.AUDIO.WEIGHTS: no file {weights}")
    else:
        load_encoder_weights(encoder, weights)
    return encoder


def build_front_end(cfg: CfgNode) -> FrontEnd:
    """Returns the front-end of the encoder ``MODEL.AUDIO.NAME``, without building the encoder.

    Raises:
        ValueError: an unknown name.
    """
    entry = _registered(cfg.MODEL.AUDIO.NAME)
    front_end: FrontEnd = getattr(entry, "front_end", VGGISH_LOG_MEL)
    return front_end


def _registered(name: str) -> Any:
    if name not in AUDIO_ENCODER_REGISTRY:
        known = ", ".join(sorted(known for known, _ in AUDIO_ENCODER_REGISTRY))
        raise ValueError(f"MODEL.AUDIO.NAME must be one of {known}, got {name!r}")
    return AUDIO_ENCODER_REGISTRY.get(name)
