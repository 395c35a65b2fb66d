"""What the tests run in several processes, and how they start them."""

from __future__ import annotations

import gc
import json
import multiprocessing
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import Tensor, nn

from transavs.config import setup_cfg
from transavs.data.loader import shard_bounds
from transavs.engine import Trainer
from transavs.engine.distributed import Job, launch
from transavs.losses import (
    AudioQueryDistanceLoss,
    HungarianMatcher,
    SetCriterion,
    StepwiseThreshold,
)
from transavs.structures import FrameTargets, QueryOutput

#: Frames and masks of the clips of some global batches, for :func:`model_gradients`. Two and four
#: processes get unequal shares of the first; in the others some of them, or all, get no target.
CLIPS = {
    "uneven": [(1, 2), (2, 1), (1, 3), (1, 0), (3, 1)],
    "one with targets": [(1, 0), (1, 0), (2, 0), (1, 2)],
    "silence": [(1, 0), (2, 0), (1, 0), (1, 0)],
}
CHANNELS, QUERIES, SIZE = 4, 5, (8, 12)


class TinyPredictor(nn.Module):
    """Queries, classes and masks by one linear map each, with the criterion inside."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Linear(6, QUERIES * CHANNELS)
        self.classes = nn.Linear(CHANNELS, 2)
        self.masks = nn.Linear(CHANNELS, SIZE[0] * SIZE[1] // 4)
        self.criterion = SetCriterion(
            1,
            HungarianMatcher(5.0, 5.0, 1.0),
            AudioQueryDistanceLoss(CHANNELS, distance=2.0),
            StepwiseThreshold(0.4, 0.4, 1, 10),
            StepwiseThreshold(0.45, 0.45, 1, 10),
            mask_bce_weight=1.0,
        )

    def forward(self, frames: Tensor, targets: FrameTargets) -> dict[str, Tensor]:
        queries = self.queries(frames).unflatten(1, (QUERIES, CHANNELS))
        masks = self.masks(queries).unflatten(2, (SIZE[0] // 2, SIZE[1] // 2))
        outputs = [QueryOutput(queries, self.classes(queries), scale * masks) for scale in (0.5, 1)]
        losses: dict[str, Tensor] = self.criterion(outputs, targets, 0)[0]
        return losses


def gradients(
    shares: list[list[int]], ranks: Sequence[int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients for the shares of a fixed batch that this process is given.

    Args:
        shares: for each process the number of true masks of each of its frames.
        ranks: which of them to take.
    """
    torch.manual_seed(3)
    model = TinyPredictor()
    frames = [torch.randn(len(share), 6) for share in shares]
    masks = [[torch.rand(count, *SIZE) > 0.5 for count in share] for share in shares]
    own = [mask for rank in ranks for mask in masks[rank]]
    labels = [torch.zeros(len(mask), dtype=torch.int64) for mask in own]
    targets = FrameTargets.pack(own, labels, SIZE, torch.device("cpu"))
    parallel = create_ddp_model(model, broadcast_buffers=False, device_ids=None)
    losses = parallel(torch.cat([frames[rank] for rank in ranks]), targets)
    torch.stack(list(losses.values())).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: value.detach() for name, value in losses.items()}, found


def in_processes(main: Callable[..., Any], count: int, *args: Any) -> None:
    """Runs ``main(*args)`` in so many forked processes, which need not import anything again."""
    with pytest.MonkeyPatch.context() as patch:
        # NCCL would be chosen where a GPU is visible.
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        launch(main, Job(count), args, "fork")


def on_machines(main: Callable[[int, int], int], count: int) -> list[int]:
    """Returns the exit codes of ``main(machine_rank, port)``, forked at once for each machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        sys.exit(main(rank, port))

    context = multiprocessing.get_context("fork")
    machines = [context.Process(target=run, args=(rank,)) for rank in range(count)]
    gc.collect()  # not in the new processes, in which the threads of old stores are missing
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    return [machine.exitcode for machine in machines]


def save_gradients(batches: list[list[list[int]]], folder: str) -> None:
    """Writes what ``gradients`` returns for each batch, one file a process."""
    results = [gradients(shares, [comm.get_rank()]) for shares in batches]
    torch.save(results, Path(folder) / f"{comm.get_rank()}.pth")


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Context in which models compute in ``dtype``, also where they ask for single precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", lambda self: self.to(dtype))
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def model_gradients(name: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a whole TransAVS for this process's share of the batch ``name``."""
    clips = [
        # Of 64 pixels: group norm refuses the single value that 32 leave at stride 32.
        tiny_models.random_clip(64, 64, frames=frames, masks=masks, seed=index)
        for index, (frames, masks) in enumerate(CLIPS[name])
    ]
    with precision(dtype):
        # All pairs of queries are close enough for AQDL.
        options = ("MODEL.TRANSAVS.AGREEMENT_WEIGHT", 1.0, "MODEL.TRANSAVS.AQDL_DISTANCE", 1e3)
        model = tiny_models.tiny_model(*options).to(dtype)
        tiny_models.make_confident(model)
        # Clips come in single precision.
        model.audio_encoder.register_forward_pre_hook(lambda _, args: (args[0].to(dtype),))
        first, last = shard_bounds(len(clips), comm.get_rank(), comm.get_world_size())
        # Held until the gradients are there: without it they are not exchanged.
        parallel = create_ddp_model(model, broadcast_buffers=False, device_ids=None)
        losses = parallel(clips[first:last])
        torch.stack(list(losses.values())).sum().backward()
    found = {name: value.grad for name, value in tiny_models.trainable(model).items()}
    return {name: value.detach() for name, value in losses.items()}, found


def save_model_gradients(folder: str) -> None:
    """Writes what ``model_gradients`` returns for each batch and precision, one file a process."""
    results = {
        (name, dtype): model_gradients(name, dtype)
        for name in CLIPS
        for dtype in (torch.float32, torch.float64)
    }
    torch.save(results, Path(folder) / f"{comm.get_rank()}.pth")


def save_test_results(config: str, opts: Sequence[str], folder: str) -> None:
    """Writes what ``Trainer.test`` returns and which clips it saw, one file a process."""
    cfg = setup_cfg(config, opts)
    torch.manual_seed(0)
    model = build_model(cfg)
    seen: list[str] = []
    model.register_forward_pre_hook(lambda _, args: seen.extend(c["clip_id"] for c in args[0]))
    if any(value.requires_grad for value in model.parameters()):
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=None)
    results = Trainer.test(cfg, model)
    (Path(folder) / f"{comm.get_rank()}.json").write_text(json.dumps([results, seen]))
