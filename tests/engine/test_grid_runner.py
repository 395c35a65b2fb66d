"""The runner of grids: order, resuming and skipping."""

import time

from grid_workplace import EVERYTHING, GRID, Workplace, ctrl_c

from transavs.engine.grid import State


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
