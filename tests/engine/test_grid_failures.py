"""What fails in a grid, what is refused, and what is left behind: told, and nothing else lost."""

import json
import os
import time

import pytest
from grid_workplace import EVERYTHING, GRID, Workplace, ctrl_c

from transavs.engine.grid import State


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
        "2 runs cannot go on with the grid as it is now.*--force.*\n"
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


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"settings": {}}', {"seconds": "abc"}, {"stage": "over"}, {"settings": []}],
)
def test_a_broken_note_is_told(place: Workplace, content: str | dict[str, object]) -> None:
    """And its training stays, whatever may be deleted."""
    place.run()
    note = place.output / "runs/base/seed_0/run.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(note.read_text()), **content})
    note.write_text(content)
    for force in (False, True):
        with pytest.raises(ValueError, match=r"(?s)move them away.*0: .*run.json is broken"):
            place.run(force=force)
    assert (note.parent / "model_final.pth").is_file()


def test_a_foreign_folder_is_told(place: Workplace) -> None:
    folder = place.output / "runs/base/seed_0"
    folder.mkdir(parents=True)
    assert place.folder("base", 0).state == State.NEW
    (folder / "thesis.tex").touch()
    for force in (False, True):
        with pytest.raises(ValueError, match=r"(?s)nothing says .*holds files but no run.json"):
            place.run(force=force)
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
