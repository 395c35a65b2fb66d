"""Weights files of three kinds, and everything that can be wrong with one."""

import re

import pytest
import safetensors.torch
import torch
from torch import nn

from transavs.audio import VGGish, load_encoder_weights
from transavs.pretrained import FORMATS, convert, recognise


class TinyVGGish(nn.Module):
    """VGGish's two sub-modules, small."""

    released_weights = "`tiny.pth` of nobody"

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.embeddings = nn.Sequential(nn.Linear(4, 3), nn.ReLU())


def values(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in TinyVGGish().state_dict().items()
    }


def assert_loads(path):
    encoder = TinyVGGish()
    load_encoder_weights(encoder, path)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, values()[name]), name


def test_files_of_each_kind_and_names_of_the_torchaudio_bundle(tmp_path):
    torch.save(values(), tmp_path / "vggish.pth")
    safetensors.torch.save_file(values(), tmp_path / "vggish.safetensors")
    groups = {"features": "features_network", "embeddings": "embedding_network"}
    bundle = {
        f"{groups[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor
        for name, tensor in values().items()
    }
    torch.save(bundle, tmp_path / "bundle.pt")
    for name in ("vggish.pth", "vggish.safetensors", "bundle.pt"):
        assert_loads(tmp_path / name)
        assert_loads(str(tmp_path / name))


def test_half_precision_is_widened(tmp_path):
    halves = {name: tensor.half() for name, tensor in values().items()}
    torch.save(halves, tmp_path / "half.pth")
    encoder = TinyVGGish()
    load_encoder_weights(encoder, tmp_path / "half.pth")
    assert encoder.features[0].weight.dtype == torch.float32
    assert torch.equal(encoder.features[0].weight, halves["features.0.weight"].float())


def assert_refused(tmp_path, content, *messages, name="bad.pth"):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    encoder = TinyVGGish()
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_encoder_weights(encoder, path)
    for message in (str(path), *messages):
        assert re.search(message, str(error.value)), str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


def test_every_misfit_is_listed(tmp_path):
    content = values()
    del content["embeddings.0.bias"]
    content["pproc.mean"] = torch.zeros(1)
    content["features.0.weight"] = torch.zeros(2, 1, 5, 5)
    content["features.0.bias"][0] = torch.nan
    assert_refused(
        tmp_path,
        content,
        "does not fit TinyVGGish",
        r"lacks: audio_encoder\.embeddings\.0\.bias",
        r"without a place: pproc\.mean",
        r"features\.0\.weight \(file \[2, 1, 5, 5\], model \[2, 1, 3, 3\]\)",
        r"not finite: features\.0\.bias",
    )


def test_weights_of_another_network_are_refused_in_short(tmp_path):
    content = {f"backbone.{index}.weight": torch.zeros(1) for index in range(100)}
    assert_refused(tmp_path, content, "and 92 more", "MODEL.AUDIO.NAME")


def test_other_contents_are_refused(tmp_path):
    assert_refused(tmp_path, [torch.zeros(1)], "dictionary of tensors", "got list")
    assert_refused(tmp_path, {"weights": values(), "step": 3}, "entries are none: weights, step")
    assert_refused(tmp_path, b"not a checkpoint", "cannot read")
    assert_refused(tmp_path, b"not a checkpoint", "cannot read", name="bad.safetensors")


@pytest.mark.parametrize(("change", "message"), [
    (lambda tensor: tensor.long(), r"another type: .*features\.0\.bias \(file torch\.\w+"),
    (lambda tensor: tensor > 0, r"another type: .*features\.0\.bias \(file torch\.\w+"),
    (lambda tensor: tensor.to(torch.complex64), "entries are none: features.0.bias;"),
    (lambda tensor: tensor.to_sparse(), "entries are none: features.0.bias;"),
    (lambda tensor: tensor.to("meta"), "entries are none: features.0.bias;"),
])  # fmt: skip
def test_tensors_of_another_kind_are_refused(tmp_path, change, message):
    content = values()
    content["features.0.bias"] = change(content["features.0.bias"])
    assert_refused(tmp_path, content, message)
    assert_refused(tmp_path, {**values(), 5: torch.zeros(1)}, "without a place: 5")


class Payload:
    def __reduce__(self):
        return print, ("this must never be printed",)


def test_code_in_a_weights_file_is_not_run(tmp_path, capsys):
    assert_refused(tmp_path, {"features.0.weight": Payload()}, "cannot read")
    assert "never" not in capsys.readouterr().out


def test_missing_files_tell_where_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth.*`tiny\.pth` of nobody"):
        load_encoder_weights(TinyVGGish(), tmp_path / "absent.pth")


@pytest.mark.parametrize("bundle", [False, True])
def test_released_vggish_names_fit(bundle):
    """The 18 names of the released file and of the bundle, without their 290 MB."""
    with torch.device("meta"):
        names = list(VGGish().state_dict())
    groups = {"features": "features_network", "embeddings": "embedding_network"} if bundle else {}
    file = {}
    for name in names:
        group, _, rest = name.partition(".")
        file[f"{groups.get(group, group)}.{rest}"] = torch.ones(1)
    expected = {f"audio_encoder.{name}": torch.zeros(1) for name in names}
    assert recognise(file) is FORMATS["vggish"]
    conversion = convert(file, FORMATS["vggish"], expected)
    conversion.check("file")
    assert conversion.tensors.keys() == expected.keys() and len(expected) == 18
