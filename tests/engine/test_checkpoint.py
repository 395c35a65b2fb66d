"""SafeCheckpointer: whole files or none, no foreign code, nothing left random unnoticed."""

import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import tiny_models
import torch
from torch import nn

from transavs.engine import SafeCheckpointer


class Scores(nn.Module):
    """Stands for a network: a backbone, a head with a row a query, and a training-only part."""

    def __init__(self, queries: int = 3, extra: bool = False, criterion: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, queries)
        if extra:
            self.extra = nn.Linear(2, 2)
        if criterion:
            self.criterion = nn.Linear(2, 2)


def equal_states(first: nn.Module, second: nn.Module) -> bool:
    others = second.state_dict()
    return all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


@pytest.fixture
def checkpoint(tmp_path):
    SafeCheckpointer(Scores(), str(tmp_path)).save("model", iteration=7)
    return tmp_path / "model.pth"


def test_saved_model_and_extras_come_back(tmp_path):
    model = Scores()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.head(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    SafeCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model_0000006", iteration=6)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000006.pth"

    other = Scores()
    fresh = torch.optim.AdamW(other.parameters(), lr=0.5)
    checkpointer = SafeCheckpointer(other, str(tmp_path), optimizer=fresh)
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 6
    assert equal_states(other, model)
    assert fresh.state_dict()["param_groups"][0]["lr"] == 0.1
    assert not list(tmp_path.glob("*.tmp"))


def test_nothing_is_saved_without_a_folder_or_leave(tmp_path):
    SafeCheckpointer(Scores()).save("model")
    SafeCheckpointer(Scores(), str(tmp_path), save_to_disk=False).save("model")
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_former_checkpoint(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def half_written(data, file):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        SafeCheckpointer(Scores(), str(checkpoint.parent)).save("model")
    assert checkpoint.read_bytes() == before
    assert (checkpoint.parent / "last_checkpoint").read_text() == "model.pth"


def test_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    steps = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: steps.append("sync"))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("name"), replace(*paths)))
    SafeCheckpointer(Scores(), str(tmp_path)).save("model")
    # The file, its name, and the folder that holds the name; the same for last_checkpoint.
    assert steps == ["sync", "name", "sync"] * 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_checkpoint_is_reported_with_a_way_out(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    checkpointer = SafeCheckpointer(Scores(), str(checkpoint.parent))
    with pytest.raises(ValueError, match=r"model\.pth.*resume from an older one.*last_checkpoint"):
        checkpointer.load(str(checkpoint))
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: model\.pth \("):
        checkpointer.resume_or_load("", resume=True)
    # The checkpointer itself stays usable.
    SafeCheckpointer(Scores(), str(checkpoint.parent)).save("older")
    checkpointer.load(str(checkpoint.parent / "older.pth"))


class Attack:
    """A pickle of it makes a folder when read."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_pickle_that_runs_code_is_refused(tmp_path, suffix):
    file, folder = tmp_path / f"model{suffix}", tmp_path / "made by the attack"
    content = {"model": {"head.weight": torch.zeros(3, 4)}, "optimizer": Attack(folder)}
    if suffix == ".pkl":
        content["model"] = {"head.weight": np.zeros((3, 4), np.float32)}
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=f"model{suffix}"):
        SafeCheckpointer(Scores()).load(str(file))
    assert not folder.exists()


def test_safetensors_are_read_and_broken_ones_reported(tmp_path):
    model, other = Scores(), Scores()
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    SafeCheckpointer(other).load(str(file))
    assert equal_states(model, other)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match="not a checkpoint of tensors"):
        SafeCheckpointer(other).load(str(file))


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, torch.zeros(2)])
def test_file_of_something_else_is_reported(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="expected a dictionary of tensors"):
        SafeCheckpointer(Scores()).load(str(tmp_path / "model.pth"))


def test_missing_file_is_named(tmp_path):
    for path in (str(tmp_path / "no.pth"), f"{tmp_path}/no.pth?matching_heuristics=True"):
        with pytest.raises(FileNotFoundError, match=r"no\.pth: mend MODEL\.WEIGHTS"):
            SafeCheckpointer(Scores()).load(path)


def test_empty_path_loads_nothing():
    assert SafeCheckpointer(Scores()).load("") == {}


def test_file_of_pycls_is_refused(tmp_path):
    (tmp_path / "model.pyth").write_bytes(b"")
    with pytest.raises(ValueError, match="pycls"):
        SafeCheckpointer(Scores()).load(str(tmp_path / "model.pyth"))


def test_checkpoint_of_another_number_of_queries_names_the_tensors(checkpoint):
    with pytest.raises(ValueError) as caught:
        SafeCheckpointer(Scores(queries=5)).load(str(checkpoint))
    message = str(caught.value)
    assert "head.weight (file [3, 4], model [5, 4])" in message
    assert "head.bias (file [3], model [5])" in message
    assert "missing" not in message and "unexpected" not in message
    assert "MODEL.TRANSAVS.NUM_QUERIES" in message and str(checkpoint) in message


@pytest.mark.parametrize(("saved", "loaded", "what"), [
    (False, True, "missing: extra.bias, extra.weight"),
    (True, False, "unexpected: extra.bias, extra.weight"),
])  # fmt: skip
def test_checkpoint_of_another_network_is_refused(tmp_path, saved, loaded, what):
    SafeCheckpointer(Scores(extra=saved), str(tmp_path)).save("model")
    with pytest.raises(ValueError, match=what):
        SafeCheckpointer(Scores(extra=loaded)).load(str(tmp_path / "model.pth"))


@pytest.mark.parametrize(("saved", "loaded"), [(True, False), (False, True)])
def test_what_only_training_needs_may_differ(tmp_path, saved, loaded):
    model, other = Scores(criterion=saved), Scores(criterion=loaded)
    SafeCheckpointer(model, str(tmp_path)).save("model")
    SafeCheckpointer(other).load(str(tmp_path / "model.pth"))
    assert torch.equal(model.head.weight, other.head.weight)


def test_backbone_weights_alone_may_be_loaded(tmp_path):
    model, other = Scores(), Scores()
    state = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    torch.save({"model": state}, tmp_path / "backbone.pth")
    before = other.head.weight.clone()
    SafeCheckpointer(other).load(str(tmp_path / "backbone.pth"))
    assert equal_states(model.backbone, other.backbone)
    assert torch.equal(other.head.weight, before)


def test_backbone_weights_of_another_width_are_refused(tmp_path):
    torch.save({"model": {"backbone.0.weight": torch.zeros(8, 4)}}, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match=r"backbone\.0\.weight \(file \[8, 4\], model \[4, 4\]\)"):
        SafeCheckpointer(Scores()).load(str(tmp_path / "backbone.pth"))


def test_public_names_need_the_heuristics_and_say_so(tmp_path):
    model, file = Scores(), tmp_path / "public.pth"
    state = {"0.weight": torch.ones(4, 4), "0.bias": torch.ones(4), "fc.weight": torch.ones(9, 4)}
    torch.save({"model": state}, file)
    with pytest.raises(ValueError, match=r"0\.weight.*append \?matching_heuristics=True"):
        SafeCheckpointer(model).load(str(file))
    SafeCheckpointer(model).load(f"{file}?matching_heuristics=True")
    assert (model.backbone[0].weight == 1).all()


def test_heuristics_leave_the_rest_of_the_network_alone(tmp_path):
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.ModuleDict({"norm": nn.LayerNorm(4), "linear": nn.Linear(4, 4)})
            self.query_generator = nn.ModuleDict({"norm": nn.LayerNorm(4)})

    model = Named()
    state = {"norm.weight": torch.full((4,), 2.0), "linear.weight": torch.full((4, 4), 3.0)}
    torch.save({"model": state}, tmp_path / "public.pth")
    SafeCheckpointer(model).load(f"{tmp_path}/public.pth?matching_heuristics=True")
    assert (model.backbone["norm"].weight == 2).all()
    assert (model.query_generator["norm"].weight == 1).all()


@pytest.mark.parametrize(("key", "value", "tensor"), [
    ("MODEL.TRANSAVS.NUM_QUERIES", 7, "query_generator.time_mixture"),
    ("MODEL.TRANSAVS.DECODER_LAYERS", 4, r"query_decoder\.cross_attention\.3"),
    ("MODEL.TRANSAVS.QUERY_POSITION", "none", "query_generator.position.weight"),
    ("MODEL.TRANSAVS.AUDIO_CONTEXT", "second", "query_generator.time_mixture"),
    ("MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder", "pixel_decoder"),
])  # fmt: skip
def test_checkpoint_of_transavs_with_other_settings_is_refused(tmp_path, key, value, tensor):
    SafeCheckpointer(tiny_models.tiny_model(), str(tmp_path)).save("model")
    with pytest.raises(ValueError, match=tensor):
        SafeCheckpointer(tiny_models.tiny_model(key, value)).load(str(tmp_path / "model.pth"))


def test_checkpoint_of_transavs_without_aqdl_evaluates(tmp_path):
    model = tiny_models.tiny_model("MODEL.TRANSAVS.AQDL_WEIGHT", 0.0)
    SafeCheckpointer(model, str(tmp_path)).save("model")
    SafeCheckpointer(tiny_models.tiny_model()).load(str(tmp_path / "model.pth"))


def test_caffe_pickles_are_renamed(tmp_path):
    """The MSRA files of ResNet-101: Caffe2's names, NumPy arrays, momenta beside them."""
    model = tiny_models.tiny_model()
    stem = model.backbone.stem.conv1.weight
    blobs = {
        "conv1_w": np.full(tuple(stem.shape), 0.5, np.float32),
        "conv1_w_momentum": np.zeros(3, np.float32),
        "pred_w": np.zeros((1000, 4), np.float32),
    }
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    SafeCheckpointer(model).load(str(tmp_path / "R-50.pkl"))
    assert (stem == 0.5).all()


def test_pickles_of_the_model_zoo_keep_their_names(tmp_path):
    model = tiny_models.tiny_model()
    stem = model.backbone.stem.conv1.weight
    content = {
        "model": {"stem.conv1.weight": np.full(tuple(stem.shape), 0.25, np.float32)},
        "__author__": "torchvision",
        "matching_heuristics": True,
    }
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    SafeCheckpointer(model).load(str(tmp_path / "R-50.pkl"))
    assert (stem == 0.25).all()
