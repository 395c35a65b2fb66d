"""Two processes, one of them with NaN: both stop, or both leave the step out."""

import json
from pathlib import Path

import gloo_workers
import pytest
import tiny_models
import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from transavs.engine import build_optimizer
from transavs.engine.steps import build_steps

pytestmark = pytest.mark.forks


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

    def poison(module, inputs, output):
        """NaN in the classes of the last frame."""
        if (steps.iter, rank) == (1, 1):
            return torch.cat((output[:-1], output[-1:] * torch.nan))
        return output

    model.query_decoder.class_head.register_forward_hook(poison)
    error, sums = "", []
    with EventStorage() as storage:
        for iteration in range(3):
            steps.iter = storage.iter = iteration
            try:
                steps.run_step()
            except FloatingPointError as fault:
                error = str(fault)
                break
            weights = [parameter.detach().double().sum() for parameter in model.parameters()]
            sums.append(float(torch.stack(weights).sum()))
    (folder / f"{rank}.json").write_text(json.dumps([error, sums, steps.watch.state_dict()]))


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_both_processes_decide_alike(action, tmp_path):
    gloo_workers.in_processes(train, 2, action, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    error, weights, counts = first
    assert counts["skipped"] == 1
    if action == "stop":
        assert len(weights) == 1
        mine, other = error.split("process 1: ")
        assert "iteration 1: process 0: " in mine and "clips clip_1_0;" in mine
        assert "losses that are not finite: loss_" in other and "clips clip_1_1." in other
    else:
        before, left_out, after = weights
        assert error == "" and before == left_out != after
        assert counts["in_a_row"] == 0
