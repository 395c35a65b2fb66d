"""Checkpoints of PyTorch Lightning: their tensors come out, their classes and calls do not."""

import argparse
import os

import pytest
import torch
from torch import nn

from transavs.utils.lightning_checkpoint import Placeholder, load_lightning_checkpoint


class Attack:
    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_tensors_among_foreign_objects(tmp_path):
    folder = tmp_path / "made by the attack"
    state = {"sed_model.a": torch.arange(6.0).view(2, 3).T}
    state["sed_model.b"] = nn.Parameter(torch.ones(2))
    content = {
        "epoch": 7,
        "state_dict": state,
        "callbacks": {argparse.ArgumentParser: {"best_model_score": torch.tensor(0.5)}},
        "hyper_parameters": argparse.Namespace(rate=0.1),
        "attack": Attack(folder),
    }
    torch.save(content, tmp_path / "file.ckpt")
    read = load_lightning_checkpoint(tmp_path / "file.ckpt")
    assert read["epoch"] == 7 and read["state_dict"].keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(read["state_dict"][name], tensor)
        assert not read["state_dict"][name].requires_grad
    assert isinstance(read["hyper_parameters"], Placeholder)
    assert isinstance(read["attack"], Placeholder) and not folder.exists()
    assert not hasattr(read["hyper_parameters"], "rate")


def test_damaged_and_other_files(tmp_path):
    file = tmp_path / "file.ckpt"
    torch.save([1, 2], file)
    with pytest.raises(ValueError, match=r"expected a dictionary in .*file\.ckpt, got list"):
        load_lightning_checkpoint(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot read .*file\.ckpt"):
        load_lightning_checkpoint(file)
    torch.save({"a": torch.ones(1)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="cannot read .*not a zip file.*as .pth with a newer"):
        load_lightning_checkpoint(file)
    torch.jit.script(nn.Linear(1, 1)).save(str(file))
    with pytest.raises(ValueError, match="a program of TorchScript"):
        load_lightning_checkpoint(file)
