"""The runner of grids with commands that take no time: order, resuming, skipping, failures."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fake_trainings
import pytest

from transavs.engine.grid import Commands, Grid, GridRunner, Outcome, RunFolder, State, read_grid

GRID = """
config: configs/demo/demo_ms3.yaml
overrides: {SOLVER.MAX_ITER: 100, DATASETS.VAL: [], MODEL.AUDIO.WEIGHTS: ""}
seeds: [0, 1]
test: [demo_ms3_test, demo_ms3_unseen]
conditions: [original, silence]
rows:
- {name: base, baseline: true}
- {name: big, overrides: {MODEL.TRANSAVS.NUM_QUERIES: 50}}
"""


class Workplace:
    """A grid's file, its output, and the folder that steers the commands."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "grid.yaml"
        self.output = folder / "out"
        self.control = folder / "control"
        self.control.mkdir()
        self.told: list[str] = []
        self.write(GRID)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    @property
    def grid(self) -> Grid:
        return read_grid(self.file)

    def run(self, force: bool = False, **options: object) -> Outcome:
        runner = GridRunner(
            self.grid,
            self.output,
            **{"jobs": 1, "poll_seconds": 0.01, "tell": self.told.append, **options},
            commands=Commands(*fake_trainings.commands()),
        )
        return runner.run(self.grid.runs(), force=force)

    def steer(self, *names: str) -> None:
        for name in names:
            (self.control / name).touch()

    def calls(self) -> list[str]:
        """What was called since the last time that somebody asked."""
        path = self.control / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def folder(self, row: str, seed: int) -> RunFolder:
        (run,) = self.grid.runs([row], [seed])
        return RunFolder(self.grid, run, self.output)

    def when(self, name: str, act: Callable[[], object]) -> threading.Thread:
        """Acts as soon as a command has made a file."""

        def wait() -> None:
            deadline = time.monotonic() + 30
            while not (self.control / name).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    workplace = Workplace(tmp_path)
    monkeypatch.setenv("FAKE_TRAININGS", str(workplace.control))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return workplace


EVERYTHING = [
    *("train-base-seed_0", "evaluate-base-seed_0", "train-big-seed_0", "evaluate-big-seed_0"),
    *("train-base-seed_1", "evaluate-base-seed_1", "train-big-seed_1", "evaluate-big-seed_1"),
]


def test_order_and_what_is_left_behind(place: Workplace) -> None:
    reports: list[int] = []
    outcome = place.run(threads=3, after_each=lambda: reports.append(len(reports)))
    assert place.calls() == EVERYTHING
    assert [str(run) for run in outcome.finished] == [
        *("base seed 0", "big seed 0", "base seed 1", "big seed 1")
    ]
    assert not outcome.failed and not outcome.skipped and not outcome.interrupted
    assert reports == [0, 1, 2, 3]
    assert place.told[1].startswith("finished big seed 0: M_J 70.0, M_J_nonempty 60.0, trained in")

    folder = place.folder("big", 1)
    assert folder.state == State.FINISHED and folder.record is not None
    assert folder.record.settings["SEED"] == 1
    assert folder.record.settings["MODEL.TRANSAVS.NUM_QUERIES"] == 50
    assert 0 < folder.record.seconds < 30
    # Only what was evaluated is kept, and no note of what is gone.
    assert [path.name for path in folder.path.glob("model_*")] == ["model_final.pth"]
    assert (folder.path / "last_checkpoint").read_text() == "model_final.pth"
    log = folder.log.read_text()
    assert "threads 3" in log
    assert "--config-file configs/demo/demo_ms3.yaml SOLVER.MAX_ITER 100 DATASETS.VAL '[]'" in log
    assert f"DATASETS.TEST '()' SEED 1 OUTPUT_DIR {folder.path}" in log
    assert "--datasets demo_ms3_test,demo_ms3_unseen --conditions original,silence" in log


