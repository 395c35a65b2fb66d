"""Clips as the mapper gives them, with frames left as they are unless a test says otherwise."""

from __future__ import annotations

import numpy as np
from detectron2.config import CfgNode, get_cfg

from transavs.config import add_transavs_config
from transavs.data.dataset_mapper import AVSDatasetMapper


def make_cfg(**overrides: object) -> CfgNode:
    """The configuration with frames left as they are, then ``KEY__PART=value`` overrides."""
    cfg = get_cfg()
    add_transavs_config(cfg)
    cfg.merge_from_list(
        ["INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.MIN_SIZE_TEST", 0, "INPUT.RANDOM_FLIP", "none"]
    )
    for key, value in overrides.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def map_clip(record: dict, is_train: bool = True, seed: int = 0, **overrides: object) -> dict:
    mapper = AVSDatasetMapper(make_cfg(**overrides), is_train)
    return mapper(record, rng=np.random.default_rng(seed))
