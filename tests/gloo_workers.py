"""What the tests run in several processes: spawned processes import it by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from listening_model import ListeningModel
from torch import Tensor, nn

from transavs.config import setup_cfg
from transavs.engine import Trainer
from transavs.losses import (
    AudioQueryDistanceLoss,
    HungarianMatcher,
    SetCriterion,
    StepwiseThreshold,
)
from transavs.structures import FrameTargets, QueryOutput

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


def save_gradients(batches: list[list[list[int]]], folder: str) -> None:
    """Writes what ``gradients`` returns for each batch, one file a process."""
    torch.set_num_threads(1)
    results = [gradients(shares, [comm.get_rank()]) for shares in batches]
    torch.save(results, Path(folder) / f"{comm.get_rank()}.pth")


def save_test_results(config: str, opts: Sequence[str], folder: str) -> None:
    """Writes what ``Trainer.test`` returns for the listening model, one file a process."""
    torch.set_num_threads(1)
    cfg = setup_cfg(config, opts)
    results = Trainer.test(cfg, create_ddp_model(ListeningModel(cfg), device_ids=None))
    (Path(folder) / f"{comm.get_rank()}.json").write_text(json.dumps(results))
