"""train_net in several processes: deaths while it works, two machines, torchrun."""

import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import gloo_workers
import pytest
import small_trainings
import tiny_models
import torch
from detectron2.utils import comm

from transavs.data.loader import PositionDataset, RecordDataset
from transavs.engine import Trainer
from transavs.engine.distributed import launch
from transavs.tools import train_net
from transavs.tools.command_line import USER_ERROR

pytestmark = pytest.mark.forks

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Processes are forked, so that they need not import anything, and know what is patched."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(train_net, "launch", functools.partial(launch, start_method="fork"))


def words(folder: Path, *opts: object, flags=("--num-gpus", "2")) -> list[str]:
    """The command line of a tiny training on clips that group norm accepts one by one."""
    options = [
        *tiny_models.TINY, "SOLVER.MAX_ITER", 3, "TEST.EVAL_PERIOD", 3, "OUTPUT_DIR", folder,
        "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.CROP.SIZE", "[64,64]", *opts,
    ]  # fmt: skip
    return ["--config-file", "s4_R101.yaml", *flags, *map(str, options)]


def test_none_of_them_begins_where_another_training_is(datasets_env, tmp_path, capfd):
    folder = tmp_path / "run"
    folder.mkdir()
    with small_trainings.another_at_work(folder) as process:
        assert train_net.main(words(folder)) == USER_ERROR
        assert [path.name for path in folder.iterdir()] == [".work.lock"]
    assert f"at work in {folder}: process {process}" in capfd.readouterr().err


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_fault() -> None:
    raise RuntimeError("own fault")


def mistaken() -> None:
    raise ValueError("frame 3 is no picture")


def patch(monkeypatch, owner: type, name: str, end, first: int = 0) -> None:
    """Lets a method end process 1 at its call number ``first``."""
    original, calls = getattr(owner, name), []

    def patched(self, *args):
        calls.append(None)
        if len(calls) > first and comm.get_rank() == 1:
            end()
        return original(self, *args)

    monkeypatch.setattr(owner, name, patched)


@pytest.mark.parametrize(
    ("owner", "method", "first", "end", "code", "message"),
    [
        (Trainer, "run_step", 1, killed, 1, "train_net: process 1 terminated with signal SIGKILL"),
        (Trainer, "run_step", 1, at_fault, 1, "in at_fault\n.*RuntimeError: own fault"),
        (PositionDataset, "__getitem__", 1, at_fault, 1, "in at_fault\n.*RuntimeError: own fault"),
        (PositionDataset, "__getitem__", 1, mistaken, 2, "error: frame 3 is no picture\n$"),
        (RecordDataset, "__getitem__", 0, killed, 1, r"Process 1 terminated with.*pid.* Killed"),
    ],
    ids=["killed", "raises", "loader raises", "mistake in the data", "loader of evaluation killed"],
)  # fmt: skip
def test_deaths(
    datasets_env, tmp_path, monkeypatch, capfd, owner, method, first, end, code, message
):
    patch(monkeypatch, owner, method, end, first)
    # Two clips to validate: one for each process.
    options = ("DATALOADER.NUM_WORKERS", 1, "DATASETS.VAL", "('avsbench_s4_train',)")
    assert train_net.main(words(tmp_path / "run", *options)) == code
    printed = capfd.readouterr().err
    assert re.search(f"(?s){message}", printed), printed
    assert not (tmp_path / "run" / "model_final.pth").exists() or owner is RecordDataset


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth")["model"]


def assert_like_one(tmp_path: Path, folder: Path) -> None:
    """Compares with a training by one process, whose parameters moved by up to 0.003."""
    alone = tmp_path / "alone"
    assert train_net.main(words(alone, flags=())) == 0
    expected, found = final_weights(alone), final_weights(folder)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)


def test_two_machines_train_like_one(datasets_env, tmp_path):
    def machine(rank: int, port: int) -> int:
        flags = ("--num-machines", "2", "--machine-rank", str(rank))
        flags = (*flags, "--dist-url", f"tcp://127.0.0.1:{port}")
        return train_net.main(words(tmp_path / "two", flags=flags))

    assert gloo_workers.on_machines(machine, 2) == [0, 0]
    assert_like_one(tmp_path, tmp_path / "two")


@pytest.mark.slow
def test_torchrun_trains_like_one(datasets_env, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", "tools/train_net.py"]
    subprocess.run([*command, *words(tmp_path / "two", flags=())], cwd=REPOSITORY, check=True)
    assert_like_one(tmp_path, tmp_path / "two")


def test_torchrun_and_options_that_contradict(tmp_path, monkeypatch, capsys):
    numbers = {"RANK": 0, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 4}
    for name, value in {**numbers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 2000}.items():
        monkeypatch.setenv(name, str(value))
    assert train_net.main(words(tmp_path / "run")) == 2
    assert (
        "train_net: error: torchrun" in (told := capsys.readouterr().err) and "--num-gpus" in told
    )
