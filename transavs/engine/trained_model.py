"""Loads a trained model whole, and predicts the masks and the queries of clips."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from numpy.typing import NDArray
from torch import Tensor, nn

from transavs.engine import SafeCheckpointer
from transavs.modeling.inference import argmax_rule, resize_logits
from transavs.pretrained.bundled_models import TRAINING_ONLY
from transavs.structures import QueryOutput
from transavs.utils.package_files import find_weights

# mask_logits lie at this stride of the padded frame.
_MASK_STRIDE = 4


@dataclass(frozen=True)
class FrameQueries:
    """The most confident queries of a frame, best first.

    Attributes:
        index: which query each one is.
        confidence: probability of its most probable sounding class, in [0, 1].
        sounds: it takes part in the mask: "no object" is less probable than that class.
        pixels: bool ``[len(index), height, width]``, the part of the predicted mask where it has
            the largest ``p m`` of all sounding queries; no pixel belongs to two.
    """

    index: list[int]
    confidence: list[float]
    sounds: list[bool]
    pixels: NDArray[np.bool_]


@dataclass(frozen=True)
class ClipPrediction:
    """What a model predicts for a clip.

    Attributes:
        masks: bool ``[F, height, width]``, on the CPU.
        scores: float32 ``[F, height, width]`` in [0, 1], on the CPU.
        queries: of each frame; None for a meta-architecture without queries.
        class_maps: int64 ``[F, height, width]``, on the CPU: 0 outside the mask, otherwise the
            number of the sounding class from 1 on. None for a model that tells no classes apart.
    """

    masks: Tensor
    scores: Tensor
    queries: list[FrameQueries] | None
    class_maps: Tensor | None = None

    @property
    def prediction(self) -> dict[str, Tensor]:
        """Masks and scores in the form in which a model returns them."""
        return {"masks": self.masks, "scores": self.scores}


def load_trained_model(cfg: CfgNode, weights: str = "") -> nn.Module:
    """Returns the model of a configuration with trained weights, in evaluation mode.

    Whatever evaluates or predicts loads its model here.

    Args:
        cfg: of the model; also says the device.
        weights: file with a checkpoint of the whole model, or a shipped one, also by its name
            alone (see ``transavs.utils.package_files.find_weights``); "" takes ``MODEL.WEIGHTS``.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: no checkpoint named, one that does not hold this model, or a device that the
            machine lacks.
    """
    weights = weights or cfg.MODEL.WEIGHTS
    # An address, and names that are to be matched, are those of weights to start a training from.
    if not weights or "://" in weights or "?" in weights:
        found = f"{weights} names weights to start a training from" if weights else "no weights"
        raise ValueError(
            f"{found}: name the checkpoint file of a whole trained model, such as "
            f"{os.path.join(cfg.OUTPUT_DIR, 'model_best.pth')}, with --weights or MODEL.WEIGHTS"
        )
    weights = find_weights(weights)
    check_device(cfg)
    # Remarks about random encoders: a checkpoint without one is refused below.
    with _quiet("transavs.pretrained"):
        model = build_model(cfg)
    _WholeModelCheckpointer(model).load(weights, checkpointables=[])
    model.eval()
    return model


def check_device(cfg: CfgNode) -> None:
    """Raises ValueError for a ``MODEL.DEVICE`` that does not exist or that the machine lacks."""
    check_device_name(str(cfg.MODEL.DEVICE))


def check_device_name(name: str, setting: str = "MODEL.DEVICE") -> None:
    """Raises ValueError for a device that does not exist or that the machine lacks.

    Args:
        name: such as "cpu" or "cuda".
        setting: the key or option that named it.
    """
    device: torch.device | None
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"{setting} must be 'cpu' or 'cuda', got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{setting} {name}: no GPU is usable here; take {setting} cpu")


class _WholeModelCheckpointer(SafeCheckpointer):
    """Refuses files with weights for the image backbone alone, which training may start from."""

    def _load_model(self, checkpoint: Any) -> Any:
        incompatible = super()._load_model(checkpoint)
        missing = [name for name in incompatible.missing_keys if not name.startswith(TRAINING_ONLY)]
        if missing:
            raise ValueError(
                f"{self._source()} holds a part of this model only: {len(missing)} tensors such "
                f"as {missing[0]} are missing. Name the checkpoint of a whole trained model"
            )
        broken = [
            name for name, value in self.model.state_dict().items() if not value.isfinite().all()
        ]
        if broken:
            raise ValueError(
                f"{self._source()} holds NaN or infinite numbers, in {len(broken)} tensors such as "
                f"{broken[0]}: name a checkpoint from before the training went wrong"
            )
        # The rest, all of training, is nothing to warn of.
        incompatible.missing_keys.clear()
        return incompatible


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Lets only errors of a logger and of those below it through."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def predict_clip(
    model: nn.Module, clip: Mapping[str, Any], most_queries: int = 8
) -> ClipPrediction:
    """Returns what a model in evaluation mode predicts for one clip, see :func:`predict_clips`."""
    return predict_clips(model, [clip], most_queries)[0]


@torch.no_grad()
def predict_clips(
    model: nn.Module, clips: Sequence[Mapping[str, Any]], most_queries: int = 8
) -> list[ClipPrediction]:
    """Returns what a model in evaluation mode predicts for each clip of a batch.

    Args:
        model: any meta-architecture that takes clips. One with a ``query_decoder`` is asked for its
            queries.
        clips: of the mapper.
        most_queries: how many queries to keep of each frame.
    """
    if hasattr(model, "query_decoder"):
        outputs = model(list(clips), with_queries=True)
    else:
        outputs = model(list(clips))
    predictions = []
    for clip, output in zip(clips, outputs, strict=True):
        masks, scores = output["masks"].cpu(), output["scores"].float().cpu()
        queries = None
        if "queries" in output:
            num_sounding: Any = model.num_sounding
            queries = [
                _frame_queries(
                    output["queries"].of_frames(i, i + 1), mask, clip, most_queries, num_sounding
                )
                for i, mask in enumerate(masks)
            ]
        class_maps = output["class_maps"].cpu() if "class_maps" in output else None
        predictions.append(ClipPrediction(masks, scores, queries, class_maps))
    return predictions


def _frame_queries(
    output: QueryOutput, mask: Tensor, clip: Mapping[str, Any], most: int, num_sounding: int
) -> FrameQueries:
    """Of the queries of one frame, as :class:`FrameQueries`."""
    class_logits = output.class_logits[0].float().cpu()
    confidence = class_logits.softmax(-1)[:, :num_sounding].amax(-1)
    sounds = class_logits.argmax(-1) < num_sounding
    order = confidence.argsort(descending=True, stable=True)[:most]
    pixels = torch.zeros((len(confidence), *mask.shape), dtype=torch.bool)
    kept = sounds.nonzero().flatten()
    if len(kept) and mask.any():
        logits = output.mask_logits.float().cpu()[:, kept]
        padded = (_MASK_STRIDE * logits.shape[-2], _MASK_STRIDE * logits.shape[-1])
        size = (clip["frames"].shape[-2], clip["frames"].shape[-1])
        logits = resize_logits(logits, padded, size, (mask.shape[0], mask.shape[1]))
        # Which of the sounding queries wins a pixel does not depend on the threshold.
        winners = argmax_rule(class_logits[None, kept], logits, 0.5, num_sounding).winners
        assert winners is not None, "the argmax rule has winners"
        pixels = (kept[winners[0]] == torch.arange(len(confidence))[:, None, None]) & mask
    return FrameQueries(
        order.tolist(), confidence[order].tolist(), sounds[order].tolist(), pixels[order].numpy()
    )