def test_finished_runs_are_skipped(place: Workplace) -> None:
    place.run()
    place.calls()
    outcome = place.run()
    assert place.calls() == [] and len(outcome.skipped) == 4 and not outcome.interrupted
    # Without its results a model is evaluated again, not trained again.
    (place.output / "runs/big/seed_0/results.json").unlink()
    assert place.folder("big", 0).state == State.TRAINED
    outcome = place.run()
    assert place.calls() == ["evaluate-big-seed_0"] and len(outcome.skipped) == 3
    # And so it is for one more condition.
    place.write(GRID.replace("[original, silence]", "[original, silence, noise]"))
    place.run()
    assert place.calls() == [call for call in EVERYTHING if call.startswith("evaluate")]


def test_data_sets_with_conditions_of_their_own(place: Workplace) -> None:
    test = "test: {demo_ms3_test: , demo_ms3_unseen: [original]}"
    place.write(GRID.replace("test: [demo_ms3_test, demo_ms3_unseen]", test))
    place.steer("fail-evaluate-big-seed_0-demo_ms3_unseen")
    outcome = place.run()
    calls = place.calls()
    assert calls[:3] == ["train-base-seed_0", *["evaluate-base-seed_0"] * 2]
    assert [str(run) for run in outcome.failed] == ["big seed 0"] and len(outcome.finished) == 3
    folder = place.folder("base", 0)
    log = folder.log.read_text()
    assert "--datasets demo_ms3_test --conditions original,silence --output" in log
    assert "--datasets demo_ms3_unseen --conditions original --output" in log
    scores = folder.scores()
    assert set(scores["demo_ms3_test"]) == {"original", "silence"}
    assert set(scores["demo_ms3_unseen"]) == {"original"}
    assert place.folder("big", 0).missing_results() == ["demo_ms3_unseen under original"]


def test_ctrl_c_between_two_evaluations(place: Workplace) -> None:
    test = "test: {demo_ms3_test: , demo_ms3_unseen: [original]}"
    place.write(GRID.replace("test: [demo_ms3_test, demo_ms3_unseen]", test))
    # It obeys, but ends as if nothing had been.
    place.steer("finish-evaluate-base-seed_0")
    thread = place.when("waiting-evaluate-base-seed_0", ctrl_c)
    outcome = place.run()
    thread.join()
    assert outcome.interrupted and not outcome.failed and not outcome.finished
    assert place.folder("base", 0).state == State.TRAINED
    (place.control / "finish-evaluate-base-seed_0").unlink()
    assert len(place.run().finished) == 4


def test_checkpoints_are_kept_on_request(place: Workplace) -> None:
    place.run(keep=True)
    folder = place.folder("base", 0).path
    assert {path.name for path in folder.glob("*.pth")} == {"model_0000099.pth", "model_final.pth"}


def test_the_best_model_by_validation_counts(place: Workplace) -> None:
    place.write(GRID.replace("DATASETS.VAL: [], ", ""))
    place.run()
    folder = place.folder("base", 0)
    assert folder.weights.name == "model_best.pth"
    assert "model_best.pth --datasets" in folder.log.read_text()
    # The newest checkpoint was another one, which is gone, and so is the note that named it.
    (folder.path / "last_checkpoint").write_text("model_0000099.pth")
    folder.remove_checkpoints()
    assert not (folder.path / "last_checkpoint").exists()
    assert [path.name for path in folder.path.glob("*.pth")] == ["model_best.pth"]


