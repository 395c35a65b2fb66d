"""Parameters and multiply-accumulates of a model, counted by fvcore."""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn

from transavs.engine.benchmark.clips import random_clips
from transavs.engine.benchmark.clock import evaluation

# Of a bilinear sample: four neighbours, and the weight by which deformable attention, the only
# place that samples, adds it up.
_MACS_OF_A_SAMPLE = 5


class _TensorsToClip(nn.Module):
    """The model as a function of tensors, which is what a tracer wants."""

    def __init__(self, model: nn.Module, clips: list[dict[str, Any]]) -> None:
        super().__init__()
        self.model = model
        self.others = [
            {key: value for key, value in clip.items() if key not in ("frames", "audio")}
            for clip in clips
        ]

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        clips = [
            {**other, "frames": frames, "audio": audio}
            for other, frames, audio in zip(self.others, tensors[::2], tensors[1::2], strict=True)
        ]
        return [answer["scores"] for answer in self.model(clips)]


def count_macs(model: nn.Module, clips: list[dict[str, Any]]) -> dict[str, int]:
    """Returns the multiply-accumulates of evaluating some clips, of each part and in all.

    Convolutions, linear layers, matrix products, attention (both of its products) and the samples
    of deformable attention count; norms, activations, resizing and sums do not. Like fvcore, one
    multiplication with its addition is one.

    Args:
        model: takes clips.
        clips: for evaluation.

    Returns:
        Counts by the name of the model's child, "" for the whole.
    """
    tensors = tuple(tensor for clip in clips for tensor in (clip["frames"], clip["audio"]))
    with evaluation(model), _quiet(), torch.autocast("cpu", enabled=False):
        analysis = FlopCountAnalysis(_TensorsToClip(model, clips).eval(), tensors)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle(**_HANDLES)
        counts = analysis.by_module()
    names = [name for name, _ in model.named_children()]
    return {"": int(counts[""])} | {
        name: int(counts[f"model.{name}"]) for name in names if counts.get(f"model.{name}")
    }


def count_parameters(module: nn.Module, trainable: bool = False) -> int:
    """Returns the number of parameters, or of those that learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def measure_cost(cfg: CfgNode, model: Any, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """Returns the size of a model and of its encoders, the limit.

    Args:
        cfg: of the model.
        model: takes clips.
        frames: of a clip.
        size: (H, W) of the frames.

    Returns:
        ``parameters``, ``learning_parameters``, ``limit_parameters``; ``macs`` of a clip,
        ``limit_macs``, and ``macs_by_part``.
    """
    macs = count_macs(model, random_clips(cfg, 1, frames, size))
    whole = macs.pop("")
    encoders = (model.backbone, model.audio_encoder)
    return {
        "parameters": count_parameters(model),
        "learning_parameters": count_parameters(model, trainable=True),
        "limit_parameters": sum(count_parameters(part) for part in encoders),
        "macs": whole,
        "limit_macs": macs["backbone"] + macs.get("audio_encoder", 0),
        "macs_by_part": macs,
    }


def _product_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Matrix product, batched or not: each entry of the result is a sum over the inner size."""
    left, result = get_shape(inputs[0]), get_shape(outputs[0])
    assert left is not None and result is not None
    return math.prod(result) * left[-1]


def _addmm_macs(inputs: list[Any], outputs: list[Any]) -> int:
    return _product_macs(inputs[1:], outputs)


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """softmax(Q K^T) V: each query meets each key twice, with its K and with its V."""
    query, key, value = (get_shape(entry) for entry in inputs[:3])
    assert query is not None and key is not None and value is not None
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _sample_macs(inputs: list[Any], outputs: list[Any]) -> int:
    result = get_shape(outputs[0])
    assert result is not None
    return math.prod(result) * _MACS_OF_A_SAMPLE


def _nothing(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter()


_HANDLES = {
    "aten::matmul": _product_macs,
    "aten::mm": _product_macs,
    "aten::bmm": _product_macs,
    "aten::addmm": _addmm_macs,
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::grid_sampler": _sample_macs,
    **dict.fromkeys(
        (
            "aten::batch_norm",
            "aten::group_norm",
            "aten::layer_norm",
            "aten::upsample_nearest2d",
            "aten::upsample_bilinear2d",
            "aten::adaptive_avg_pool2d",
        ),
        _nothing,
    ),
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the tracer, which warns of every shape that a model reads."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
