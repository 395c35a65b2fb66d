"""Training on tiny AVSBench trees: resuming, stopping, the best model, sample pictures."""

import json
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from transavs.engine import SafeCheckpointer, Trainer, resuming
from transavs.engine.hooks import BestModel, GracefulStop


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Syncing a checkpoint can take seconds on a busy disk, and no test pulls the plug."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Recorder(HookBase):
    """Keeps the loss terms of every iteration, and can send Ctrl-C after one of them."""

    def __init__(self, interrupt_after: int = -1) -> None:
        self.losses: dict[int, dict[str, float]] = {}
        self.interrupt_after = interrupt_after
        self.workers = 0

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        self.losses[self.trainer.iter] = {
            name: value for name, (value, _) in latest.items() if "loss" in name
        }
        if self.trainer.iter == self.interrupt_after:
            # A terminal sends it to the whole group of processes.
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGINT)
                self.workers += 1
            os.kill(os.getpid(), signal.SIGINT)


def make_trainer(folder, *opts, resume=False, interrupt_after=-1) -> tuple[Trainer, Recorder]:
    folder.mkdir(exist_ok=True)
    cfg = tiny_models.tiny_cfg("OUTPUT_DIR", folder, *opts)
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    recorder = Recorder(interrupt_after)
    # In front: GracefulStop ends the chain of hooks.
    trainer._hooks.insert(0, recorder)
    recorder.trainer = trainer
    return trainer, recorder


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


# Everything that could draw random numbers or disturb the order of samples is on.
DISTURBING = (
    "MODEL.TRANSAVS.DROPOUT", 0.1,
    "INPUT.COLOR_JITTER", 0.4,
    "TEST.EVAL_PERIOD", 2,
    "TEST.PICTURE_PERIOD", 3,
    "MODEL.TRANSAVS.MASKED_ATTENTION", True,
)  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1])
def test_joined_run_equals_the_undisturbed_one(datasets_env, tmp_path, workers):
    options = (*DISTURBING, "DATALOADER.NUM_WORKERS", workers)
    # Shells start jobs in the background with the signal ignored.
    handler = signal.getsignal(signal.SIGINT)
    whole, recorded = make_trainer(tmp_path / "whole", *options)
    whole.train()

    first, before = make_trainer(tmp_path / "parts", *options, interrupt_after=3)
    with pytest.raises(SystemExit) as stop:
        first.train()
    assert stop.value.code == 130
    assert before.workers >= workers
    assert sorted(before.losses) == [0, 1, 2, 3]
    assert (tmp_path / "parts" / "last_checkpoint").read_text() == "model_0000003.pth"
    assert signal.getsignal(signal.SIGINT) is handler

    torch.manual_seed(99)  # Another process would start from other numbers.
    second, after = make_trainer(tmp_path / "parts", *options, resume=True)
    assert second.start_iter == 4
    second.train()
    # To the last bit: losses, weights, and the state of the optimizer.
    assert {**before.losses, **after.losses} == recorded.losses
    assert all(math.isfinite(v) for terms in recorded.losses.values() for v in terms.values())
    for name, value in weights(whole).items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    moments = [trainer.optimizer.state_dict()["state"] for trainer in (whole, second)]
    for first_state, second_state in zip(moments[0].values(), moments[1].values(), strict=True):
        assert all(torch.equal(first_state[key], second_state[key]) for key in first_state)


def test_resuming_from_a_periodic_checkpoint_after_a_crash(datasets_env, tmp_path):
    whole, recorded = make_trainer(tmp_path / "whole")
    whole.train()

    class Crash(HookBase):
        def before_step(self) -> None:
            if self.trainer.iter == 4:
                raise RuntimeError("power failure")

    broken, _ = make_trainer(tmp_path / "parts")
    broken.register_hooks([Crash()])
    with pytest.raises(RuntimeError, match="power failure"):
        broken.train()
    resumed, after = make_trainer(tmp_path / "parts", resume=True)
    # CHECKPOINT_PERIOD 3: iterations 0 to 2 are saved, 3 is done once more.
    assert resumed.start_iter == 3
    resumed.train()
    assert after.losses == {i: terms for i, terms in recorded.losses.items() if i >= 3}


