"""Files of weights: what is read of each kind, and what is no file of weights."""

import argparse
import collections
import os

import numpy as np
import pytest
import torch
from torch import nn

from transavs.pretrained import read_weights
from transavs.pretrained.files import load_lightning_checkpoint


class Attributes(dict):
    """As Lightning keeps hyper-parameters."""


class Attack:
    def __init__(self, call, *arguments) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_tensors_among_foreign_objects(tmp_path):
    canary = tmp_path / "canary"
    state = {"sed_model.a": torch.arange(6.0).view(2, 3).T}
    state["sed_model.b"] = nn.Parameter(torch.ones(2))
    content = {
        "epoch": 7,
        "state_dict": state,
        "callbacks": {argparse.ArgumentParser: {"best_model_score": torch.tensor(0.5)}},
        "hyper_parameters": Attributes(rate=0.1, other=argparse.Namespace(rate=0.1)),
        "counts": collections.defaultdict(int, a=np.int64(3)),
        "array": np.ones(3),
        "attack": Attack(open, str(canary), "w"),
    }
    file = tmp_path / "file.ckpt"
    torch.save(content, file)
    known = set(torch.serialization.get_safe_globals())
    read = load_lightning_checkpoint(file)
    assert read["epoch"] == 7 and not read["attack"] and not canary.exists()
    tensors = read_weights(file)
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())
    # Nothing that was put in the place of foreign names stays known to torch.
    assert set(torch.serialization.get_safe_globals()) == known
    torch.save(content | {"attack": Attack(os.mkdir, str(canary))}, file)
    with pytest.raises(ValueError, match=r"file\.ckpt.*refused"):
        read_weights(file)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
@pytest.mark.parametrize(
    "content", [{"model": {"a": torch.ones(1), "lr": 0.1}}, {}, [1, 2], b"damaged"]
)
def test_files_without_tensors_alone_are_told(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=rf"w\{suffix}"):
        read_weights(path)
    with pytest.raises(FileNotFoundError, match=r"no\.pth.*MODEL\.WEIGHTS"):
        read_weights(tmp_path / "no.pth", "MODEL.WEIGHTS")


def test_containers_that_are_no_checkpoints(tmp_path):
    file = tmp_path / "file.ckpt"
    torch.save({"a": torch.ones(1)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"cannot read .*file\.ckpt"):
        read_weights(file)
    for name in ("file.ckpt", "file.pth"):
        torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / name))
        with pytest.raises(ValueError, match=f"cannot read .*{name}"):
            read_weights(tmp_path / name)
