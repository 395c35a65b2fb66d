"""Speed of inference, as a ratio to the limit: image backbone and audio encoder alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from transavs.engine.benchmark.clips import random_clips
from transavs.engine.benchmark.clock import (
    Clock,
    autocast,
    evaluation,
    measure_in_turn,
    median_ratio,
)
from transavs.engine.benchmark.memory import measure_memory
from transavs.modeling.clip_frames import batch_frames
from transavs.structures import QueryOutput


def limit_call(model: Any, clips: list[dict[str, Any]]) -> Callable[[], tuple[Any, Tensor]]:
    """Returns the limit as a call: the model's own image backbone and audio encoder, each once.

    Its input, normalised frames and log-mel examples, is made before.
    """
    images, _ = batch_frames(clips, model.pixel_mean, model.pixel_std, model.size_divisibility)
    audio = torch.cat([clip["audio"] for clip in clips]).to(model.device)

    def call() -> tuple[Any, Tensor]:
        return model.backbone(images), model.audio_encoder(audio)

    return call


@contextmanager
def claiming_queries(model: nn.Module, count: int) -> Iterator[None]:
    """Lets the first ``count`` queries of every frame say that they sound.

    Under random weights none does, and nothing would be left to do behind the decoder. A model
    without queries is left as it is.
    """
    decoder = getattr(model, "query_decoder", None)
    if decoder is None:
        yield
        return

    def claim(_module: nn.Module, _inputs: Any, outputs: list[QueryOutput]) -> None:
        logits = outputs[-1].class_logits
        logits[..., -1] = logits[..., :-1].amax(-1) + 1
        logits[:, :count, -1] -= 2

    hook = decoder.register_forward_hook(claim)
    try:
        yield
    finally:
        hook.remove()


def measure_inference(
    cfg: CfgNode,
    model: Any,
    *,
    batch: int,
    frames: int,
    size: tuple[int, int],
    precision: str,
    clock: Clock,
    repeats: int,
    claiming: int,
    memory: bool = True,
) -> dict[str, float]:
    """Returns the latency of a batch of clips, beside that of the limit.

    Args:
        cfg: of the model.
        model: takes clips.
        batch: clips at once.
        frames: of each clip.
        size: (H, W) of the frames.
        precision: out of ``PRECISIONS``.
        clock: reads the time.
        repeats: of the model and the limit, in turn.
        claiming: queries of a frame that claim to sound, see :func:`claiming_queries`.
        memory: measure the peak memory as well.

    Returns:
        ``seconds`` (of the batch, median), ``limit_seconds``, ``ratio`` (median of the rounds'
        ratios), ``seconds_per_clip``, ``clips_per_second``, ``frames_per_second``, and perhaps
        ``memory_bytes``.
    """
    clips = random_clips(cfg, batch, frames, size)
    with evaluation(model), autocast(precision, model.device), claiming_queries(model, claiming):
        calls = {"limit": limit_call(model, clips), "model": lambda: model(clips)}
        seconds = measure_in_turn(calls, clock, repeats)
        used = measure_memory(calls["model"], model.device) if memory else None
    median = statistics.median(seconds["model"])
    found = {
        "batch": batch,
        "seconds": median,
        "limit_seconds": statistics.median(seconds["limit"]),
        "ratio": median_ratio(seconds["model"], seconds["limit"]),
        "seconds_per_clip": median / batch,
        "clips_per_second": batch / median,
        "frames_per_second": batch * frames / median,
    }
    if used is not None:
        found["memory_bytes"] = used.peak
    return found