def test_a_resumed_training_takes_the_rates_of_its_configuration(datasets_env, tmp_path, caplog):
    make_trainer(tmp_path, "SOLVER.MAX_ITER", 3)[0].train()
    base = ("SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER", 6)
    same, _ = make_trainer(tmp_path, *base, resume=True)

    def rates(trainer):
        return sorted({group["lr"] for group in trainer.optimizer.param_groups})

    # As if six iterations had been meant from the beginning.
    assert rates(same) == pytest.approx([1e-4 * 0.5**0.9, 1e-3 * 0.5**0.9])
    assert "changed since" not in caplog.text
    options = (*base, "SOLVER.BASE_LR", 2e-5, "SOLVER.WEIGHT_DECAY", 0.5)
    other, _ = make_trainer(tmp_path, *options, resume=True)
    assert (
        "learning rates 0.0001, 0.001 to 2e-06, 2e-05, weight decays 0, 0.05 to 0, 0.5"
        in caplog.text
    )
    assert rates(other) == pytest.approx([2e-6 * 0.5**0.9, 2e-5 * 0.5**0.9])
    assert max(g["weight_decay"] for g in other.optimizer.param_groups) == 0.5
    other.train()
    assert rates(other) == [0]
    # Values that coincide, or no longer do, are no other parameters.
    equal = ("SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.BACKBONE_MULTIPLIER", 1.0, "SOLVER.MAX_ITER", 9)
    assert rates(make_trainer(tmp_path, *base, *equal, resume=True)[0]) == [
        pytest.approx(1e-3 * (1 / 3) ** 0.9)
    ]


def test_a_resumed_training_names_what_breaks_its_samples(datasets_env, tmp_path, caplog):
    make_trainer(tmp_path, "SOLVER.MAX_ITER", 1, "SEED", 3)[0].train()
    make_trainer(
        tmp_path, "SOLVER.BASE_LR", 1e-5, "INPUT.MIN_SIZE_TEST", 40, "SEED", 3, resume=True
    )
    assert "their order" not in caplog.text
    other = ("SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", "(40,)", "SEED", 4)
    trainer, _ = make_trainer(tmp_path, *other, resume=True)
    told = [
        "SOLVER.IMS_PER_BATCH 2 to 1", "INPUT.MIN_SIZE_TRAIN (32, 40) to (40,)", "SEED 3 to 4",
    ]  # fmt: skip
    assert all(words in caplog.text for words in told), caplog.text
    assert "DATASETS" not in caplog.text and "number of processes" not in caplog.text
    state = trainer.state_dict()
    state[resuming.STREAM]["number of processes"] = 2
    resuming.check_stream(trainer.cfg, state)
    assert "changed: number of processes 2 to 1. " in caplog.text
    # A checkpoint that does not tell.
    resuming.check_stream(trainer.cfg, {})


def test_a_reference_number_of_processes_scales_all_periods():
    options = ("SOLVER.REFERENCE_WORLD_SIZE", 2, "SOLVER.IMS_PER_BATCH", 4, "TEST.EVAL_PERIOD", 1)
    cfg = tiny_models.tiny_cfg(*options, "MODEL.TRANSAVS.THRESHOLD_PERIOD", 6)
    scaled = Trainer.auto_scale_workers(cfg, 4)
    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.BASE_LR) == (8, 3, 0.002)
    # 0 would be off.
    assert scaled.TEST.EVAL_PERIOD == 1 and scaled.TEST.PICTURE_PERIOD == 0
    assert scaled.MODEL.TRANSAVS.THRESHOLD_PERIOD == 3
    assert Trainer.auto_scale_workers(scaled, 4) is scaled


def test_training_moves_all_that_is_trainable_and_nothing_else(datasets_env, tmp_path):
    trainer, _ = make_trainer(tmp_path / "run", "SOLVER.MAX_ITER", 3, "MODEL.BACKBONE.FREEZE", True)
    model = trainer.model
    tiny_models.make_confident(model)
    before = weights(trainer)
    trainer.train()
    for name, value in model.state_dict().items():
        frozen = name.startswith(("backbone.", "audio_encoder."))
        assert torch.equal(value, before[name]) == frozen, name


def test_graceful_stop_at_the_last_iteration_just_ends(datasets_env, tmp_path):
    trainer, recorder = make_trainer(tmp_path / "run", "SOLVER.MAX_ITER", 3, interrupt_after=2)
    trainer.train()
    assert sorted(recorder.losses) == [0, 1, 2]
    assert (tmp_path / "run" / "model_final.pth").exists()


