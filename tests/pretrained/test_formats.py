"""Published weights: every tensor of every format finds its place, or the error names it."""

import pickle
from collections import OrderedDict

import numpy as np
import published_weights as published
import pytest
import tiny_models
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_backbone, build_model
from torch import nn

from transavs.engine import SafeCheckpointer
from transavs.layers import sine_position_encoding
from transavs.pretrained import FORMATS, convert, read_weights, recognise

HIDDEN = 64
#: Mask2Former's pixel decoder and decoder at their own width on a small backbone.
MASK2FORMER = (
    "MODEL.TRANSAVS.HIDDEN_DIM", 256,
    "MODEL.TRANSAVS.NUM_HEADS", 8,
    "MODEL.TRANSAVS.FEEDFORWARD_DIM", HIDDEN,
    "MODEL.TRANSAVS.DECODER_LAYERS", 9,
)  # fmt: skip


def randomized(module: nn.Module) -> nn.Module:
    """Gives every tensor, running statistics too, a value of its own."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(noise.abs() + 0.5 if "running_var" in name else noise * 0.1 + tensor)
    return module


def backbone_tensors(depth: int) -> dict[str, torch.Tensor]:
    cfg = tiny_models.tiny_cfg("MODEL.RESNETS.DEPTH", depth)
    return dict(randomized(build_backbone(cfg)).state_dict())


class Backbone(nn.Module):
    """A model that is an image backbone and something else."""

    def __init__(self, *opts) -> None:
        super().__init__()
        self.backbone = build_backbone(tiny_models.tiny_cfg(*opts))
        self.head = nn.Linear(2, 2)


def write(path, content):
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("kind", ["torchvision.pth", "torchvision.pkl", "msra.pkl"])
def test_resnets(tmp_path, kind, depth, caplog):
    own = backbone_tensors(depth)
    make = {
        "torchvision.pth": published.torchvision_resnet,
        "torchvision.pkl": published.converted_torchvision_resnet,
        "msra.pkl": published.msra_resnet,
    }[kind]
    model = Backbone("MODEL.RESNETS.DEPTH", depth)
    before = model.head.weight.clone()
    with caplog.at_level("INFO"):
        SafeCheckpointer(model).load(write(tmp_path / kind, make(own, depth)))
    assert "left, the classifier of ImageNet has no use here" in caplog.text
    assert torch.equal(model.head.weight, before)
    loaded = model.backbone.state_dict()
    assert loaded.keys() == own.keys() and len(own) == 5 * len(published.resnet_names(depth))
    for name, tensor in own.items():
        if kind == "msra.pkl" and "running" in name:
            tensor = torch.zeros_like(tensor) if "mean" in name else torch.ones_like(tensor)
        assert torch.equal(loaded[name], tensor), name


def test_msra_names_are_those_that_detectron2_guesses(tmp_path):
    file = write(tmp_path / "R-50.pkl", published.msra_resnet(backbone_tensors(50), 50))
    ours, theirs = Backbone(), Backbone()
    SafeCheckpointer(ours).load(file)
    DetectionCheckpointer(theirs).load(file)
    for name, tensor in theirs.backbone.state_dict().items():
        assert torch.equal(ours.backbone.state_dict()[name], tensor), name


def test_swin_of_its_authors(tmp_path):
    source = randomized(build_backbone(tiny_models.tiny_cfg(*tiny_models.TINY_SWIN))).swin
    content = published.swin_of_its_authors(source.state_dict())
    arrays = {name: tensor.numpy() for name, tensor in content["model"].items()}
    converted = {"model": arrays, "__author__": "third_party", "matching_heuristics": True}
    for suffix, content_of_file in ((".pth", content), (".pkl", converted)):
        model = tiny_models.tiny_model(*tiny_models.TINY_SWIN)
        fresh = model.backbone.swin.norm3.weight.clone()
        SafeCheckpointer(model).load(write(tmp_path / f"swin{suffix}", content_of_file))
        loaded = model.backbone.swin.state_dict()
        for name, tensor in content["model"].items():
            if name in loaded:
                assert torch.equal(loaded[name], tensor), name
        assert torch.equal(loaded["norm3.weight"], fresh)
    conversion = convert(content["model"], FORMATS["swin"], model.state_dict())
    left = {"norm.weight", "norm.bias", "head.weight", "head.bias", "layers.0.blocks.1.attn_mask"}
    assert set(conversion.skipped) == left
    assert {name.split(".")[2] for name in conversion.fresh} == {"norm1", "norm2", "norm3"}


def mask2former_model(*opts) -> nn.Module:
    torch.manual_seed(0)
    cfg = tiny_models.tiny_cfg(*MASK2FORMER, *opts, config="mask2former/s4_R50.yaml")
    return build_model(cfg)


def mask2former_file(kind: str):
    """Returns a file's tensors and the backbone that they were taken from."""
    opts = tiny_models.TINY_SWIN if kind == "swin" else ()
    decoder = ("MODEL.PIXEL_DECODER.NAME", "MSDeformAttnPixelDecoder")
    source = randomized(build_backbone(tiny_models.tiny_cfg(*opts, *decoder))).eval()
    # As the meta-architecture lays it out; another layout would round otherwise.
    source = source.to(memory_format=torch.channels_last)
    body = source.swin if kind == "swin" else source
    inputs = {name: shape.channels for name, shape in source.output_shape().items()}
    tensors = OrderedDict((f"backbone.{k}", v.clone()) for k, v in body.state_dict().items())
    tensors |= published.mask2former_head(inputs, hidden=HIDDEN)
    return tensors, source


