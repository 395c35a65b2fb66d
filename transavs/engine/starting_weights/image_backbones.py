"""ImageNet weights of image backbones: torchvision's and MSRA's ResNets, Swin of its authors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from transavs.engine.starting_weights.conversion import Left, WeightsFormat

CLASSIFIER = Left("the classifier of ImageNet has no use here")
COUNTER = Left("a counter of training steps; frozen norms have none")
_RGB = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
    "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
}
_RESNET_MEND = (
    "It needs MODEL.BACKBONE.NAME build_resnet_backbone with the MODEL.RESNETS.DEPTH of the file"
)


class TorchvisionResNet(WeightsFormat):
    """torchvision's own names (``.pth``), and those of detectron2's converted ``.pkl``."""

    name = "torchvision-resnet"
    description = (
        "ResNet-50/101 of torchvision, ImageNet-1K: resnet50-*.pth, resnet101-*.pth, or "
        "detectron2's R-50.pkl / R-101.pkl made of them"
    )
    parts = ("backbone.",)
    settings: Mapping[str, Any] = {**_RGB, "MODEL.RESNETS.STRIDE_IN_1X1": False}
    mend = _RESNET_MEND

    def recognises(self, names: set[str]) -> bool:
        own = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"}
        converted = {"stem.conv1.weight", "res2.0.conv1.weight", "res5.0.conv2.norm.weight"}
        return own <= names or (converted <= names and "stem.conv1.norm.running_mean" in names)

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        if name.endswith("num_batches_tracked"):
            counter = f"backbone.{_detectron2_name(name)}"
            return {counter: tensor} if counter in expected else COUNTER
        if name.removeprefix("stem.").startswith("fc."):
            return CLASSIFIER
        if not re.match(r"(stem\.)?(conv1|bn1)\.|(layer[1-4]|res[2-5])\.\d+\.", name):
            return None
        return {f"backbone.{_detectron2_name(name)}": tensor}

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        return _no_counter(target)


def _detectron2_name(name: str) -> str:
    if not name.startswith(("stem.", "res", "layer")):
        name = f"stem.{name}"
    name = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def _no_counter(target: str) -> str | None:
    if target.endswith("num_batches_tracked"):
        return "a counter of training steps, which files for frozen norms lack"
    return None


class MSRAResNet(WeightsFormat):
    """Caffe2 blobs (``.pkl``) whose norms are a scale and an offset, without statistics."""

    name = "msra-resnet"
    description = "ResNet-50/101 of MSRA, ImageNet-1K, as Caffe2 blobs: MSRA/R-50.pkl, R-101.pkl"
    parts = ("backbone.",)
    settings: Mapping[str, Any] = {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [103.530, 116.280, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
    }
    mend = _RESNET_MEND

    def recognises(self, names: set[str]) -> bool:
        return {"conv1_w", "res_conv1_bn_s", "res2_0_branch2a_w", "res5_0_branch2a_w"} <= names

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        if name.endswith("_momentum"):
            return Left("momentum of the optimizer")
        if re.fullmatch(r"(fc1000|pred)_[wb]", name):
            return CLASSIFIER
        if name == "conv1_b":
            return Left("a bias of the first convolution, which detectron2's ResNet leaves out too")
        if name == "conv1_w":
            return {"backbone.stem.conv1.weight": tensor}
        match = re.fullmatch(
            r"(?:res_(?P<stem>conv1)|res(?P<stage>[2-5])_(?P<block>\d+)_branch(?P<branch>1|2[abc]))"
            r"_(?P<kind>w|bn_s|bn_b)",
            name,
        )
        if match is None:
            return None
        layer = "stem.conv1"
        if not match["stem"]:
            inner = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}[match["branch"]]
            layer = f"res{match['stage']}.{match['block']}.{inner}"
        layer = f"backbone.{layer}"
        if match["kind"] == "w":
            return None if match["stem"] else {f"{layer}.weight": tensor}
        if match["kind"] == "bn_b":
            return {f"{layer}.norm.bias": tensor}
        # The statistics were folded into scale and offset.
        return {
            f"{layer}.norm.weight": tensor,
            f"{layer}.norm.running_mean": torch.zeros_like(tensor),
            f"{layer}.norm.running_var": torch.ones_like(tensor),
        }

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        return _no_counter(target)


class SwinImageNet(WeightsFormat):
    """The Swin authors' names, without the norms that detectron2 puts behind its outputs."""

    name = "swin"
    description = (
        "Swin transformer of its authors, ImageNet-22K or 1K: "
        "swin_base_patch4_window12_384_22k.pth and its like, also converted to .pkl"
    )
    parts = ("backbone.",)
    settings: Mapping[str, Any] = _RGB
    mend = (
        "It needs MODEL.BACKBONE.NAME build_swin_backbone with the MODEL.SWIN.* of the file (by "
        "default Swin-Base with windows of 12)"
    )

    def recognises(self, names: set[str]) -> bool:
        return {"patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"} <= names

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        return place_swin(name, tensor)

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        if re.match(r"backbone\.swin\.norm\d\.", target):
            return "the norm of an output, which ImageNet files do not have"
        return None


def place_swin(name: str, tensor: Tensor) -> dict[str, Tensor] | Left | None:
    """Returns where a tensor of a Swin transformer without prefix belongs, as ``place`` does."""
    if name.startswith("head."):
        return CLASSIFIER
    if name.startswith("norm."):
        return Left("the norm before the classifier; outputs here have norms of their own")
    if name.endswith(".attn_mask"):
        return Left("attention masks of one picture size, which are computed here")
    if re.match(r"patch_embed\.|layers\.\d+\.|norm\d\.", name):
        return {f"backbone.swin.{name}": tensor}
    return None
