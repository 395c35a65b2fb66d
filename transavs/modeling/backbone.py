"""Image backbones beside detectron2's own ResNet: detectron2's Swin, and any timm model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import timm
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.swin import SwinTransformer
from torch import Tensor, nn

from transavs.modeling.feature_pyramid import PLAIN_STRIDE, SimpleFeaturePyramid
from transavs.modeling.pixel_decoder import needed_features
from transavs.pretrained.timm_models import load_timm_weights

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
        model: built with ``features_only=True``; has maps at strides 4, 8, 16 and 32, or a single
            one at stride 16.
        freeze: no gradients in ``model``, running statistics kept; a pyramid learns all the same.
        pyramid_channels: of the maps that are made of a single one.
        needed: names of those to make of it.
    """

    def __init__(
        self,
        model: nn.Module,
        freeze: bool = False,
        pyramid_channels: int = 256,
        needed: Sequence[str] = tuple(_FEATURE_NAMES.values()),
    ) -> None:
        super().__init__()
        self.model = model
        self.freeze = freeze
        if freeze:
            model.requires_grad_(False).eval()
        info: Any = model.feature_info
        strides, channels = info.reduction(), info.channels()
        # Some models, such as Swin, have their channels last.
        self._channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
        self.pyramid: SimpleFeaturePyramid | None = None
        if is_plain(strides):
            made = {stride: name for stride, name in _FEATURE_NAMES.items() if name in needed}
            self.pyramid = SimpleFeaturePyramid(channels[-1], pyramid_channels, list(made))
            self._out_features = list(made.values())
            self._out_feature_strides = {name: stride for stride, name in made.items()}
            self._out_feature_channels = dict.fromkeys(self._out_features, pyramid_channels)
            return
        missing = [stride for stride in _FEATURE_NAMES if stride not in strides]
        if missing:
            raise ValueError(
                f"the backbone needs features at strides 4, 8, 16 and 32; this timm model has "
                f"{list(strides)}. Choose a hierarchical one (ResNet, ConvNeXt, PVT, Swin ...) or "
                "a plain transformer with patches of 16 pixels"
            )
        self._index = {_FEATURE_NAMES[stride]: strides.index(stride) for stride in _FEATURE_NAMES}
        self._out_features = list(self._index)
        self._out_feature_strides = {name: strides[i] for name, i in self._index.items()}
        self._out_feature_channels = {name: channels[i] for name, i in self._index.items()}

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if self.freeze:
            self.model.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the features, such as res2 to res5, of images ``[N, 3, H, W]``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            maps = self.model(images)
        if self._channels_last:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        if self.pyramid is not None:
            return {_FEATURE_NAMES[s]: level for s, level in self.pyramid(maps[-1]).items()}
        return {name: maps[index] for name, index in self._index.items()}


def is_plain(strides: Sequence[int]) -> bool:
    """Returns whether feature maps of these strides are those of a plain transformer."""
    return set(strides) == {PLAIN_STRIDE}


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Returns the timm model ``MODEL.TIMM.NAME`` with the weights of ``MODEL.TIMM.WEIGHTS``.

    Raises:
        ValueError: no such timm model, or one without the needed strides, or weights that do not
            fit, or a pyramid without weights that ``MODEL.BACKBONE.FREEZE`` would keep random.
        FileNotFoundError: a weights file or the package with weights is not there.
    """
    node = cfg.MODEL.TIMM
    name, weights = node.NAME, node.WEIGHTS
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
        raise ValueError(f"MODEL.TIMM.NAME: timm has no model {name!r}. Near it: {close or 'none'}")
    model = _feature_extractor(name, weights == "timm", input_shape.channels)
    if cfg.MODEL.BACKBONE.FREEZE and is_plain(model.feature_info.reduction()):
        raise ValueError(
            f"MODEL.BACKBONE.FREEZE would keep the feature pyramid of {name} random: set "
            "MODEL.TIMM.FREEZE, which freezes the transformer alone"
        )
    if weights not in ("", "timm"):
        load_timm_weights(model, name, weights)
    if not weights:
        logger.info("MODEL.TIMM.WEIGHTS is empty: %s starts from random weights", name)
    return TimmBackbone(model, node.FREEZE, node.PYRAMID_CHANNELS, needed_features(cfg))


def _feature_extractor(name: str, pretrained: bool, in_channels: int) -> Any:
    options: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
    model: Any = timm.create_model(name, pretrained=pretrained, **options)
    if not is_plain(model.feature_info.reduction()):
        return model
    # Their position embedding has the size of one picture, unless asked to follow others.
    plain: Any = timm.create_model(
        name, pretrained=pretrained, out_indices=(-1,), dynamic_img_size=True, **options
    )
    return plain