def test_ctrl_c_and_going_on(place: Workplace) -> None:
    place.steer("wait-train-big-seed_0")
    thread = place.when("waiting-train-big-seed_0", ctrl_c)
    outcome = place.run()
    thread.join()
    assert outcome.interrupted and not outcome.failed
    assert [str(run) for run in outcome.finished] == ["base seed 0"]
    assert place.calls() == EVERYTHING[:3]
    stopped = place.folder("big", 0)
    assert stopped.state == State.STARTED and stopped.iteration() == 50
    assert stopped.record is not None and not stopped.record.failure
    assert stopped.record.started is None and stopped.record.seconds > 0
    assert place.folder("base", 1).state == State.NEW
    assert any("stopping" in line for line in place.told)

    (place.control / "wait-train-big-seed_0").unlink()
    outcome = place.run()
    assert not outcome.interrupted and len(outcome.finished) == 3 and len(outcome.skipped) == 1
    assert place.calls() == ["train-big-seed_0 --resume", *EVERYTHING[3:]]
    again = place.folder("big", 0).record
    assert again is not None and again.seconds > stopped.record.seconds


def test_an_interrupted_evaluation_is_done_again(place: Workplace) -> None:
    place.steer("wait-evaluate-base-seed_0")
    thread = place.when("waiting-evaluate-base-seed_0", ctrl_c)
    assert place.run().interrupted
    thread.join()
    assert place.folder("base", 0).state == State.TRAINED
    (place.control / "wait-evaluate-base-seed_0").unlink()
    place.calls()
    assert not place.run().interrupted
    assert place.calls() == EVERYTHING[1:]


def test_a_third_ctrl_c_kills(place: Workplace) -> None:
    place.steer("hang-train-base-seed_0")

    def impatient() -> None:
        for _ in range(3):
            ctrl_c()
            time.sleep(0.1)

    # Two of the three that it would obey arrive as such; the third one is no request.
    thread = place.when("waiting-train-base-seed_0", impatient)
    outcome = place.run()
    thread.join()
    assert outcome.interrupted and place.folder("base", 0).state == State.STARTED


def test_several_at_once_share_the_work(place: Workplace) -> None:
    place.steer("wait-train-base-seed_0", "wait-train-big-seed_0")
    thread = place.when("waiting-train-base-seed_0", lambda: None)
    second = place.when("waiting-train-big-seed_0", ctrl_c)
    outcome = place.run(jobs=2)
    thread.join()
    second.join()
    assert outcome.interrupted and not outcome.finished
    assert sorted(place.calls()) == ["train-base-seed_0", "train-big-seed_0"]


def test_a_failure_is_recorded_and_the_others_go_on(place: Workplace) -> None:
    place.steer("fail-train-base-seed_0", "fail-evaluate-big-seed_0", "killed-train-base-seed_1")
    outcome = place.run()
    assert [str(run) for run in outcome.failed] == ["base seed 0", "big seed 0", "base seed 1"]
    assert [str(run) for run in outcome.finished] == ["big seed 1"]
    assert not outcome.interrupted
    told = place.told[0]
    assert told.startswith("FAILED base seed 0: training ended with code 3; the end of ")
    # A progress bar's states count as one line.
    assert told.endswith("    first line\n    step 2\n    out of memory")
    records = [place.folder(*name).record for name in (("big", 0), ("base", 1))]
    assert [record.failure for record in records if record] == [
        "evaluation ended with code 1",
        "training was ended by signal 9",
    ]
    place.calls()
    for path in place.control.iterdir():
        path.unlink()
    assert len(place.run().finished) == 3
    assert place.calls() == [
        *("train-base-seed_0 --resume", "evaluate-base-seed_0", "evaluate-big-seed_0"),
        *("train-base-seed_1 --resume", "evaluate-base-seed_1"),
    ]
    record = place.folder("base", 0).record
    assert record is not None and not record.failure


def test_a_training_that_leaves_no_model_failed(place: Workplace) -> None:
    place.steer("nothing-train-base-seed_0")
    outcome = place.run()
    assert [str(run) for run in outcome.failed] == ["base seed 0"]
    assert "training ended without" in place.told[0] and "model_final.pth" in place.told[0]


