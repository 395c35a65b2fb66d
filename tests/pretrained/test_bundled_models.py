"""Bundled models: what is in the file, what comes back, and what is refused."""

import pytest
import safetensors.torch
import torch
from torch import nn

from transavs.engine import SafeCheckpointer
from transavs.pretrained.bundled_models import pack_trained_parts, read_notes, read_safetensors


class Network(nn.Module):
    def __init__(self, seed: int = 0, queries: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        torch.manual_seed(seed)
        self.head = nn.Linear(2, queries)
        self.norm = nn.BatchNorm1d(queries)
        nn.init.uniform_(self.norm.running_var, 1e6, 2e6)
        self.criterion = nn.Linear(2, 2)
        self.agreement_loss = nn.Linear(2, 2)


@pytest.fixture
def bundled(tmp_path):
    def write(half: bool = False, model: nn.Module | None = None) -> str:
        path = tmp_path / "model.safetensors"
        model = Network(seed=1) if model is None else model
        path.write_bytes(pack_trained_parts(model, {"version": "1"}, half))
        return str(path)

    return write


def test_only_what_was_trained_and_evaluates(bundled):
    path = bundled()
    tensors = safetensors.torch.load_file(path)
    assert set(tensors) == {
        "head.weight",
        "head.bias",
        *(f"norm.{name}" for name in Network().norm.state_dict()),
    }
    notes = read_notes(path)
    assert notes["version"] == "1" and notes["format"] == "transavs-trained-parts"


@pytest.mark.parametrize("half", [False, True])
def test_round_trip(bundled, half):
    source, model = Network(seed=1), Network(seed=2)
    path = bundled(half)
    stored = safetensors.torch.load_file(path)["head.weight"].dtype
    assert stored == (torch.float16 if half else torch.float32)
    SafeCheckpointer(model).load(path)
    for name, value in model.state_dict().items():
        expected = source.state_dict()[name]
        assert value.dtype == expected.dtype
        if name.startswith(("criterion.", "agreement_loss.")):
            assert not torch.equal(value, expected)
        elif half and name == "head.weight":
            assert torch.equal(value, expected.half().float())
        else:
            # Also the statistics, which are beyond the range of float16.
            assert torch.equal(value, expected), name


def test_other_files_are_read_as_they_are(tmp_path):
    path = str(tmp_path / "flat.safetensors")
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.float16)}, path)
    assert read_notes(path) == {}
    read = read_safetensors(path)
    assert list(read) == ["a"] and read["a"].dtype == torch.float16


def test_another_backbone_is_refused(bundled):
    path = bundled()
    model = Network()
    model.backbone[0].weight.data += 1e-6
    with pytest.raises(ValueError, match="model.safetensors .* MODEL.TIMM.WEIGHTS packaged"):
        SafeCheckpointer(model).load(path)
    del model.backbone
    with pytest.raises(ValueError, match="this configuration builds another one"):
        SafeCheckpointer(model).load(path)


def test_parts_that_do_not_fit_are_refused(bundled):
    path = bundled()
    with pytest.raises(ValueError, match=r"head.weight \(file \[3, 2\], model \[4, 2\]\)"):
        SafeCheckpointer(Network(queries=4)).load(path)
    larger = Network()
    larger.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="missing: extra.bias, extra.weight"):
        SafeCheckpointer(larger).load(path)
    with pytest.raises(ValueError, match="unexpected: extra.bias, extra.weight"):
        SafeCheckpointer(Network()).load(bundled(model=larger))


def test_broken_file(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="broken.safetensors: not a checkpoint"):
        SafeCheckpointer(Network()).load(str(path))


@pytest.mark.parametrize(("value", "half"), [(float("nan"), False), (1e6, True)])
def test_numbers_that_cannot_be_stored(value, half):
    model = Network()
    model.head.weight.data[0, 0] = value
    with pytest.raises(ValueError, match="head.weight has values that are not finite"):
        pack_trained_parts(model, {}, half)