def test_written_checkpoints_have_the_published_number_of_tensors():
    """813 for ResNet-101, of which the pixel decoder has 117; 357 of Swin-B's 650 are its own."""
    head = published.mask2former_head({f"res{i}": 8 for i in range(2, 6)}, hidden=HIDDEN)
    assert sum(".pixel_decoder." in name for name in head) == 117
    assert len(head) + 5 * len(published.resnet_names(101)) == 813
    assert len(head) == 650 - 357


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_mask2former_computes_the_same_before_and_after(tmp_path, kind):
    file, source = mask2former_file(kind)
    opts = ()
    if kind == "swin":
        opts = tiny_models.TINY_SWIN
    model = mask2former_model(*opts).eval()
    arrays = OrderedDict((name, tensor.numpy()) for name, tensor in file.items())
    content = {"model": arrays, "__author__": "third_party", "matching_heuristics": True}
    SafeCheckpointer(model).load(write(tmp_path / "model_final.pkl", content))
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        features, expected = model.backbone(images), source(images)
        for name, level in expected.items():
            assert (features[name] - level).abs().max() == 0, name
        prefix = "sem_seg_head.pixel_decoder."
        weights = {k.removeprefix(prefix): v for k, v in file.items() if k.startswith(prefix)}
        sizes = [(2, 3), (4, 6), (8, 12)]
        positions = [sine_position_encoding(h, w, 256).flatten(1).T for h, w in sizes]
        memory, masks = published.reference_pixel_decoder(weights, expected, positions)
        ours = model.pixel_decoder(features)
        for own, theirs in zip((*ours.memory, ours.mask_features), (*memory, masks), strict=True):
            assert own.shape == theirs.shape and theirs.std() > 0.05
            assert (own - theirs).abs().max() == 0
        # Its own sine encoding is ours but for rounding.
        positions = [published.mask2former_position(h, w).float() for h, w in sizes]
        memory, masks = published.reference_pixel_decoder(weights, expected, positions)
        torch.testing.assert_close(ours.mask_features, masks, atol=1e-4, rtol=1e-4)
        for own, theirs in zip(ours.memory, memory, strict=True):
            torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_mask2former_decoder_layers_compute_the_same():
    file, _ = mask2former_file("resnet")
    model = mask2former_model("MODEL.TRANSAVS.MASKED_ATTENTION", "False").eval()
    conversion = convert(file, FORMATS["mask2former"], model.state_dict())
    conversion.check("file")
    model.load_state_dict(conversion.tensors, strict=False)
    decoder = model.query_decoder
    queries, place = torch.randn(1, 5, 256), torch.randn(5, 256)
    memory, position = torch.randn(1, 24, 256), torch.randn(24, 256)
    for layer in range(9):
        reference = published.ReferenceDecoderLayer(file, layer, 256, HIDDEN).eval()
        with torch.no_grad():
            expected = reference(queries, memory, place, position)
            ours = decoder.cross_attention[layer](queries, memory, place, position)
            ours = decoder.feedforward[layer](decoder.self_attention[layer](ours, place))
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)
        queries = ours
    head = "sem_seg_head.predictor."
    with torch.no_grad():
        normed = nn.functional.layer_norm(
            queries, (256,), file[f"{head}decoder_norm.weight"], file[f"{head}decoder_norm.bias"]
        )
        hidden = normed
        for index in range(3):
            linear = f"{head}mask_embed.layers.{index}."
            hidden = nn.functional.linear(hidden, file[f"{linear}weight"], file[f"{linear}bias"])
            hidden = hidden if index == 2 else hidden.relu()
        torch.testing.assert_close(decoder.norm(queries), normed)
        torch.testing.assert_close(decoder.mask_embedding(normed), hidden)
    assert torch.equal(decoder.level.weight, file[f"{head}level_embed.weight"])


