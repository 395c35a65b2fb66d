"""Loads a trained model whole, asks it about clips, and notes what its queries said."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from numpy.typing import NDArray
from torch import Tensor, nn

from transavs.engine import SafeCheckpointer
from transavs.modeling.inference import resize_logits
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
class ClipAnswer:
    """What a model says about a clip.

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
        """The dict that the model answers with."""
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
    with _quiet("transavs.audio"):  # about random encoders: a checkpoint without one is refused
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


def ask(model: nn.Module, clip: Mapping[str, Any], most_queries: int = 8) -> ClipAnswer:
    """Returns what a model in evaluation mode says about one clip.

    Args:
        model: any meta-architecture that takes clips.
        clip: of the mapper.
        most_queries: how many queries to note for each frame.
    """
    return ask_each(model, [clip], most_queries)[0]


@torch.no_grad()
def ask_each(
    model: nn.Module, clips: Sequence[Mapping[str, Any]], most_queries: int = 8
) -> list[ClipAnswer]:
    """Returns what a model in evaluation mode says about each of a batch of clips, as :func:`ask`.

    Noting the queries is not safe among threads that share the model: whoever has several lets
    them take turns.
    """
    noted: list[QueryOutput] = []
    decoder = getattr(model, "query_decoder", None)
    hook = None
    if decoder is not None:
        hook = decoder.register_forward_hook(lambda *call: noted.append(call[-1][-1]))
    try:
        outputs = model(list(clips))
    finally:
        if hook is not None:
            hook.remove()
    # Frames follow each other clip by clip, in one call of the decoder or in several.
    noted_frames = iter(
        [(output, frame) for output in noted for frame in range(len(output.class_logits))]
    )
    answers = []
    for clip, output in zip(clips, outputs, strict=True):
        masks, scores = output["masks"].cpu(), output["scores"].float().cpu()
        queries = None
        if noted:
            num_sounding = cast(int, model.num_sounding)
            queries = [
                _frame_queries(*next(noted_frames), mask, clip, most_queries, num_sounding)
                for mask in masks
            ]
        class_maps = output["class_maps"].cpu() if "class_maps" in output else None
        answers.append(ClipAnswer(masks, scores, queries, class_maps))
    return answers


def _frame_queries(
    output: QueryOutput,
    frame: int,
    mask: Tensor,
    clip: Mapping[str, Any],
    most: int,
    num_sounding: int,
) -> FrameQueries:
    class_logits = output.class_logits[frame].float().cpu()
    confidence = class_logits.softmax(-1)[:, :num_sounding].amax(-1)
    sounds = class_logits.argmax(-1) < num_sounding
    order = confidence.argsort(descending=True, stable=True)[:most]
    pixels = torch.zeros((len(confidence), *mask.shape), dtype=torch.bool)
    kept = sounds.nonzero().flatten()
    if len(kept) and mask.any():
        logits = output.mask_logits[frame].float().cpu()[kept]
        height, width = logits.shape[-2:]
        padded = (_MASK_STRIDE * height, _MASK_STRIDE * width)
        size = (clip["frames"].shape[-2], clip["frames"].shape[-1])
        probs = resize_logits(logits, padded, size, (mask.shape[0], mask.shape[1])).sigmoid()
        winner = kept[(confidence[kept, None, None] * probs).argmax(0)]
        pixels = (winner == torch.arange(len(confidence))[:, None, None]) & mask
    return FrameQueries(
        order.tolist(), confidence[order].tolist(), sounds[order].tolist(), pixels[order].numpy()
    )