def test_second_ctrl_c_stops_at_once(datasets_env, tmp_path):
    class Impatient(HookBase):
        def before_step(self) -> None:
            if self.trainer.iter == 1:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                signal.pause()

    trainer, recorder = make_trainer(tmp_path / "run", "SOLVER.MAX_ITER", 3)
    trainer.register_hooks([Impatient()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert sorted(recorder.losses) == [0]


def test_processes_agree_on_stopping_every_few_steps(tmp_path, monkeypatch):
    """One was asked, another was not: they leave after the same step."""
    asked = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda own: asked.append(own) or [own, True])
    hook = GracefulStop(SafeCheckpointer(nn.Linear(1, 1), str(tmp_path)))
    for iteration in range(9):
        hook.trainer = SimpleNamespace(iter=iteration, max_iter=100)
        hook.after_step()
    assert asked == []
    hook.trainer = SimpleNamespace(iter=9, max_iter=100)
    with pytest.raises(SystemExit):
        hook.after_step()
    assert asked == [False]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000009.pth"


def test_training_beside_the_main_thread_leaves_signals_alone(tmp_path):
    hook = GracefulStop(SafeCheckpointer(nn.Linear(1, 1), str(tmp_path)))
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=hook.before_train)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    hook.after_train()
    assert signal.getsignal(signal.SIGINT) is before


def scripted(monkeypatch, values: list[float]) -> list[dict[str, torch.Tensor]]:
    """Lets evaluations return the values in turn; returns the weights that each one saw."""
    seen: list[dict[str, torch.Tensor]] = []
    rest = iter(values)

    def evaluate(trainer):
        seen.append(weights(trainer))
        return OrderedDict(avs={"M_J": next(rest)})

    monkeypatch.setattr(Trainer, "_evaluate", evaluate)
    return seen


