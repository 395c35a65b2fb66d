"""Mask2Former's checkpoints: backbone, pixel decoder and decoder layers have a place here.

Names are mapped one by one, whatever the file says about its version. Mask2Former itself renames
the tensors of its pixel decoder when a file carries no version, as one does that went through a
plain dictionary, and then loses all 117 of them without an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from transavs.engine.starting_weights.conversion import Left, WeightsFormat
from transavs.engine.starting_weights.image_backbones import COUNTER, place_swin

_LEVELS = ("res5", "res4", "res3")
_HEAD = "sem_seg_head."
_PREDICTOR = "sem_seg_head.predictor."
# Versions of the head put its pixel decoder at different depths.
_PIXEL_DECODER = re.compile(r"sem_seg_head\.(?:pixel_decoder\.)*")


class Mask2Former(WeightsFormat):
    """COCO checkpoints of the released models and others trained with their code."""

    name = "mask2former"
    description = (
        "Mask2Former with ResNet-50, ResNet-101 or Swin (COCO, ADE20K ...): model_final_*.pkl or "
        ".pth; queries and class head are left out"
    )
    parts = ("backbone.", "pixel_decoder.", "query_decoder.")
    settings: Mapping[str, Any] = {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
        "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.TRANSAVS.NUM_HEADS": 8,
        "MODEL.PIXEL_DECODER.PROJECTION_BIAS": True,
    }
    mend = (
        "configs/mask2former has configurations that hold every tensor of such files: "
        "MODEL.PIXEL_DECODER.NAME MSDeformAttnPixelDecoder with PROJECTION_BIAS True, and the "
        "backbone of the file"
    )

    def recognises(self, names: set[str]) -> bool:
        return any(name.startswith(_PREDICTOR) for name in names)

    def settings_for(self, expected: Mapping[str, Tensor]) -> Mapping[str, Any]:
        chosen = dict(self.settings)
        if "backbone.stem.conv1.weight" not in expected:
            del chosen["MODEL.RESNETS.STRIDE_IN_1X1"]
        if not _is_deformable(expected):
            del chosen["MODEL.PIXEL_DECODER.PROJECTION_BIAS"]
        return chosen

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        if name.startswith("criterion."):
            return Left("class weights of its losses")
        if name in ("pixel_mean", "pixel_std"):
            return Left("MODEL.PIXEL_MEAN and MODEL.PIXEL_STD say this here")
        if name.startswith("backbone."):
            return _place_backbone(name.removeprefix("backbone."), tensor, expected)
        if name.startswith(_PREDICTOR):
            return _place_predictor(name.removeprefix(_PREDICTOR), tensor)
        if name.startswith(_HEAD):
            target = _pixel_decoder_name(_PIXEL_DECODER.sub("", name, count=1))
            if target is None:
                return None
            if not _is_deformable(expected):
                return Left("MODEL.PIXEL_DECODER.NAME is not MSDeformAttnPixelDecoder")
            return {f"pixel_decoder.{target}": tensor}
        return None

    def lacks(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        if target.startswith(("query_decoder.norm.", "query_decoder.mask_embedding.")):
            return "MODEL.TRANSAVS.HEAD plain has no such layer"
        if re.match(r"backbone\.swin\.norm\d\.", target):
            return "the norm of an output that the configuration does not read"
        layer = re.match(r"query_decoder\.\w+\.(\d+)\.", target)
        if layer and f"query_decoder.feedforward.{layer[1]}.norm.weight" not in expected:
            return "MODEL.TRANSAVS.DECODER_LAYERS builds fewer layers"
        return None

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        if target.startswith("query_decoder.class_head."):
            return "the class head is for other classes"
        if target.endswith("num_batches_tracked"):
            return "a counter of training steps, which files for frozen norms lack"
        if target.startswith("pixel_decoder.") and not _is_deformable(expected):
            return "another pixel decoder than Mask2Former's"
        return None


def _is_deformable(expected: Mapping[str, Tensor]) -> bool:
    return "pixel_decoder.level.weight" in expected


def _place_backbone(
    name: str, tensor: Tensor, expected: Mapping[str, Tensor]
) -> dict[str, Tensor] | Left | None:
    if name.startswith(("patch_embed.", "layers.", "norm")):
        return place_swin(name, tensor)
    if not re.match(r"(stem|res[2-5]\.\d+)\.", name):
        return None
    target = f"backbone.{name}"
    if name.endswith("num_batches_tracked") and target not in expected:
        return COUNTER
    return {target: tensor}


def _pixel_decoder_name(name: str) -> str | None:
    """Name in MSDeformAttnPixelDecoder of a tensor of Mask2Former's pixel decoder."""
    if name == "transformer.level_embed":
        return "level.weight"
    projection = re.fullmatch(r"input_proj\.([012])\.([01]\.(?:weight|bias))", name)
    if projection:
        return f"memory_proj.{_LEVELS[int(projection[1])]}.{projection[2]}"
    layer = re.fullmatch(r"transformer\.encoder\.layers\.(\d+)\.(\w+)\.(.+)", name)
    if layer:
        inner = {
            "self_attn": "attention",
            "norm1": "norm",
            "linear1": "feedforward.linear1",
            "linear2": "feedforward.linear2",
            "norm2": "feedforward.norm",
        }.get(layer[2])
        return f"layers.{layer[1]}.{inner}.{layer[3]}" if inner else None
    fine = re.fullmatch(r"(adapter_1|layer_1)\.(norm\.)?(weight|bias)", name)
    if fine:
        outer = {"adapter_1": "lateral", "layer_1": "output"}[fine[1]]
        return f"{outer}.{1 if fine[2] else 0}.{fine[3]}"
    if name.startswith("mask_features."):
        return f"mask_proj.{name.removeprefix('mask_features.')}"
    return None


