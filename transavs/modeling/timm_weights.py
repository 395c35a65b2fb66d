"""Files of weights for timm models, checked tensor by tensor."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from typing import Any

import timm
from torch import Tensor, nn

from transavs.utils.torch_files import load_tensors, refusal

logger = logging.getLogger(__name__)

_LISTED_NAMES = 5


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Returns the tensors of a file for ``MODEL.TIMM.WEIGHTS``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or no dictionary.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.TIMM.WEIGHTS: no such file: {path}")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        state = load_tensors(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"MODEL.TIMM.WEIGHTS: cannot read {path} as tensors: {refusal(error)}"
        ) from None
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


def load_exactly(model: nn.Module, name: str, state: dict[str, Tensor], source: str) -> None:
    """Fills a feature extractor with the weights of its whole network.

    Args:
        model: of ``timm.create_model(name, features_only=True)``.
        name: timm's.
        state: tensors under timm's names of the whole network, or under those of its authors where
            timm can translate them.
        source: of the file, for messages.

    Raises:
        ValueError: the extractor needs a tensor that the file lacks or that has another shape, or
            the file holds one that the network does not have.
    """
    whole = timm.create_model(name, pretrained=False)
    names = set(whole.state_dict())
    wanted = {_whole_name(key, names): (key, tensor) for key, tensor in model.state_dict().items()}
    if not set(wanted) <= set(state):
        state = _translated(state, whole)
    # Blocks beyond the last feature map and the head are not part of the extractor.
    missing = [key for key in wanted if key not in state and not _is_counter(key)]
    shapes = [
        f"{key} (needs {tuple(tensor.shape)}, has {tuple(state[key].shape)})"
        for key, (_, tensor) in wanted.items()
        if key in state and tensor.shape != state[key].shape
    ]
    unknown = [key for key in state if key not in names and not _is_counter(key)]
    found = {"missing": missing, "other shapes": shapes, "of no layer": unknown}
    if missing or shapes or unknown:
        raise ValueError(
            f"{source} does not fit the timm model: "
            + ", ".join(
                f"{what} {keys[:_LISTED_NAMES]} ({len(keys)} in all)"
                for what, keys in found.items()
                if keys
            )
        )
    model.load_state_dict(
        {own: state[key] for key, (own, _) in wanted.items() if key in state}, strict=False
    )
    left = [key for key in state if key not in wanted]
    logger.info(
        "Loaded %d tensors of %s from %s; left, behind the last feature map: %s",
        len(wanted),
        name,
        source,
        ", ".join(left[:_LISTED_NAMES]) + (" ..." if len(left) > _LISTED_NAMES else "") or "none",
    )


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
    if translate is None:
        return state
    try:
        translated = translate(dict(state), whole)
    except Exception:  # a filter of other files: what does not fit is told by its own names
        return state
    return translated if isinstance(translated, dict) else state


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
