"""A training of two processes of which one meets NaN: spawned processes import it by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny_models
import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from transavs.engine import build_optimizer
from transavs.engine.steps import build_steps
from transavs.utils.whole_files import write_text


def poison_classes(module: Any, inputs: Any, output: Any) -> Any:
    """A forward hook: NaN in the classes of the last frame."""
    return torch.cat((output[:-1], output[-1:] * torch.nan))


def train_both(folder: str) -> None:
    """Trains with each of ``SOLVER.NONFINITE``, in a folder of that name."""
    torch.set_num_threads(1)
    for action in ("stop", "skip"):
        train(action, Path(folder) / action)
        comm.synchronize()


def train(action: str, folder: Path) -> None:
    """Three iterations of a tiny model, of which the second meets NaN in process 1 alone.

    Writes a file a process: the error, the counts, and the sum of the weights after each iteration.
    """
    cfg = tiny_models.tiny_cfg("OUTPUT_DIR", folder, "SOLVER.NONFINITE", action)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    parallel = create_ddp_model(model, broadcast_buffers=False, device_ids=None)
    rank = comm.get_rank()
    batches = [
        [tiny_models.random_clip(seed=2 * step + rank, clip_id=f"clip_{step}_{rank}")]
        for step in range(3)
    ]
    steps = build_steps(cfg, parallel, batches, build_optimizer(cfg, model))
    result: dict[str, Any] = {"error": "", "weights": []}
    with EventStorage() as storage:
        for iteration in range(3):
            steps.iter = storage.iter = iteration
            handles = []
            if (iteration, rank) == (1, 1):
                handles.append(model.query_decoder.class_head.register_forward_hook(poison_classes))
            try:
                steps.run_step()
            except FloatingPointError as error:
                result["error"] = str(error)
                break
            finally:
                for handle in handles:
                    handle.remove()
            weights = [parameter.detach().double().sum() for parameter in model.parameters()]
            result["weights"].append(float(torch.stack(weights).sum()))
        result["counts"] = steps.watch.state_dict()
    write_text(folder / f"{rank}.json", json.dumps(result))