@pytest.fixture(scope="module")
def resnet_file():
    return mask2former_file("resnet")[0]


@pytest.fixture(scope="module")
def resnet_model():
    return mask2former_model().state_dict()


def test_mask2former_leaves_queries_and_class_head(resnet_file, resnet_model):
    conversion = convert(resnet_file, FORMATS["mask2former"], resnet_model)
    conversion.check("file")
    assert {name.removeprefix("sem_seg_head.predictor.") for name in conversion.skipped} == {
        "query_feat.weight", "query_embed.weight", "class_embed.weight", "class_embed.bias",
        "criterion.empty_weight",
    }  # fmt: skip
    assert set(conversion.fresh) == {
        "query_decoder.class_head.weight", "query_decoder.class_head.bias",
    }  # fmt: skip
    # The way back: what was mapped, put together again, is the file.
    back: dict[str, list[torch.Tensor]] = {}
    for target, source in conversion.sources.items():
        back.setdefault(source, []).append(conversion.tensors[target])
    assert back.keys() | conversion.skipped.keys() == resnet_file.keys()
    for source, parts in back.items():
        assert len(parts) == (3 if "in_proj" in source else 1)
        assert torch.equal(torch.cat(parts) if len(parts) > 1 else parts[0], resnet_file[source])


@pytest.mark.parametrize("version", ["plain dictionary", "before version 2", "doubled"])
def test_version_trap(resnet_file, resnet_model, version):
    """Whatever prefix a version gave its pixel decoder, all 117 tensors arrive."""
    expected = convert(resnet_file, FORMATS["mask2former"], resnet_model)
    pixel = "sem_seg_head.pixel_decoder."
    renamed = {
        "plain dictionary": lambda name: name,
        "before version 2": lambda name: name.replace(pixel, "sem_seg_head.").replace(
            "query_feat", "static_query"
        ),
        "doubled": lambda name: name.replace(pixel, f"{pixel}pixel_decoder."),
    }[version]
    old = {renamed(name): tensor for name, tensor in resnet_file.items()}
    assert recognise(old) is FORMATS["mask2former"]
    conversion = convert(old, FORMATS["mask2former"], resnet_model)
    conversion.check("file")
    assert conversion.tensors.keys() == expected.tensors.keys()
    assert all(conversion.tensors[name] is not None for name in expected.tensors)
    for name in ("pixel_decoder.level.weight", "pixel_decoder.layers.5.feedforward.linear2.bias"):
        assert torch.equal(conversion.tensors[name], expected.tensors[name])


def test_what_the_configuration_lacks_is_left_with_its_reason(resnet_file):
    model = mask2former_model(
        "MODEL.TRANSAVS.HEAD", "plain", "MODEL.TRANSAVS.DECODER_LAYERS", 3,
        "MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder",
    )  # fmt: skip
    conversion = convert(resnet_file, FORMATS["mask2former"], model.state_dict())
    conversion.check("file")
    reasons = set(conversion.skipped.values())
    assert "MODEL.TRANSAVS.HEAD plain has no such layer" in reasons
    assert "MODEL.TRANSAVS.DECODER_LAYERS builds fewer layers" in reasons
    assert "MODEL.PIXEL_DECODER.NAME is not MSDeformAttnPixelDecoder" in reasons
    assert "query_decoder.cross_attention.2.norm.bias" in conversion.tensors
    assert not any(name.startswith("pixel_decoder.") for name in conversion.tensors)
    assert "fresh in the model, MODEL.PIXEL_DECODER.NAME is not" in conversion.report()