def _place_predictor(name: str, tensor: Tensor) -> dict[str, Tensor] | Left | None:
    if re.match(r"(query_feat|static_query|query_embed)\.", name):
        return Left("queries come from the sound here")
    if name.startswith("class_embed."):
        return Left("the class head is for other classes")
    if name == "level_embed.weight":
        return {"query_decoder.level.weight": tensor}
    if name.startswith("decoder_norm."):
        return {f"query_decoder.norm.{name.removeprefix('decoder_norm.')}": tensor}
    embedding = re.fullmatch(r"mask_embed\.layers\.([012])\.(weight|bias)", name)
    if embedding:
        # A ReLU lies between two linear layers.
        return {f"query_decoder.mask_embedding.{2 * int(embedding[1])}.{embedding[2]}": tensor}
    layer = re.fullmatch(
        r"transformer_(self_attention|cross_attention|ffn)_layers\.(\d+)\.(.+)", name
    )
    return _place_decoder_layer(layer[1], layer[2], layer[3], tensor) if layer else None


def _place_decoder_layer(
    kind: str, number: str, name: str, tensor: Tensor
) -> dict[str, Tensor] | None:
    own = {"ffn": "feedforward"}.get(kind, kind)
    prefix = f"query_decoder.{own}.{number}"
    plain = ("norm.",) if kind != "ffn" else ("norm.", "linear1.", "linear2.")
    if name.startswith(plain):
        return {f"{prefix}.{name}": tensor}
    if kind == "ffn":
        return None
    name = re.sub(r"^(self_attn|multihead_attn)\.", "", name)
    if name.startswith("out_proj."):
        return {f"{prefix}.attention.{name}": tensor}
    packed = re.fullmatch(r"in_proj_(weight|bias)", name)
    if packed is None or len(tensor) % 3:
        return None
    # One tensor holds the projections of queries, keys and values.
    return {
        f"{prefix}.attention.{which}_proj.{packed[1]}": part.clone()
        for which, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    }
