"""The size of a model: its parameters and multiply-accumulates, counted by fvcore."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_context
from fvcore.nn import FlopCountAnalysis, parameter_count
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn

Clip = dict[str, Any]


@dataclass(frozen=True)
class ModelCost:
    """Parameters and multiply-accumulates of a model, and of its image backbone and audio encoder.

    ``macs`` are those of one clip, ``macs_by_part`` those of each child of the model.
    """

    parameters: int
    learning_parameters: int
    encoder_baseline_parameters: int
    macs: int
    encoder_baseline_macs: int
    macs_by_part: dict[str, int]


def measure_cost(cfg: CfgNode, model: Any, frames: int, size: tuple[int, int]) -> ModelCost:
    """Returns the size of a ``ClipModel`` for one clip of some frames of ``size`` (H, W)."""
    macs = count_macs(model, random_clips(cfg, 1, frames, size))
    whole = macs.pop("")
    parameters = parameter_count(model)
    return ModelCost(
        parameters=parameters[""],
        learning_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        encoder_baseline_parameters=parameters["backbone"] + parameters["audio_encoder"],
        macs=whole,
        encoder_baseline_macs=macs["backbone"] + macs.get("audio_encoder", 0),
        macs_by_part=macs,
    )


def count_macs(model: nn.Module, clips: list[Clip]) -> dict[str, int]:
    """Returns the multiply-accumulates of a model in evaluation, by its children, "" for all.

    Convolutions, linear layers, matrix products, attention (both of its products) and the samples
    of deformable attention count; norms, activations, resizing and sums do not. One multiplication
    with its addition counts as one, as in fvcore.
    """
    tensors = tuple(tensor for clip in clips for tensor in (clip["frames"], clip["audio"]))
    with inference_context(model), torch.no_grad(), torch.autocast("cpu", enabled=False):
        analysis = FlopCountAnalysis(_TensorsToClips(model, clips).eval(), tensors)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none").set_op_handle(**_HANDLES)
        counts = analysis.by_module()
    names = [name for name, _ in model.named_children()]
    return {"": int(counts[""])} | {
        name: int(counts[f"model.{name}"]) for name in names if counts.get(f"model.{name}")
    }


def random_clips(
    cfg: CfgNode, count: int, frames: int, size: tuple[int, int], masks: int = 0
) -> list[Clip]:
    """Returns clips as the mapper makes them, of random pixels and log-mel patches.

    Equal calls return equal clips.

    Args:
        cfg: its ``INPUT.CLIP_SECONDS`` and ``MODEL.TRANSAVS.NUM_CLASSES`` are read.
        count: the number of clips.
        frames: the number of frames of each; they show its first seconds.
        size: (height, width) of the frames, in pixels.
        masks: the number of true masks of each frame, of random pixels; 0 leaves targets out.
    """
    generator = torch.Generator().manual_seed(0)
    seconds = max(int(cfg.INPUT.CLIP_SECONDS), frames)
    classes = int(cfg.MODEL.TRANSAVS.NUM_CLASSES)
    clips = []
    for _ in range(count):
        shape = (frames, 3, *size)
        clip: Clip = {
            "frames": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            "frame_index": torch.arange(frames),
            "audio": torch.randn(seconds, 1, 96, 64, generator=generator),
        }
        if masks:
            drawn = torch.rand((frames, masks, *size), generator=generator) < 1 / 16
            clip["target_masks"] = list(drawn)
            clip["target_classes"] = list(
                torch.randint(0, classes, (frames, masks), generator=generator)
            )
        clips.append(clip)
    return clips


class _TensorsToClips(nn.Module):
    """The model as a function of tensors, which fvcore's tracer needs."""

    def __init__(self, model: nn.Module, clips: list[Clip]) -> None:
        super().__init__()
        self.model = model
        self.clips = clips

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        clips = [
            {**clip, "frames": frames, "audio": audio}
            for clip, frames, audio in zip(self.clips, tensors[::2], tensors[1::2], strict=True)
        ]
        return [prediction["scores"] for prediction in self.model(clips)]


def _matmul_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Each entry of a matrix product, batched or not, is a sum over the inner size."""
    left, result = get_shape(inputs[0]), get_shape(outputs[0])
    assert left is not None and result is not None
    return math.prod(result) * left[-1]


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """In softmax(Q K^T) V each query meets each key twice, with its K and with its V."""
    query, key, value = (get_shape(entry) for entry in inputs[:3])
    assert query is not None and key is not None and value is not None
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _sample_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Four neighbours, and the weight by which deformable attention adds the sample up."""
    result = get_shape(outputs[0])
    assert result is not None
    return math.prod(result) * 5


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


_HANDLES = {
    "aten::matmul": _matmul_macs,
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::grid_sampler": _sample_macs,
    "aten::batch_norm": _nothing,
    "aten::group_norm": _nothing,
    "aten::layer_norm": _nothing,
    "aten::upsample_nearest2d": _nothing,
    "aten::upsample_bilinear2d": _nothing,
    "aten::adaptive_avg_pool2d": _nothing,
}