def best_of(folder) -> tuple[dict[str, torch.Tensor], float]:
    note = json.loads((folder / "model_best.json").read_text())
    assert note["metric"] == "avs/M_J"
    return torch.load(folder / "model_best.pth")["model"], note["value"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


EVERY_TWO = ("TEST.EVAL_PERIOD", 2)


def watched(folder, values: list[float], metric: str = "avs/M_J") -> tuple[BestModel, nn.Linear]:
    """A BestModel hook after evaluations with these values; the model's weight counts them."""
    model = nn.Linear(1, 1)
    hook = BestModel(SafeCheckpointer(model, str(folder)), metric, 1)
    for count, value in enumerate(values):
        nn.init.constant_(model.weight, count)
        latest = {"val_a/avs/M_J": (value, count), "val_b/avs/M_J": (99.0, count)}
        storage = SimpleNamespace(latest=lambda latest=latest: latest)
        hook.trainer = SimpleNamespace(storage=storage, iter=count, max_iter=10, start_iter=0)
        if count == 0:
            hook.before_train()
        hook.after_step()
    return hook, model


@pytest.mark.parametrize(("values", "best"), [
    ([30.0, 50.0, 40.0], 1),
    ([30.0, 20.0, 40.0], 2),
    ([30.0, math.nan, 30.0], 0),
])  # fmt: skip
def test_best_model_is_that_of_the_highest_value_on_the_first_set(tmp_path, values, best):
    hook, _ = watched(tmp_path, values)
    kept, value = best_of(tmp_path)
    assert value == values[best] and kept["weight"] == best
    assert hook.kept == str(tmp_path / "model_best.pth")


def test_missing_metric_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        hook, _ = watched(tmp_path, [30.0], metric="avs/M_X")
    assert "no metric avs/M_X" in caplog.text
    assert hook.kept is None and not list(tmp_path.iterdir())


def test_best_model_outlives_a_resume(datasets_env, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    seen = scripted(monkeypatch, [30.0, 50.0, 40.0])
    first, _ = make_trainer(folder, *EVERY_TWO, interrupt_after=4)
    with pytest.raises(SystemExit):
        first.train()
    second, _ = make_trainer(folder, *EVERY_TWO, resume=True)
    second.train()
    kept, value = best_of(folder)
    assert value == 50.0 and same(kept, seen[1])
    assert second.best_checkpoint() == str(folder / "model_best.pth")


def test_best_model_of_a_finished_run_is_known_when_it_is_made_longer(
    datasets_env, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    # The longer run evaluates where the shorter one ended: after its iteration 5.
    scripted(monkeypatch, [30.0, 40.0, 50.0, 50.0, 45.0])
    make_trainer(folder, *EVERY_TWO)[0].train()
    make_trainer(folder, *EVERY_TWO, "SOLVER.MAX_ITER", 8, resume=True)[0].train()
    assert best_of(folder)[1] == 50.0


@pytest.mark.parametrize("content", [b"", b"half of it"])
def test_damaged_best_model_is_written_anew(datasets_env, tmp_path, monkeypatch, caplog, content):
    folder = tmp_path / "run"
    seen = scripted(monkeypatch, [50.0, 40.0, 30.0])
    first, _ = make_trainer(folder, *EVERY_TWO, interrupt_after=2)
    with pytest.raises(SystemExit):
        first.train()
    (folder / "model_best.pth").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        second, _ = make_trainer(folder, *EVERY_TWO, resume=True)
        second.train()
    assert "model_best.pth cannot be read" in caplog.text
    kept, value = best_of(folder)
    assert value == 40.0 and same(kept, seen[1])


def test_checkpoint_without_a_best_value_asks_the_note(tmp_path):
    """Such were saved by older versions."""
    hook, _ = watched(tmp_path, [30.0, 50.0])
    for start, best in ((2, 50.0), (0, -math.inf)):
        other = BestModel(hook.checkpointer, "avs/M_J", 1)
        other.trainer = SimpleNamespace(start_iter=start, max_iter=10)
        other.before_train()
        assert other.best == best
    (tmp_path / "model_best.json").write_text("half of")
    other.trainer = SimpleNamespace(start_iter=2, max_iter=10)
    other.before_train()
    assert other.best == -math.inf


def test_new_run_in_an_old_folder_is_warned(datasets_env, tmp_path, caplog):
    SafeCheckpointer(tiny_models.tiny_model(), str(tmp_path)).save("model_0000003")
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path)
    assert "holds checkpoints of an earlier run" in caplog.text


def test_new_run_in_an_old_folder_starts_its_own_record(datasets_env, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    scripted(monkeypatch, [90.0, 90.0, 90.0, 95.0, 10.0, 10.0, 10.0])
    make_trainer(folder, *EVERY_TWO)[0].train()
    # Without evaluation no best model is made: the old file must not pass as this run's.
    unwatched, _ = make_trainer(folder, "SOLVER.MAX_ITER", 1)
    unwatched.train()
    assert unwatched.best_checkpoint() is None
    make_trainer(folder, *EVERY_TWO)[0].train()
    assert best_of(folder)[1] == 10.0


def test_without_validation_sets_nothing_is_chosen_by_the_test_set(datasets_env, tmp_path):
    trainer, _ = make_trainer(
        tmp_path / "run", "DATASETS.VAL", "()", "TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 2
    )
    assert trainer.train() is None
    assert trainer.best_checkpoint() is None


def test_evaluation_and_pictures_reach_the_log(datasets_env, tmp_path):
    folder = tmp_path / "run"
    trainer, _ = make_trainer(
        folder, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 2, "TEST.PICTURE_PERIOD", 1
    )
    results = trainer.train()
    assert 0 <= results["avs"]["M_J"] <= 100
    logged: dict[str, float] = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        logged |= json.loads(line)
    for name in (
        "total_loss",
        "loss_aqdl",
        "queries/delta_1",
        "queries/queries_above_delta_2",
        "lr",
    ):
        assert name in logged, name
    assert list(folder.glob("events.out.tfevents*"))
    assert trainer.model.training


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_near_single(datasets_env, tmp_path, caplog, precision):
    options = ("SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 2)
    single, expected = make_trainer(tmp_path / "single", *options)
    single.train()
    dtypes = set()
    options += ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", precision)
    mixed, found = make_trainer(tmp_path / "mixed", *options)
    assert ("is meant for GPUs" in caplog.text) == (precision == "fp16")
    mixed.model.query_decoder.register_forward_hook(
        lambda module, _, outputs: dtypes.add((module.training, outputs[-1].class_logits.dtype))
    )
    mixed.train()
    # Evaluation stays as exact as ever.
    assert dtypes == {
        (True, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]),
        (False, torch.float32),
    }
    assert expected.losses != found.losses
    first, other = expected.losses[0], found.losses[0]
    for name, value in first.items():
        assert other[name] == pytest.approx(value, rel=0.05, abs=0.02), name
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())
    # It goes on where it was, with the scale of fp16, which bf16 does not need.
    resumed, _ = make_trainer(tmp_path / "mixed", *options, resume=True)
    assert resumed.start_iter == 3
    before, after = (part._trainer.state_dict().get("grad_scaler") for part in (mixed, resumed))
    assert before == after and (after is not None) == (precision == "fp16")


def test_negative_seed_leaves_the_generators_alone(datasets_env, tmp_path, caplog):
    trainer, _ = make_trainer(tmp_path / "run", "SOLVER.MAX_ITER", 1, "SEED", -1)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "SEED is negative" in caplog.text
