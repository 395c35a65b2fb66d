"""Embeddings of the sounds of a batch, by the encoder or computed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from transavs.audio import AudioEncoder


def embed_clips(
    encoder: AudioEncoder,
    clips: Sequence[dict[str, Any]],
    device: torch.device,
    seconds: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Returns F_a of each clip, float32 ``[T, D]`` where the encoder is frozen.

    A frozen encoder is asked clip by clip and in full precision: how many clips a batch has moves
    the last bits of a result, and what was precomputed must be the same numbers.

    Args:
        encoder: of the model.
        clips: each with ``audio`` or ``audio_embeddings``.
        device: where the results live.
        seconds: of each clip, which to embed, int64 ``[F]``; None: all.

    Raises:
        ValueError: precomputed embeddings are those of another encoder.
    """
    given: list[Tensor | None] = []
    for clip in clips:
        embeddings = clip.get("audio_embeddings")
        if embeddings is not None:
            _check_origin(clip, encoder)
        given.append(embeddings)
    if seconds is None:
        seconds = [torch.arange(clip_seconds(clip)) for clip in clips]
    examples = {
        row: clip["audio"][seconds[row]].to(device, non_blocking=True)
        for row, clip in enumerate(clips)
        if given[row] is None
    }
    computed: dict[int, Tensor] = {}
    if encoder.frozen:
        with torch.autocast(device.type, enabled=False):
            computed = {row: encoder(own) for row, own in examples.items()}
    elif examples:
        # Batch norm in training looks at all of them.
        joined = encoder(torch.cat(list(examples.values())))
        parts = joined.split([len(own) for own in examples.values()])
        computed = dict(zip(examples, parts, strict=True))
    return [
        computed[row] if own is None else own[seconds[row]].to(device, non_blocking=True)
        for row, own in enumerate(given)
    ]


def clip_seconds(clip: dict[str, Any]) -> int:
    """Returns how many seconds of sound a clip has."""
    return len(clip["audio"] if clip.get("audio_embeddings") is None else clip["audio_embeddings"])


def _check_origin(clip: dict[str, Any], encoder: AudioEncoder) -> None:
    path, made_by = clip["audio_embeddings_of"]
    if not encoder.frozen:
        raise ValueError(
            f"the precomputed embeddings {path} need a frozen encoder: set MODEL.AUDIO.FREEZE "
            "True, or leave INPUT.AUDIO_EMBEDDINGS empty"
        )
    width = clip["audio_embeddings"].shape[-1]
    if width != encoder.embedding_dim:
        raise ValueError(
            f"the precomputed embeddings {path} have {width} channels, expected "
            f"{encoder.embedding_dim}: delete the file and compute it again with "
            "tools/precompute_audio.py"
        )
    if made_by != encoder.identity():
        raise ValueError(
            f"the precomputed embeddings {path} are of another encoder: they were made by "
            f"{made_by!r}, this model has {encoder.identity()!r}. Compute them again with "
            "tools/precompute_audio.py, or leave INPUT.AUDIO_EMBEDDINGS empty"
        )