def test_pixel_decoder_without_biases_is_refused(resnet_file):
    """Leaving them out would change what it computes."""
    model = mask2former_model("MODEL.PIXEL_DECODER.PROJECTION_BIAS", "False")
    conversion = convert(resnet_file, FORMATS["mask2former"], model.state_dict())
    with pytest.raises(ValueError, match=r"input_proj\.0\.0\.bias.*PROJECTION_BIAS True"):
        conversion.check("file")


@pytest.mark.parametrize(("change", "message"), [
    (lambda file: file.pop("backbone.res3.1.conv2.weight"), r"the file lacks: backbone\.res3\.1"),
    (lambda file: file.update({"sem_seg_head.predictor.extra": torch.ones(2)}),
     r"without a place: sem_seg_head\.predictor\.extra"),
    (lambda file: file.update({"backbone.res6.0.conv1.weight": torch.ones(2)}),
     r"without a place: backbone\.res6"),
    (lambda file: file.update({"sem_seg_head.pixel_decoder.mask_features.bias": torch.ones(2)}),
     r"another shape: pixel_decoder\.mask_proj\.bias \(file \[2\], model \[256\]\)"),
    (lambda file: file.update({"sem_seg_head.mask_features.bias": torch.ones(256)}),
     r"mean the same: sem_seg_head\.mask_features\.bias and sem_seg_head\.pixel_decoder"),
    (lambda file: file["backbone.stem.conv1.weight"].fill_(np.nan),
     r"not finite: backbone\.stem\.conv1\.weight"),
])  # fmt: skip
def test_every_unexplained_tensor_is_an_error(resnet_file, resnet_model, change, message):
    file = {name: tensor.clone() for name, tensor in resnet_file.items()}
    change(file)
    with pytest.raises(ValueError, match=message):
        convert(file, FORMATS["mask2former"], resnet_model).check("file")


def test_weights_of_another_depth_name_the_layers(tmp_path):
    file = write(tmp_path / "r.pth", published.torchvision_resnet(backbone_tensors(101), 101))
    with pytest.raises(ValueError, match=r"layer3\.6\.conv1\.weight \(the model has no.*DEPTH"):
        SafeCheckpointer(Backbone()).load(file)


def test_s4_is_a_start_for_other_classes_and_lengths(tmp_path):
    source = tiny_models.tiny_model()
    SafeCheckpointer(source, str(tmp_path)).save("model_best", iteration=3)
    target = tiny_models.tiny_model(
        "MODEL.TRANSAVS.NUM_CLASSES", 70, "INPUT.CLIP_SECONDS", 10,
        "MODEL.TRANSAVS.AQDL_WEIGHT", 0.0,
    ).state_dict()  # fmt: skip
    file = read_weights(tmp_path / "model_best.pth")
    kind = recognise(file)
    assert kind is FORMATS["transavs"]
    conversion = convert(file, kind, target)
    conversion.check("model_best.pth")
    differing = {
        "query_decoder.class_head.weight", "query_decoder.class_head.bias",
        "query_generator.time_mixture",
    }  # fmt: skip
    assert set(conversion.fresh) == differing
    assert set(conversion.tensors) == set(target) - differing
    assert all(name in differing or "criterion" in name for name in conversion.skipped)
    for name, tensor in conversion.tensors.items():
        assert torch.equal(tensor, source.state_dict()[name])
    # Where nothing differs everything is taken; another width is no other class.
    again = convert(file, kind, source.state_dict())
    again.check("model_best.pth")
    assert not again.fresh and set(again.skipped) == {n for n in file if n.startswith("criterion.")}
    wider = tiny_models.tiny_model("MODEL.TRANSAVS.FEEDFORWARD_DIM", 64).state_dict()
    with pytest.raises(ValueError, match="of another shape: query_generator.*config.yaml"):
        convert(file, kind, wider).check("model_best.pth")
