"""Pixel decoders on every kind of backbone: shapes, strides, and what each one computes."""

import pytest
import tiny_models
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

from transavs.modeling import build_pixel_decoder

DECODERS = ("SimplePixelDecoder", "FPNPixelDecoder", "MSDeformAttnPixelDecoder")
BACKBONES = {
    "ResNet-18": (
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
        "MODEL.RESNETS.STEM_OUT_CHANNELS", 64,
    ),
    "Swin": tiny_models.TINY_SWIN,
    "timm": (
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "mobilenetv3_small_050",
    ),
}  # fmt: skip


def features_of(channels=(8, 16, 32, 64), size: int = 64, frames: int = 2):
    maps = {
        f"res{stage + 2}": torch.randn(frames, width, size >> (stage + 2), size >> (stage + 2))
        for stage, width in enumerate(channels)
    }
    shapes = {
        name: ShapeSpec(channels=level.shape[1], stride=4 << index)
        for index, (name, level) in enumerate(maps.items())
    }
    return maps, shapes


def make(name: str, *opts, channels=(8, 16, 32, 64)):
    cfg = tiny_models.tiny_cfg(
        "MODEL.PIXEL_DECODER.NAME", name, "MODEL.PIXEL_DECODER.ENCODER_LAYERS", 1, *opts
    )
    return build_pixel_decoder(cfg, features_of(channels)[1])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_maps_have_the_strides_of_the_paper(decoder, backbone):
    cfg = tiny_models.tiny_cfg("MODEL.PIXEL_DECODER.NAME", decoder, *BACKBONES[backbone])
    network = build_backbone(cfg)
    pixel_decoder = build_pixel_decoder(cfg, network.output_shape())
    features = network(torch.randn(1, 3, 64, 96))
    for name, spec in network.output_shape().items():
        height, width = 64 // spec.stride, 96 // spec.stride
        assert features[name].shape == (1, spec.channels, height, width)
    result = pixel_decoder(features)
    assert [tuple(level.shape) for level in result.memory] == [
        (1, 32, 2, 3), (1, 32, 4, 6), (1, 32, 8, 12)
    ]  # fmt: skip
    assert result.mask_features.shape == (1, 32, 16, 24)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("norm", ["GN", "LN", ""])
def test_every_feature_that_it_asks_for_counts(decoder, norm):
    pixel_decoder = make(decoder, "MODEL.PIXEL_DECODER.NORM", norm)
    features, _ = features_of()
    needed = getattr(pixel_decoder, "needed_features", tuple(features))
    inputs = {name: level.requires_grad_() for name, level in features.items()}
    result = pixel_decoder(inputs)
    sum(level.square().sum() for level in (*result.memory, result.mask_features)).backward()
    for name, level in inputs.items():
        assert (level.grad is not None and level.grad.abs().sum() > 0) == (name in needed)


def test_upsampling_and_the_projection_commute():
    """W_2 before upsampling f_3 equals Eq. (7)'s order, W_2 after it."""
    pixel_decoder = make("SimplePixelDecoder", channels=(8, 32, 32, 64))
    features, _ = features_of((8, 32, 32, 64))
    finest = pixel_decoder.mask_norm(features["res3"])
    upsampled = F.interpolate(finest, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        pixel_decoder(features).mask_features, pixel_decoder.mask_proj(upsampled), atol=1e-5, rtol=0
    )


def test_simple_decoder_is_projections_alone():
    pixel_decoder = make("SimplePixelDecoder", "MODEL.PIXEL_DECODER.NORM", "")
    features, _ = features_of()
    result = pixel_decoder(features)
    for name, level in zip(("res5", "res4", "res3"), result.memory, strict=True):
        weight, bias = pixel_decoder.memory_proj[name][0].parameters()
        expected = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], features[name])
        torch.testing.assert_close(level, expected + bias[:, None, None], atol=1e-5, rtol=1e-5)


def test_simple_decoder_makes_the_maps_that_a_short_query_decoder_sees():
    for layers in (1, 2, 3):
        pixel_decoder = make("SimplePixelDecoder", "MODEL.TRANSAVS.DECODER_LAYERS", layers)
        assert list(pixel_decoder.memory_proj) == ["res5", "res4", "res3"][:layers]
        assert len(pixel_decoder(features_of()[0]).memory) == layers


def test_fpn_passes_coarse_features_down():
    pixel_decoder = make("FPNPixelDecoder")
    features, _ = features_of()
    changed = {**features, "res5": features["res5"] + 1 + torch.randn_like(features["res5"])}
    plain, other = pixel_decoder(features), pixel_decoder(changed)
    assert not torch.equal(plain.mask_features, other.mask_features)
    # But not up.
    changed = {**features, "res2": features["res2"] + torch.randn_like(features["res2"])}
    other = pixel_decoder(changed)
    assert all(torch.equal(a, b) for a, b in zip(plain.memory, other.memory, strict=True))
    assert not torch.equal(plain.mask_features, other.mask_features)


def test_fpn_can_be_narrow_at_stride_4():
    pixel_decoder = make("FPNPixelDecoder", "MODEL.PIXEL_DECODER.FINE_KERNEL", 1)
    assert pixel_decoder.output["res2"][0].kernel_size == (1, 1)
    assert pixel_decoder.output["res3"][0].kernel_size == (3, 3)


def test_deformable_encoder_mixes_the_maps():
    pixel_decoder = make("MSDeformAttnPixelDecoder")
    features, _ = features_of()
    changed = {**features, "res3": features["res3"] + torch.randn_like(features["res3"])}
    plain, other = pixel_decoder(features), pixel_decoder(changed)
    assert all(not torch.equal(a, b) for a, b in zip(plain.memory, other.memory, strict=True))


def test_missing_feature_is_named():
    cfg = tiny_models.tiny_cfg("MODEL.RESNETS.OUT_FEATURES", '["res4"]')
    with pytest.raises(ValueError, match=r"'res5'; it has \['res4'\].*MODEL.RESNETS.OUT_FEATURES"):
        build_pixel_decoder(cfg, build_backbone(cfg).output_shape())


def test_unknown_decoder_is_named():
    with pytest.raises(ValueError, match="must be one of FPN.*SimplePixelDecoder, got"):
        make("SimplerPixelDecoder")
