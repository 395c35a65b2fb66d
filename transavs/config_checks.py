"""Values of configuration keys that no code path accepts, and keys that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode

# Keys of transavs.data.CONDITIONS, which configurations are checked against without importing it.
_CONDITIONS = ("original", "silence", "noise", "offscreen", "shuffled")
# Their log-mel examples are computed here, whatever the source of the clips' own.
_COMPUTED_CONDITIONS = ("silence", "noise")
# Keys of transavs.data.NEGATIVE_CONDITIONS.
_NEGATIVES = ("silence", "noise", "offscreen")


def check_cfg(cfg: CfgNode) -> None:
    """Raises ValueError for values of our keys that no code path accepts."""
    choices = {
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
    for key, allowed in choices.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if value not in allowed:
            raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
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
    at_least_one = {"INPUT.CLIP_SECONDS": cfg.INPUT.CLIP_SECONDS}
    at_least_one["SOLVER.IMS_PER_BATCH"] = cfg.SOLVER.IMS_PER_BATCH
    at_least_one["TEST.IMS_PER_BATCH"] = cfg.TEST.IMS_PER_BATCH
    for name in ("NUM_CLASSES", "NUM_QUERIES", "HIDDEN_DIM", "NUM_HEADS", "DECODER_LAYERS"):
        at_least_one[f"MODEL.TRANSAVS.{name}"] = transavs[name]
    for key, number in at_least_one.items():
        if number < 1:
            raise ValueError(f"{key} must be at least 1, got {number}")
    _check_tpavi(cfg.MODEL.TPAVI)
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


def _check_tpavi(node: CfgNode) -> None:
    every = ("res2", "res3", "res4", "res5")
    if not node.STAGES or not set(node.STAGES) <= set(every):
        raise ValueError(f"MODEL.TPAVI.STAGES must be some of {every}, got {node.STAGES}")
    for name, least in (("CHANNELS", 2), ("AVM_WEIGHT", 0)):
        if node[name] < least:
            raise ValueError(f"MODEL.TPAVI.{name} must be at least {least}, got {node[name]}")
