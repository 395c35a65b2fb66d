"""Any timm model by name: ConvNeXt, PVT, Swin, and plain transformers through a pyramid."""

import pytest
import safetensors.torch
import timm
import tiny_models
import torch
import torch.nn.functional as F
from detectron2.modeling import build_backbone, build_model

from transavs.modeling.feature_pyramid import SimpleFeaturePyramid

PLAIN = "vit_tiny_patch16_dinov3_qkvb"


def opts(name: str, *others: object) -> tuple:
    return (
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", name,
        "MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder", *others,
    )  # fmt: skip


def backbone(name: str, *others: object):
    return build_backbone(tiny_models.tiny_cfg(*opts(name, *others)))


def randomized(name: str) -> torch.nn.Module:
    """The whole network with random values for every parameter, layer scales too."""
    torch.manual_seed(2)
    model = timm.create_model(name, pretrained=False).eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("name", ["convnext_atto", "pvt_v2_b0", PLAIN])
def test_file_of_the_whole_network_fills_the_extractor(tmp_path, name, caplog):
    """The extractor's names differ from the file's, and its features are the network's."""
    whole = randomized(name)
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(whole.state_dict(), file)
    with caplog.at_level("INFO"):
        network = backbone(name, "MODEL.TIMM.WEIGHTS", file).eval()
    assert f"Loaded {file}" in caplog.text and "left, behind the last feature map: " in caplog.text
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        if name == PLAIN:
            features = network.model(images)[-1]
            # `dynamic_img_size` lets the whole network take pictures of this size, too.
            other = timm.create_model(name, dynamic_img_size=True).eval()
            other.load_state_dict(whole.state_dict())
            expected = other.forward_intermediates(images, indices=1, intermediates_only=True)[-1]
        else:
            features = network(images)["res5"]
            expected = whole.forward_intermediates(images, intermediates_only=True)[-1]
    assert features.shape == expected.shape and expected.std() > 0.01
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def test_authors_names_are_translated_by_timm(tmp_path):
    """PVT-v2's authors call the stages block1 to block4 and the patch embeddings apart."""
    whole = randomized("pvt_v2_b0").state_dict()
    file = {}
    for name, tensor in whole.items():
        stage, _, rest = name.removeprefix("stages.").partition(".")
        if name.startswith("stages."):
            number = int(stage) + 1
            if rest.startswith("downsample."):
                name = f"patch_embed{number}.{rest.removeprefix('downsample.')}"
            elif rest.startswith("blocks."):
                name = f"block{number}.{rest.removeprefix('blocks.')}"
            else:
                name = f"norm{number}.{rest.removeprefix('norm.')}"
            name = name.replace("mlp.dwconv.", "mlp.dwconv.dwconv.")
        name = name.replace("patch_embed.", "patch_embed1.")
        file[name] = tensor
    torch.save(file, tmp_path / "pvt_v2_b0.pth")
    network = backbone("pvt_v2_b0", "MODEL.TIMM.WEIGHTS", tmp_path / "pvt_v2_b0.pth")
    loaded = network.model.state_dict()
    assert torch.equal(
        loaded["stages_2.blocks.1.attn.kv.weight"], whole["stages.2.blocks.1.attn.kv.weight"]
    )
    assert torch.equal(
        loaded["stages_3.downsample.proj.weight"], whole["stages.3.downsample.proj.weight"]
    )


def test_tensors_of_no_layer_are_refused(tmp_path):
    state = randomized("convnext_atto").state_dict() | {"stages.4.extra": torch.ones(2)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth.*without a place: stages\.4\.extra"):
        backbone("convnext_atto", "MODEL.TIMM.WEIGHTS", tmp_path / "w.pth")


def test_channels_last_models_are_turned():
    features = backbone("swin_tiny_patch4_window7_224")(torch.randn(1, 3, 224, 224))
    assert [tuple(level.shape[1:]) for level in features.values()] == [
        (96, 56, 56), (192, 28, 28), (384, 14, 14), (768, 7, 7),
    ]  # fmt: skip


def test_pyramid_makes_four_maps_of_one():
    torch.manual_seed(0)
    pyramid = SimpleFeaturePyramid(8, 12)
    features = torch.randn(2, 8, 4, 6)
    maps = pyramid(features)
    assert {stride: tuple(level.shape) for stride, level in maps.items()} == {
        4: (2, 12, 16, 24), 8: (2, 12, 8, 12), 16: (2, 12, 4, 6), 32: (2, 12, 2, 3),
    }  # fmt: skip
    # The coarsest: pooling, then two convolutions, each with a norm over the channels.
    weights = pyramid.levels["32"].state_dict()

    def norm(level, name):
        level = F.layer_norm(
            level.permute(0, 2, 3, 1), (12,), weights[f"{name}.weight"], weights[f"{name}.bias"],
            eps=1e-6,
        )  # fmt: skip
        return level.permute(0, 3, 1, 2)

    expected = norm(F.conv2d(F.max_pool2d(features, 2), weights["1.weight"]), "2")
    expected = norm(F.conv2d(expected, weights["3.weight"], padding=1), "4")
    torch.testing.assert_close(maps[32], expected, atol=1e-5, rtol=1e-5)


def test_plain_transformer_trains_frozen_behind_a_pyramid():
    """Every parameter of the pyramid learns, whatever the pixel decoder reads; none of the rest."""
    freeze = ("MODEL.TIMM.FREEZE", True, "MODEL.TIMM.PYRAMID_CHANNELS", 32)
    torch.manual_seed(0)
    for decoder in ("SimplePixelDecoder", "MSDeformAttnPixelDecoder"):
        model = build_model(
            tiny_models.tiny_cfg(
                *opts(PLAIN, *freeze), "MODEL.PIXEL_DECODER.NAME", decoder,
                "MODEL.PIXEL_DECODER.ENCODER_LAYERS", 1,
            )
        ).train()  # fmt: skip
        assert not model.backbone.model.training and model.backbone.pyramid.training
        sum(model([tiny_models.random_clip(64, 64, frames=1)]).values()).backward()
        for name, parameter in model.backbone.named_parameters():
            assert (parameter.grad is not None) == name.startswith("pyramid."), name
    names = list(model.backbone.output_shape())
    assert names == ["res2", "res3", "res4", "res5"]


def test_frozen_random_pyramid_is_refused():
    with pytest.raises(ValueError, match="pyramid of .* random: set MODEL.TIMM.FREEZE"):
        backbone(PLAIN, "MODEL.BACKBONE.FREEZE", True)