def test_changed_settings_are_an_error(place: Workplace) -> None:
    place.run()
    place.calls()
    place.write(GRID.replace("NUM_QUERIES: 50", "NUM_QUERIES: 60, MODEL.TRANSAVS.DROPOUT: 0.1"))
    message = (
        "2 runs were started with other settings.*--force.*\n"
        "  big seed 0: MODEL.TRANSAVS.DROPOUT was the default, is 0.1; "
        "MODEL.TRANSAVS.NUM_QUERIES was 50, is 60\n  big seed 1: "
    )
    with pytest.raises(ValueError, match=message):
        place.run()
    assert place.calls() == []
    (place.output / "runs/big/seed_0/leftover").touch()
    outcome = place.run(force=True)
    assert [str(run) for run in outcome.skipped] == ["base seed 0", "base seed 1"]
    assert place.calls() == [call for call in EVERYTHING if "big" in call]
    assert not (place.output / "runs/big/seed_0/leftover").exists()


def test_titles_are_no_settings(place: Workplace) -> None:
    place.run()
    place.write(GRID.replace("name: big,", "name: big, title: other, group: one,"))
    assert len(place.run().skipped) == 4


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": {}}'])
def test_a_broken_note_is_told(place: Workplace, content: str) -> None:
    place.run()
    note = place.output / "runs/base/seed_0/run.json"
    note.write_text(content)
    with pytest.raises(ValueError, match="base seed 0: .*run.json is broken"):
        place.run()
    assert len(place.run(force=True).finished) == 1


def test_a_foreign_folder_is_told(place: Workplace) -> None:
    folder = place.output / "runs/base/seed_0"
    folder.mkdir(parents=True)
    assert place.folder("base", 0).state == State.NEW
    (folder / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds files but no run.json"):
        place.run()
    assert (folder / "thesis.tex").exists()


def test_weights_that_are_gone_cannot_be_evaluated(place: Workplace) -> None:
    place.run()
    for name in ("results.json", "model_final.pth"):
        (place.output / "runs/base/seed_0" / name).unlink()
    with pytest.raises(ValueError, match="model_final.pth is gone, and the evaluation needs it"):
        place.run()


def test_a_run_whose_end_nobody_saw(place: Workplace) -> None:
    """The computer went off: the clock counts up to the last line of the log."""
    place.run()
    folder = place.folder("base", 0)
    assert folder.record is not None
    folder.record.stage, folder.record.seconds = "training", 10.0
    folder.record.started = time.time() - 500
    folder.save()
    os.utime(folder.log, (time.time(), folder.record.started + 60))
    place.calls()
    place.run()
    assert place.calls() == ["train-base-seed_0 --resume", "evaluate-base-seed_0"]
    again = place.folder("base", 0).record
    assert again is not None and 70 <= again.seconds < 100


def test_two_calls_in_one_folder(place: Workplace) -> None:
    place.steer("wait-train-base-seed_0")
    errors: list[str] = []

    def second_call() -> None:
        try:
            place.run()
        except ValueError as error:
            errors.append(str(error))
        ctrl_c()

    thread = place.when("waiting-train-base-seed_0", second_call)
    place.run()
    thread.join()
    assert len(errors) == 1 and "another command is at work" in errors[0]


def test_an_error_of_ours_leaves_no_training_behind(place: Workplace) -> None:
    """The report cannot be written while another training runs."""
    place.steer("wait-train-big-seed_0")

    def full_disk() -> None:
        deadline = time.monotonic() + 30
        while not (place.control / "waiting-train-big-seed_0").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        place.run(jobs=2, after_each=full_disk)
    stopped = place.folder("big", 0)
    assert json.loads((stopped.path / "metrics.json").read_text().splitlines()[-1]) == {
        "iteration": 49
    }
    # Nobody holds the folder any more.
    (place.control / "wait-train-big-seed_0").unlink()
    assert not place.run().interrupted


@pytest.mark.parametrize("name", ["jobs", "threads"])
def test_numbers_are_checked(place: Workplace, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        place.run(**{name: 0})
