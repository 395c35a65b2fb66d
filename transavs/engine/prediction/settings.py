"""What decides the content of predictions, in a form that goes to other processes and machines."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

from transavs.config import add_transavs_config
from transavs.engine.predictor import VideoPredictor
from transavs.utils.fingerprint import fingerprint
from transavs.utils.package_files import find_weights
from transavs.video.film import LONGEST_SIDE
from transavs.video.frames import FOLDER_FRAME_RATE

# Where something is computed and written changes no prediction.
_PLACES = ("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.AUDIO.WEIGHTS", "OUTPUT_DIR")


@dataclass(frozen=True)
class Settings:
    """How items are predicted.

    Attributes:
        config: of the model, as YAML.
        weights: its checkpoint, a path that every machine can read.
        device: "cpu", "cuda" ...; None takes a GPU where there is one.
        per_second: moments a second; None asks about every frame.
        longest_side: larger pictures are scaled down to it, in pixels; 0 for no limit.
        folder_rate: pictures a second of clips.
        batch_size: moments that the model is shown at once.
        silent_films: whether films without sound are predicted, with silence.
        threads: of each process, on a CPU.
    """

    config: str
    weights: str
    device: str | None = None
    per_second: float | None = 1.0
    longest_side: int = LONGEST_SIDE
    folder_rate: float = FOLDER_FRAME_RATE
    batch_size: int = 4
    silent_films: bool = False
    threads: int = 1

    @classmethod
    def of(cls, cfg: CfgNode, weights: str = "", **others: Any) -> Settings:
        """Returns the settings of a configuration; ``others`` are attributes.

        Raises:
            FileNotFoundError: no such checkpoint.
        """
        weights = weights or str(cfg.MODEL.WEIGHTS)
        # Absolute: workers may have other current folders.
        return cls(cfg.dump(), os.path.abspath(find_weights(weights)) if weights else "", **others)

    def load(self) -> VideoPredictor:
        """Returns the predictor, in a process that has ``threads`` from then on.

        Raises:
            FileNotFoundError, ValueError: as ``VideoPredictor``.
        """
        torch.set_num_threads(self.threads)
        return VideoPredictor(self._cfg(), self.weights, self.device, self.batch_size)

    def describe(self, predictor: VideoPredictor) -> dict[str, Any]:
        """Returns all that two runs into one folder must have in common, as JSON has it.

        ``configuration`` tells what the hash ``config`` is of: key -> value.
        """
        cfg = self._cfg()
        cfg.defrost()
        for key in _PLACES:
            *nodes, name = key.split(".")
            node = cfg
            for part in nodes:
                node = node[part]
            node[name] = ""
        text = cfg.dump()
        return {
            "weights": fingerprint(predictor.model),
            "front_end": predictor.front_end.version,
            "config": hashlib.sha256(text.encode()).hexdigest(),
            "configuration": _by_key(yaml.safe_load(text)),
            "classes": list(predictor.known_classes),
            "per_second": self.per_second,
            "longest_side": self.longest_side,
            "folder_rate": self.folder_rate,
            "batch_size": self.batch_size,
            "silent_films": self.silent_films,
        }

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes, for JSON."""
        return asdict(self)

    def _cfg(self) -> CfgNode:
        cfg = get_cfg()
        add_transavs_config(cfg)
        cfg.merge_from_other_cfg(CfgNode.load_cfg(self.config))
        cfg.freeze()
        return cfg


def _by_key(node: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Returns the values of nested keys by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            found |= _by_key(value, f"{within}{name}.")
        else:
            found[f"{within}{name}"] = value
    return found
