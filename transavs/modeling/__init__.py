"""The network: backbones, pixel decoders, audio queries, query decoder, meta-architectures."""

from transavs.modeling.backbone import build_swin_backbone, build_timm_backbone
from transavs.modeling.clip_batch import ClipModel
from transavs.modeling.meta_arch import TransAVS
from transavs.modeling.pixel_decoder import PIXEL_DECODER_REGISTRY, build_pixel_decoder
from transavs.modeling.query_decoder import QueryDecoder
from transavs.modeling.query_generator import AudioQueryGenerator
from transavs.modeling.tpavi_meta_arch import TPAVI

__all__ = [
    "PIXEL_DECODER_REGISTRY",
    "TPAVI",
    "AudioQueryGenerator",
    "ClipModel",
    "QueryDecoder",
    "TransAVS",
    "build_pixel_decoder",
    "build_swin_backbone",
    "build_timm_backbone",
]
