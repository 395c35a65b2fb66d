"""Trainings that are killed end as the undisturbed one, wherever SIGKILL meets them."""

import copy
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import small_trainings
import tiny_models
import torch
from small_trainings import Moments, in_a_process, left_behind

from transavs.engine import Trainer

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[list[str], dict[str, Any]]:
    """What the undisturbed training does to files, in order, and what it leaves."""
    folder = tmp_path_factory.mktemp("undisturbed")

    def work() -> None:
        moments = Moments()
        small_trainings.train(folder / "run")
        (folder / "moments.json").write_text(json.dumps(moments.seen))

    assert in_a_process(work) == 0
    return json.loads((folder / "moments.json").read_text()), left_behind(folder / "run")


def attempt(folder: Path, last: int = -1, halved: bool = False, resume: bool = True) -> int:
    """Exit status of a training that is killed before its moment number ``last``."""

    def work() -> None:
        Moments(last, halved)
        # Another process starts with other generators.
        small_trainings.train(folder, resume=resume, seed=last)

    return in_a_process(work)


def assert_same(found: dict[str, Any], expected: dict[str, Any], when: object) -> None:
    for name, value in expected.items():
        assert found[name] == value, (when, name)


def test_the_undisturbed_training_has_what_can_be_lost(whole):
    """Else the tests below would say little."""
    moments, left = whole
    assert {"step", "evaluation", "fsync", "replace", "unlink"} <= set(moments)
    assert moments.count("evaluation") == 4
    iterations = [line["iteration"] for line in left["metrics"]]
    assert iterations == sorted(set(iterations)) and iterations[-1] == 8
    # The best model is not that of the first evaluation, and scores fall in between.
    assert left["best"]["iteration"] > 1
    scores = [value for _, value in left["curves"]["avs/M_J"]]
    assert scores != sorted(scores)
    assert [step for step, _ in left["pictures"]["sample"]] == [0, 3, 6]
    deltas = [value for _, value in left["curves"]["queries/delta_1"]]
    assert deltas == pytest.approx([0.325, 0.175])
    assert left["files"] == sorted(
        ["last_checkpoint", "metrics.json", "model_best.json", "model_best.pth"]
        + [f"model_{i:07d}.pth" for i in (3, 5, 7)]
        + ["model_final.pth"]
    )


@pytest.mark.parametrize("part", range(4))
def test_killed_before_any_operation(tmp_path, whole, part):
    """Each step, evaluation, sync, renaming and removal is met, files half and wholly written."""
    moments, expected = whole
    places = [(i, False) for i in range(len(moments))]
    places += [(i, True) for i, name in enumerate(moments) if name == "fsync"]
    for place in places[part::4]:
        folder = tmp_path / f"{place[0]}_{place[1]}"
        assert attempt(folder, *place, resume=False) == KILLED, place
        assert attempt(folder) == 0, place
        assert_same(left_behind(folder), expected, (moments[place[0]], place))


def test_killed_again_and_again(tmp_path, whole):
    """The n-th attempt lives n operations longer than it takes to start, until one succeeds."""
    _, expected = whole
    statuses = []
    while not statuses or statuses[-1] == KILLED:
        statuses.append(attempt(tmp_path / "run", last=len(statuses), resume=True))
    assert statuses[-1] == 0 and len(statuses) > 10
    assert_same(left_behind(tmp_path / "run"), expected, len(statuses))


def test_a_finished_training_that_is_resumed_stays_as_it_is(tmp_path, whole):
    _, expected = whole
    assert attempt(tmp_path / "run", resume=False) == 0
    assert attempt(tmp_path / "run") == 0
    assert_same(left_behind(tmp_path / "run"), expected, "finished")


def test_stopped_by_ctrl_c_in_the_same_way(tmp_path, whole):
    """The log has no line more, although a stop writes what it knows."""
    expected = copy.deepcopy(whole[1])

    def work() -> None:
        moments = Moments()

        def step(self, *args):
            if moments.seen.count("step") == 5:
                signal.raise_signal(signal.SIGINT)
            return forward(self, *args)

        forward = small_trainings.SmallNetwork.forward
        small_trainings.SmallNetwork.forward = step
        small_trainings.train(tmp_path / "run")

    assert in_a_process(work) == 130
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000005.pth"
    assert attempt(tmp_path / "run") == 0
    found = left_behind(tmp_path / "run")
    # It was saved behind the evaluation of its iteration, not in front of it.
    for left in (found, expected):
        del left["checkpoints"]["model_0000005.pth"]["trainer"]["hooks"]
    assert_same(found, expected, "Ctrl-C")


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_damaged_newest_checkpoint(tmp_path, whole, share):
    """The one before it is taken, and nothing tells in the end."""
    moments, expected = whole
    sixth_step = [i for i, name in enumerate(moments) if name == "step"][6]
    assert attempt(tmp_path / "run", last=sixth_step, resume=False) == KILLED
    newest = tmp_path / "run" / "model_0000005.pth"
    content = newest.read_bytes()
    newest.write_bytes(content[: int(share * len(content))])
    assert attempt(tmp_path / "run") == 0
    assert_same(left_behind(tmp_path / "run"), expected, share)


def test_the_network_itself_is_killed_in_an_evaluation(datasets_env, tmp_path):
    """The real one, with dropout, jitter, masked attention, pictures and a worker for loading."""
    options = (
        "MODEL.TRANSAVS.DROPOUT", 0.1, "INPUT.COLOR_JITTER", 0.4, "TEST.PICTURE_PERIOD", 2,
        "MODEL.TRANSAVS.MASKED_ATTENTION", True, "DATALOADER.NUM_WORKERS", 1,
        "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2,
    )  # fmt: skip

    def train(name: str, resume: bool, killed: bool = False) -> int:
        def work() -> None:
            torch.manual_seed(0)
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            trainer = Trainer(tiny_models.tiny_cfg("OUTPUT_DIR", folder, *options))
            trainer.resume_or_load(resume=resume)
            if killed:
                trainer.model.register_forward_pre_hook(die_in_evaluation)
            trainer.train()

        return in_a_process(work)

    def die_in_evaluation(model, _) -> None:
        if not model.training:
            signal.raise_signal(signal.SIGKILL)

    assert train("whole", resume=False) == 0
    assert train("parts", resume=False, killed=True) == KILLED
    assert (tmp_path / "parts" / "last_checkpoint").read_text() == "model_0000001.pth"
    assert not (tmp_path / "parts" / "model_best.pth").exists()
    assert train("parts", resume=True) == 0
    assert_same(left_behind(tmp_path / "parts"), left_behind(tmp_path / "whole"), "evaluation")
