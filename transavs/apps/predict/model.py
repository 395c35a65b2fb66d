"""The model that predicts items: its settings, and what it keeps of each frame."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from transavs.apps.predict.manifest import Item
from transavs.config import add_transavs_config
from transavs.engine.predictor import FramePrediction, VideoPredictor
from transavs.utils.fingerprint import fingerprint
from transavs.utils.package_files import find_weights
from transavs.video import FrameFiles
from transavs.video.film import LONGEST_SIDE
from transavs.video.frames import FOLDER_FRAME_RATE

# The longest time limit of an item: a day.
_MOST_SECONDS = 86_400
# Where something is computed and written changes no prediction.
_PLACES = ("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.AUDIO.WEIGHTS", "OUTPUT_DIR")
_DECIDING = (
    "per_second",
    "longest_side",
    "folder_rate",
    "batch_size",
    "silent_videos",
    "shard_items",
)

#: What is kept of a frame: column of the results -> value.
Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Attributes:
        index: the item's place in the manifest.
        rows: one for each frame; None for an item that could not be predicted.
        error: why it could not.
    """

    index: int
    rows: list[Row] | None = None
    error: str = ""


@dataclass(frozen=True)
class Settings:
    """How items are predicted (up to ``silent_videos``, what decides the results), and where.

    Attributes:
        config: the model's configuration, as YAML.
        weights: the model's checkpoint, a path that every machine can read.
        per_second: sampled frames a second; None predicts every frame.
        longest_side: larger pictures are scaled down to it, in pixels; 0 for no limit.
        folder_rate: pictures a second of clips.
        batch_size: frames that the model is shown at once.
        silent_videos: whether videos without audio are predicted, with silence.
        shard_items: items a Parquet file; the same in all runs into a folder.
        device: "cpu", "cuda" ...; None takes a GPU where there is one.
        threads: of each process, on a CPU.
        workers: processes, or actors on Ray; None takes one, on Ray one for each device. 0
            predicts in this process, which an item may then end.
        ray: address of a cluster ("local" starts one here); None stays on this machine.
        attempts: an item has failed when so many workers died over it.
        item_timeout: an item has failed when it takes more seconds; None waits for ever.
        retry_failed: whether items that failed before are tried again.
    """

    config: str
    weights: str
    per_second: float | None = 1.0
    longest_side: int = LONGEST_SIDE
    folder_rate: float = FOLDER_FRAME_RATE
    batch_size: int = 4
    silent_videos: bool = False
    shard_items: int = 1000
    device: str | None = None
    threads: int = 1
    workers: int | None = None
    ray: str | None = None
    attempts: int = 2
    item_timeout: float | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for option, value, least in (
            ("workers", self.workers, 0 if self.ray is None else 1),
            ("attempts", self.attempts, 1),
            ("batch-size", self.batch_size, 1),
            ("shard-items", self.shard_items, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"--{option} must be at least {least}, got {value}")
        timeout = self.item_timeout
        if timeout is not None and (self.workers == 0 or not 0 < timeout <= _MOST_SECONDS):
            raise ValueError(
                f"--item-timeout must be above 0 and at most {_MOST_SECONDS} seconds, and needs "
                f"--workers above 0, got {timeout:g} with {self.workers} workers"
            )

    @classmethod
    def of(cls, cfg: CfgNode, weights: str = "", **others: Any) -> Settings:
        """Returns the settings of a configuration; ``others`` are attributes.

        Raises:
            FileNotFoundError: no such checkpoint.
        """
        weights = weights or str(cfg.MODEL.WEIGHTS)
        # Absolute: workers may have other current folders.
        return cls(cfg.dump(), os.path.abspath(find_weights(weights)) if weights else "", **others)


class ItemPredictor:
    """A loaded model that predicts items.

    Args:
        settings: how; their number of threads holds for the whole process.
        expected: the :attr:`description` that the model must have; None accepts any.

    Raises:
        FileNotFoundError, ValueError: the model cannot be loaded, or is another one.
    """

    def __init__(self, settings: Settings, expected: dict[str, Any] | None = None) -> None:
        torch.set_num_threads(settings.threads)
        self.settings = settings
        cfg = get_cfg()
        add_transavs_config(cfg)
        cfg.merge_from_other_cfg(CfgNode.load_cfg(settings.config))
        cfg.freeze()
        self.predictor = VideoPredictor(cfg, settings.weights, settings.device, settings.batch_size)
        configuration = _by_key(yaml.safe_load(cfg.dump()))
        #: All that two runs into one folder must have in common, as JSON has it.
        self.description: dict[str, Any] = {
            "weights": fingerprint(self.predictor.model),
            "front_end": self.predictor.front_end.version,
            "classes": list(self.predictor.known_classes),
            **{name: getattr(settings, name) for name in _DECIDING},
            **{key: value for key, value in configuration.items() if key not in _PLACES},
        }
        if expected is not None and self.description != expected:
            raise ValueError(
                f"a worker loaded another model from {settings.weights} than the main process: all "
                "machines must have the same checkpoint and version"
            )

    def __call__(self, item: Item) -> Outcome:
        """Returns what became of an item; an item that cannot be read is no exception."""
        try:
            return Outcome(item.index, self._rows(item))
        except (OSError, ValueError) as error:
            return Outcome(item.index, error=str(error))

    def _rows(self, item: Item) -> list[Row]:
        video = item.open(self.settings.longest_side, self.settings.folder_rate)
        if not video.has_sound and not self.settings.silent_videos:
            which = f"{video.name} has no sound"
            if isinstance(video, FrameFiles) and video.sound_file is not None:
                which = f"{video.sound_file} holds no samples"
            raise ValueError(f"{which}: leave it out, or allow silent videos")
        frames = self.predictor.predict(video, per_second=self.settings.per_second)
        rows = [_row(frame, self.predictor.known_classes) for frame in frames]
        if not rows:
            raise ValueError(f"{video.name} shows no picture")
        return rows


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Returns the ``counts`` of COCO's compressed run lengths of a mask, bool ``[H, W]``."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return str(encoded["counts"].decode("ascii"))


def decode_mask(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Returns the mask, bool ``[height, width]``, of COCO's compressed run lengths."""
    encoded = {"size": [height, width], "counts": counts.encode("ascii")}
    mask: NDArray[np.bool_] = coco_mask.decode(encoded).astype(bool)
    return mask


def _row(frame: FramePrediction, names: tuple[str, ...]) -> Row:
    height, width = frame.mask.shape
    row: Row = {
        "frame": frame.number,
        "seconds": float(frame.seconds),
        "height": int(height),
        "width": int(width),
        "counts": encode_mask(frame.mask),
        "score": float(frame.confidence),
        "classes": None,
        "class_counts": None,
    }
    if frame.class_map is not None:
        found = [int(number) for number in np.unique(frame.class_map) if number > 0]
        row["classes"] = [
            names[number - 1] if number <= len(names) else f"class {number}" for number in found
        ]
        row["class_counts"] = [encode_mask(frame.class_map == number) for number in found]
    return row


def _by_key(node: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Returns the values of nested keys by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            found |= _by_key(value, f"{within}{name}.")
        else:
            found[f"{within}{name}"] = value
    return found
