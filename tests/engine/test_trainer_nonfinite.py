"""Trainings that meet NaN: a step left out, a parameter that is spoilt, a rate that is too high."""

import os

import pytest
import tiny_models
import torch
from detectron2.engine import HookBase

from transavs.engine import Trainer


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Poison(HookBase):
    """Makes what the class head answers NaN in one iteration, and crashes before another."""

    def __init__(self, at: int, crash: int = -1) -> None:
        self.at, self.crash = at, crash
        self.rates: dict[int, float] = {}

    def before_train(self) -> None:
        def hook(module, inputs, output):
            if module.training and self.trainer.iter == self.at:
                return output * torch.nan
            return output

        self.trainer.model.query_decoder.class_head.register_forward_hook(hook)

    def before_step(self) -> None:
        if self.trainer.iter == self.crash:
            raise RuntimeError("power failure")

    def after_step(self) -> None:
        self.rates[self.trainer.iter] = self.trainer.optimizer.param_groups[0]["lr"]


def make_trainer(folder, *opts, resume=False) -> Trainer:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = Trainer(tiny_models.tiny_cfg("OUTPUT_DIR", folder, *opts))
    trainer.resume_or_load(resume=resume)
    return trainer


def test_resuming_is_exact_after_a_step_was_left_out(datasets_env, tmp_path):
    options = ("SOLVER.NONFINITE", "skip", "MODEL.AUDIO.FREEZE", False)
    whole = make_trainer(tmp_path / "whole", *options)
    undisturbed = Poison(2)
    whole.register_hooks([undisturbed])
    whole.train()
    broken = make_trainer(tmp_path / "parts", *options)
    broken.register_hooks([Poison(2, crash=4)])
    with pytest.raises(RuntimeError, match="power failure"):
        broken.train()
    resumed = make_trainer(tmp_path / "parts", *options, resume=True)
    assert resumed.start_iter == 3  # saved right behind the step that was left out
    rest = Poison(2)
    resumed.register_hooks([rest])
    resumed.train()
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]) and value.isfinite().all(), name
    # The schedule counts iterations, the optimizer the steps that it took.
    # Hooks behind the checkpoint see its iteration once more.
    assert rest.rates == {i: rate for i, rate in undisturbed.rates.items() if i >= 2}
    moments = resumed.optimizer.state_dict()["state"]
    assert {float(entry["step"]) for entry in moments.values()} == {5.0}
    assert resumed._trainer.watch.state_dict() == whole._trainer.watch.state_dict()
    assert whole._trainer.watch.skipped == 1


def test_spoilt_parameter_stops_and_is_named(datasets_env, tmp_path):
    trainer = make_trainer(tmp_path / "run", "SOLVER.MAX_ITER", 2)
    with torch.no_grad():
        trainer.model.query_decoder.class_head.bias[0] = torch.nan
    message = "iteration 0: .*1 weights are not finite .*query_decoder.class_head.bias"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()


def test_exploding_rate_stops(datasets_env, tmp_path):
    options = ("SOLVER.BASE_LR", 1e30, "SOLVER.WARMUP_ITERS", 0)
    with pytest.raises(FloatingPointError, match="iteration .*; clips .*SOLVER.BASE_LR"):
        make_trainer(tmp_path / "run", *options).train()
