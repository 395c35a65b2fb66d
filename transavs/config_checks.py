"""Values of configuration keys that no code path accepts, and keys that contradict each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg

# Keys of transavs.data.CONDITIONS, which configurations are checked against without importing it.
_CONDITIONS = ("original", "silence", "noise", "offscreen", "shuffled")
# Their log-mel examples are computed here, whatever the source of the clips' own.
_COMPUTED_CONDITIONS = ("silence", "noise")
# Keys of transavs.data.NEGATIVE_CONDITIONS.
_NEGATIVES = ("silence", "noise", "offscreen")

_CHOICES = {
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.AUDIO_SOURCE": ("wav", "log_mel"),
    "MODEL.TRANSAVS.TARGETS": ("union", "components", "objects", "classes"),
    "MODEL.TRANSAVS.AUDIO_CONTEXT": ("clip", "window", "second"),
    "MODEL.TRANSAVS.QUERY_POSITION": ("learned", "none"),
    "MODEL.TRANSAVS.HEAD": ("plain", "mask2former"),
    "MODEL.TRANSAVS.INFERENCE.RULE": ("argmax", "semantic_sum"),
    "SOLVER.AMP.PRECISION": ("bf16", "fp16"),
    "SOLVER.NONFINITE": ("stop", "skip"),
    "MODEL.TPAVI.NORM": ("BN", "SyncBN", "naiveSyncBN"),
}
# The least value of numbers; none may be infinite.
_LEAST = {
    **dict.fromkeys(
        (
            "INPUT.CLIP_SECONDS",
            "SOLVER.IMS_PER_BATCH",
            "SOLVER.MAX_ITER",
            "SOLVER.CHECKPOINT_PERIOD",
            "TEST.IMS_PER_BATCH",
            "TEST.F_THRESHOLD_BATCH",
            "MODEL.TRANSAVS.NUM_CLASSES",
            "MODEL.TRANSAVS.NUM_QUERIES",
            "MODEL.TRANSAVS.HIDDEN_DIM",
            "MODEL.TRANSAVS.NUM_HEADS",
            "MODEL.TRANSAVS.DECODER_LAYERS",
            "MODEL.TRANSAVS.THRESHOLD_PERIOD",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            "DATALOADER.NUM_WORKERS",
            "SOLVER.BASE_LR",
            "SOLVER.BACKBONE_MULTIPLIER",
            "SOLVER.WEIGHT_DECAY",
            "TEST.EVAL_PERIOD",
            "TEST.PICTURE_PERIOD",
            "MODEL.TRANSAVS.CLASS_WEIGHT",
            "MODEL.TRANSAVS.DICE_WEIGHT",
            "MODEL.TRANSAVS.AQDL_WEIGHT",
            "MODEL.TRANSAVS.AQML_WEIGHT",
            "MODEL.TRANSAVS.MASK_BCE_WEIGHT",
            "MODEL.TRANSAVS.AGREEMENT_WEIGHT",
            "MODEL.TRANSAVS.NO_OBJECT_WEIGHT",
            "MODEL.TRANSAVS.FOCAL_GAMMA",
            "MODEL.TPAVI.AVM_WEIGHT",
        ),
        0,
    ),
    "MODEL.TPAVI.CHANNELS": 2,
}
# Beginnings of the names of detectron2's keys that no code here reads, nor what it calls of
# detectron2.
_UNREAD = (
    "DATALOADER.ASPECT_RATIO_GROUPING",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
    "DATALOADER.REPEAT_",
    "DATALOADER.SAMPLER_TRAIN",
    "DATASETS.PRECOMPUTED_PROPOSAL_",
    "DATASETS.PROPOSAL_FILES_",
    "GLOBAL.",
    "INPUT.MASK_FORMAT",
    "MODEL.ANCHOR_GENERATOR.",
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.MASK_ON",
    "MODEL.PANOPTIC_FPN.",
    "MODEL.PROPOSAL_GENERATOR.",
    "MODEL.RETINANET.",
    "MODEL.ROI_",
    "MODEL.RPN.",
    "MODEL.SEM_SEG_HEAD.",
    "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.MOMENTUM",
    "SOLVER.NESTEROV",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "TEST.AUG.",
    "TEST.DETECTIONS_PER_IMAGE",
    "TEST.EXPECTED_RESULTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.PRECISE_BN.",
    "VIS_PERIOD",
)
# Read by detectron2's own backbones of that kind alone.
_OF_FPN_BACKBONES = "MODEL.FPN."


def unread_keys(cfg: CfgNode) -> dict[str, Any]:
    """Returns the keys of detectron2 that nothing reads and that have another value than by
    default, with this value."""
    defaults = get_cfg()
    unread = _UNREAD if "fpn" in cfg.MODEL.BACKBONE.NAME else (*_UNREAD, _OF_FPN_BACKBONES)
    values = {key: value_of(cfg, key) for key in dotted_keys(defaults) if key.startswith(unread)}
    return {key: value for key, value in values.items() if value != value_of(defaults, key)}


def dotted_keys(node: CfgNode, prefix: str = "") -> list[str]:
    """Returns the names of all values below a node, such as "SOLVER.MAX_ITER"."""
    keys: list[str] = []
    for name, value in node.items():
        inner = isinstance(value, CfgNode)
        keys += dotted_keys(value, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return keys


def value_of(cfg: CfgNode, key: str) -> Any:
    """Returns the value of a dotted key."""
    return functools.reduce(lambda node, part: node[part], key.split("."), cfg)


def check_cfg(cfg: CfgNode) -> None:
    """Raises ValueError for values of our keys that no code path accepts."""
    for key, allowed in _CHOICES.items():
        value = value_of(cfg, key)
        if value not in allowed:
            raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
    for key, least in _LEAST.items():
        value = value_of(cfg, key)
        if not least <= value < math.inf:
            raise ValueError(f"{key} must be at least {least}, got {value}")
    if not 0 <= cfg.INPUT.COLOR_JITTER < 1:
        raise ValueError(f"INPUT.COLOR_JITTER must lie in [0, 1), got {cfg.INPUT.COLOR_JITTER}")
    if cfg.INPUT.TRAIN_FRAMES < 0:
        raise ValueError(
            f"INPUT.TRAIN_FRAMES must be 0 (all) or more, got {cfg.INPUT.TRAIN_FRAMES}"
        )
    if cfg.SOLVER.NONFINITE_LIMIT < 0:
        raise ValueError(
            f"SOLVER.NONFINITE_LIMIT must be 0 steps or more, got {cfg.SOLVER.NONFINITE_LIMIT}"
        )
    for name in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST"):
        sizes = cfg.INPUT[name]
        if min(sizes if isinstance(sizes, tuple | list) else [sizes], default=0) < 0:
            raise ValueError(f"INPUT.{name} must be 0 or more pixels, got {sizes}")
    stretch = cfg.INPUT.STRETCH_TEST
    if stretch and (len(stretch) != 2 or min(stretch) < 1):
        raise ValueError(
            f"INPUT.STRETCH_TEST must be a height and a width in pixels, or (), got {stretch}"
        )
    negative = cfg.INPUT.NEGATIVE_AUDIO
    if not 0 <= negative.SHARE <= 1:
        raise ValueError(f"INPUT.NEGATIVE_AUDIO.SHARE must lie in [0, 1], got {negative.SHARE}")
    if not negative.KINDS or not set(negative.KINDS) <= set(_NEGATIVES):
        raise ValueError(
            f"INPUT.NEGATIVE_AUDIO.KINDS must be some of {', '.join(_NEGATIVES)}, "
            f"got {negative.KINDS}"
        )
    if negative.SHARE:
        check_front_end(cfg, negative.KINDS)
    if cfg.INPUT.AUDIO_EMBEDDINGS:
        if cfg.INPUT.AUDIO_SOURCE != "wav":
            raise ValueError(
                "INPUT.AUDIO_EMBEDDINGS are those of sound files: set INPUT.AUDIO_SOURCE wav, got "
                f"{cfg.INPUT.AUDIO_SOURCE!r}"
            )
        if not cfg.MODEL.AUDIO.FREEZE:
            raise ValueError(
                "INPUT.AUDIO_EMBEDDINGS need an encoder that does not change: set "
                "MODEL.AUDIO.FREEZE True, or leave them empty"
            )
    unknown = [name for name in cfg.TEST.ROBUSTNESS if name not in _CONDITIONS]
    if unknown:
        raise ValueError(
            f"TEST.ROBUSTNESS must be some of {', '.join(_CONDITIONS)}, got {', '.join(unknown)}"
        )
    check_front_end(cfg, cfg.TEST.ROBUSTNESS)
    transavs = cfg.MODEL.TRANSAVS
    stages = ("res2", "res3", "res4", "res5")
    if not cfg.MODEL.TPAVI.STAGES or not set(cfg.MODEL.TPAVI.STAGES) <= set(stages):
        raise ValueError(
            f"MODEL.TPAVI.STAGES must be some of {stages}, got {cfg.MODEL.TPAVI.STAGES}"
        )
    if cfg.MODEL.BACKBONE.CACHE and not cfg.MODEL.BACKBONE.FREEZE:
        raise ValueError(
            "MODEL.BACKBONE.CACHE keeps features of a frozen backbone, but this one learns: set "
            'MODEL.BACKBONE.FREEZE True, or MODEL.BACKBONE.CACHE ""'
        )
    if transavs.AUDIO_WINDOW < 1 or transavs.AUDIO_WINDOW % 2 == 0:
        raise ValueError(
            "MODEL.TRANSAVS.AUDIO_WINDOW must be an odd number of seconds, to be centred, got "
            f"{transavs.AUDIO_WINDOW}"
        )
    # Label maps of targets are 8-bit, and their last value is the background.
    if transavs.TARGETS == "classes" and transavs.NUM_CLASSES > 254:
        raise ValueError(
            "MODEL.TRANSAVS.NUM_CLASSES must be at most 254 with TARGETS classes, got "
            f"{transavs.NUM_CLASSES}"
        )
    if transavs.HIDDEN_DIM % transavs.NUM_HEADS:
        raise ValueError(
            f"MODEL.TRANSAVS.HIDDEN_DIM ({transavs.HIDDEN_DIM}) must be a multiple of "
            f"NUM_HEADS ({transavs.NUM_HEADS})"
        )
    if cfg.MODEL.PIXEL_DECODER.NORM == "GN" and transavs.HIDDEN_DIM % 32:
        raise ValueError(
            f"MODEL.TRANSAVS.HIDDEN_DIM ({transavs.HIDDEN_DIM}) must be a multiple of the 32 "
            'groups of MODEL.PIXEL_DECODER.NORM GN; other widths go with the norm "" or LN'
        )
    for key in ("AQDL_THRESHOLD", "AQML_THRESHOLD"):
        bounds = transavs[key]
        if len(bounds) != 2 or not all(0 <= bound <= 1 for bound in bounds):
            raise ValueError(
                f"MODEL.TRANSAVS.{key} must be two probabilities (start, end), got {bounds}"
            )


def check_front_end(cfg: CfgNode, conditions: Sequence[str]) -> None:
    """Raises ValueError for conditions whose sound would come from another front-end than others.

    Between AVSBench's pickles and examples that are computed here a model could tell true from
    false sound by the recipe, as it can in the published negatives of AVSBench-Robust (arXiv
    2502.00358).

    Args:
        cfg: reads INPUT.AUDIO_SOURCE.
        conditions: to hear, names out of ``transavs.data.CONDITIONS``.
    """
    computed = [name for name in conditions if name in _COMPUTED_CONDITIONS]
    if computed and cfg.INPUT.AUDIO_SOURCE != "wav":
        raise ValueError(
            f"the conditions {', '.join(computed)} are computed from a waveform, while "
            f"INPUT.AUDIO_SOURCE {cfg.INPUT.AUDIO_SOURCE} reads the clips' own sounds from pickles "
            "of another program: a model could tell them by that. Set INPUT.AUDIO_SOURCE wav"
        )
