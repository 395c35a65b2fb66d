"""Trainings of a few weights that take a tenth of a second, and what is left of them on disk.

Everything around the network is the real thing: trainer, hooks, loader, optimizer, schedule, files.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tiny_models
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from transavs.data import build_clip_train_loader
from transavs.engine import Trainer
from transavs.engine.run_log import RunLog
from transavs.losses import StepwiseThreshold

#: Names in metrics.json that tell of time, which no two runs have in common.
TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")

OPTIONS = (
    "SOLVER.MAX_ITER", 8,
    "SOLVER.CHECKPOINT_PERIOD", 2,
    "TEST.EVAL_PERIOD", 2,
    "SOLVER.BASE_LR", 0.05,
)  # fmt: skip


class SmallNetwork(nn.Module):
    """Batch statistics, dropout, and a threshold that follows the iteration."""

    def __init__(self, max_iter: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 1)
        )
        self.threshold = StepwiseThreshold(0.4, 0.1, 2, max_iter)

    def forward(self, clips: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        storage = get_event_storage()
        delta = self.threshold(storage.iter)
        if storage.iter % 3 == 0:
            storage.put_scalar("queries/delta_1", delta, smoothing_hint=False)
        found = self.layers(torch.stack([clip["values"] for clip in clips]))
        return {"loss_fit": (found - delta).square().mean(), "loss_size": 0.1 * found.abs().mean()}


class Drawing(HookBase):
    """A picture every three iterations, which waits in the storage until the log is written."""

    def after_step(self) -> None:
        if self.trainer.iter % 3 == 0:
            picture = np.full((3, 4, 4), self.trainer.iter, np.uint8)
            self.trainer.storage.put_image("sample", picture)


class SmallTrainer(Trainer):
    """The trainer with a small network, and scores that rise and fall with its weights."""

    LOG_PERIOD = 5

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return SmallNetwork(cfg.SOLVER.MAX_ITER)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0) -> Any:
        def mapper(record: int, rng: np.random.Generator) -> dict[str, Tensor]:
            return {"values": torch.from_numpy(rng.normal(record, 1, 3)).float()}

        return build_clip_train_loader(cfg, [0, 1, 2, 3, 4], mapper, start_iter)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        total = sum(float(value.double().sum()) for value in model.state_dict().values())
        return OrderedDict(avs={"M_J": 1e4 * abs(total) % 100})

    def build_hooks(self) -> list[HookBase]:
        found = super().build_hooks()
        log = next(index for index, hook in enumerate(found) if isinstance(hook, RunLog))
        return [*found[:log], Drawing(), *found[log:]]


def train(folder: Path, *opts: object, resume: bool = False, seed: int = 0) -> SmallTrainer:
    """Runs a small training; ``seed`` sets the generators as they are when it starts."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = SmallTrainer(tiny_models.tiny_cfg("OUTPUT_DIR", folder, *OPTIONS, *opts))
    trainer.resume_or_load(resume=resume)
    torch.manual_seed(seed)
    trainer.train()
    return trainer


def in_a_process(work: Callable[[], object]) -> int:
    """Returns the exit status of ``work`` in a fork: negative if a signal ended it."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class Moments:
    """Counts what a process does to files, its steps and its evaluations; kills it at one of them.

    Only for a process of its own: nothing is put back.

    Args:
        last: the number of the moment, from 0, before which to die; -1: never.
        halved: if that moment is the sync of a file, cut off the end of what was written.
    """

    def __init__(self, last: int = -1, halved: bool = False) -> None:
        self.seen: list[str] = []
        self._last = last
        self._halved = halved
        # A killed process leaves what it wrote to the system, which need not wait for the disk.
        os.fsync = lambda descriptor: None
        for name in ("fsync", "replace", "unlink", "truncate"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        SmallNetwork.forward = self._watched("step", SmallNetwork.forward)
        SmallTrainer._evaluate = self._watched("evaluation", SmallTrainer._evaluate)

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if len(self.seen) == self._last:
                if (
                    self._halved
                    and name == "fsync"
                    and not os.path.isdir(f"/proc/self/fd/{args[0]}")
                ):
                    os.ftruncate(args[0], max(0, os.fstat(args[0]).st_size - 7))
                os.kill(os.getpid(), signal.SIGKILL)
            self.seen.append(name)
            return function(*args, **kwargs)

        return watched


def left_behind(folder: Path) -> dict[str, Any]:
    """Returns all that a training leaves and that must not depend on interruptions."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = [tag for tag in events.Tags()["scalars"] if tag not in TIMES]
    return {
        "files": sorted(p.name for p in folder.iterdir() if "tfevents" not in p.name),
        "newest": (folder / "last_checkpoint").read_text(),
        "checkpoints": {path.name: checkpoint(path) for path in folder.glob("model_*.pth")},
        "best": json.loads((folder / "model_best.json").read_text()),
        "metrics": metrics(folder / "metrics.json"),
        "curves": {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in scalars},
        "pictures": {
            tag: [(event.step, event.encoded_image_string) for event in events.Images(tag)]
            for tag in events.Tags()["images"]
        },
    }


def metrics(path: Path) -> list[dict[str, float]]:
    """Returns the lines of a metrics.json without the times; each must be whole."""
    lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def checkpoint(path: Path) -> Any:
    """Returns the content of a checkpoint as comparable values, without the times."""
    data = torch.load(path, weights_only=True)
    if "trainer" in data:
        log = data["trainer"]["hooks"]["RunLog"]
        # Times have as many digits as they have: the size of the log differs by them.
        log["size"] = 0
        log["scalars"] = [entry for entry in log["scalars"] if entry[0] not in TIMES]
    return plain(data)


def plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), value.double().flatten().tolist()]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


_HOLDER = """
import sys
from transavs.utils.folder_lock import lock_folder

with lock_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_at_work(folder: Path) -> Iterator[int]:
    """Lets another process, whose number is yielded, hold the lock of a training's folder."""
    command = [sys.executable, "-c", _HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.communicate()
