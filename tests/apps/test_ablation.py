"""The command that runs a grid: what it starts, skips, resumes, refuses and leaves behind."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fake_trainings
import pytest
import tiny_models
import yaml
from matplotlib.figure import Figure

from transavs.apps.ablation import main, report, runs

GRID = """
config: configs/demo/demo_ms3.yaml
overrides: {SOLVER.MAX_ITER: 2, DATASETS.VAL: [], MODEL.AUDIO.WEIGHTS: "", MODEL.DEVICE: cpu}
seeds: [0, 1]
test: {demo_ms3_test: , avsbench_ms3_test: [original]}
conditions: [original, silence]
rows:
- {name: base, baseline: true}
- {name: big, overrides: {MODEL.TRANSAVS.NUM_QUERIES: 50}}
"""


def calls_of(row: str, seed: int, resume: str = "") -> list[str]:
    evaluation = f"evaluate-{row}-seed_{seed}"
    return [f"train-{row}-seed_{seed}{resume}", evaluation, f"{evaluation} avsbench_ms3_test"]


EVERYTHING = [call for seed in (0, 1) for row in ("base", "big") for call in calls_of(row, seed)]


class Workplace:
    """A grid's file, its output, and the folder that steers the commands."""

    def __init__(self, folder: Path) -> None:
        self.file, self.output, self.control = (folder / n for n in ("grid.yaml", "out", "control"))
        self.control.mkdir()
        self.file.write_text(GRID)

    def __call__(self, *options: str) -> int:
        return main([str(self.file), "--output", str(self.output), "--jobs", "1", *options])

    def change(self, before: str, after: str) -> None:
        assert before in GRID
        self.file.write_text(GRID.replace(before, after))

    def calls(self) -> list[str]:
        """What was called since the last time that somebody asked."""
        path = self.control / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def run(self, row: str, seed: int) -> Path:
        return self.output / "runs" / row / f"seed_{seed}"

    def record(self, row: str, seed: int) -> dict:
        return json.loads((self.run(row, seed) / "run.json").read_text())

    def interrupted(
        self, name: str, *options: str, stops: int = 1, meanwhile: Callable[[], object] = int
    ) -> int:
        """Exit status of a call that gets Ctrl-C as soon as a command waits for it."""

        def stop() -> None:
            deadline = time.monotonic() + 60
            while not (self.control / f"waiting-{name}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            meanwhile()
            for _ in range(stops):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)

        thread = threading.Thread(target=stop)
        thread.start()
        status = self(*options)
        thread.join()
        return status


@pytest.fixture
def place(tmp_path: Path, datasets_env: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    workplace = Workplace(tmp_path)
    monkeypatch.setenv("FAKE_TRAININGS", str(workplace.control))
    monkeypatch.setattr(runs, "TRAIN", fake_trainings.TRAIN)
    monkeypatch.setattr(runs, "EVALUATE", fake_trainings.EVALUATE)
    monkeypatch.setattr(report, "draw", lambda rows, metrics: Figure((1, 1)))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return workplace


@pytest.mark.slow
def test_a_grid_from_files_to_table(tmp_path: Path, datasets_env: Path) -> None:
    tiny = dict(zip(tiny_models.TINY[::2], tiny_models.TINY[1::2], strict=True))
    grid = {
        "config": "configs/s4_R50.yaml",
        "overrides": {**tiny, "SOLVER.MAX_ITER": 2, "DATASETS.VAL": []},
        "seeds": [3],
        "test": ["avsbench_s4_test"],
        "conditions": ["original", "silence"],
        "rows": [{"name": "big", "overrides": {"MODEL.TRANSAVS.NUM_QUERIES": 6}}],
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    output = tmp_path / "out"
    assert main([str(tmp_path / "grid.yaml"), "--output", str(output)]) == 0
    run = output / "runs" / "big" / "seed_3"
    results = json.loads((run / "results.json").read_text())
    scores = json.loads((output / "table.json").read_text())["rows"][0]["by_seed"]["3"]
    assert scores["M_J"] == results["avsbench_s4_test"]["original"]["M_J"]
    assert scores["G_mIoU"] == results["robustness"]["avsbench_s4_test"]["G_mIoU"]
    assert scores["seconds"] > 0 and scores["M_J_nonempty_shuffled"] is None
    assert [path.name for path in run.glob("*.pth")] == ["model_final.pth"]
    # What trained is what the row says.
    trained = yaml.safe_load((run / "config.yaml").read_text())
    assert trained["MODEL"]["TRANSAVS"]["NUM_QUERIES"] == 6 and trained["SEED"] == 3
    assert trained["DATASETS"]["TEST"] == []


def test_order_and_what_is_left_behind(place: Workplace) -> None:
    assert place("--threads", "3") == 0
    assert place.calls() == EVERYTHING
    record, folder = place.record("big", 1), place.run("big", 1)
    assert record["settings"]["SEED"] == 1
    assert record["settings"]["MODEL.TRANSAVS.NUM_QUERIES"] == 50
    assert 0 < record["seconds"] < 60 and record["started"] is None and not record["failure"]
    # Only what was evaluated is kept, and no note of what is gone.
    assert [path.name for path in folder.glob("*_*")] == ["model_final.pth"]
    log = (folder / "output.log").read_text()
    assert "threads 3" in log and f"DATASETS.TEST '()' SEED 1 OUTPUT_DIR {folder}" in log
    assert "--datasets demo_ms3_test --conditions original,silence MODEL" not in log
    assert "--datasets demo_ms3_test --conditions original,silence SOLVER.MAX_ITER 2" in log
    assert "--merge --datasets avsbench_ms3_test --conditions original SOLVER" in log
    assert {"table.md", "table.json", "plot.png", "runs"} == {
        p.name for p in place.output.iterdir()
    }


def test_what_is_finished_is_skipped(place: Workplace, capsys, monkeypatch) -> None:
    assert place("--keep", "--rows", "base", "--seeds", "0") == 0
    assert place.calls() == calls_of("base", 0)
    names = {path.name for path in place.run("base", 0).glob("*.pth")}
    assert names == {"model_0000099.pth", "model_final.pth"}
    assert place() == 0 and place.calls() == EVERYTHING[3:]
    # Neither titles nor files of earlier versions change that.
    place.change("name: big,", "name: big, title: other, group: one,")
    note = place.run("big", 0) / "run.json"
    note.write_text(note.read_text().replace('"evaluation"', '"finished"'))
    monkeypatch.setenv("DETECTRON2_DATASETS", "/nowhere")
    assert place() == 0 and place.calls() == []
    # What has no results needs its data, and is evaluated, not trained.
    (place.run("big", 0) / "results.json").unlink()
    assert place() == 2 and "/nowhere" in capsys.readouterr().err
    monkeypatch.undo()


def test_another_condition_is_evaluated(place: Workplace) -> None:
    place("--seeds", "0")
    place.calls()
    place.change("[original, silence]", "[original, silence, noise]")
    assert place("--seeds", "0", "--rows", "big") == 0
    assert place.calls() == calls_of("big", 0)[1:]


def test_the_best_model_by_validation_counts(place: Workplace) -> None:
    place.change("DATASETS.VAL: [], ", "")
    assert place("--rows", "base", "--seeds", "0", "--set", "TEST.EVAL_PERIOD", "1") == 0
    assert [path.name for path in place.run("base", 0).glob("*.pth")] == ["model_best.pth"]
    assert "model_best.pth" in (place.run("base", 0) / "output.log").read_text()


def test_failures_are_told_and_tried_again(place: Workplace, caplog, capsys) -> None:
    for name in ("fail-train-base-seed_0", "fail-evaluate-big-seed_0", "nothing-train-big-seed_1"):
        (place.control / name).touch()
    (place.control / "killed-train-base-seed_1").touch()
    with caplog.at_level("INFO"):
        assert place() == 1
    told = next(message for message in caplog.messages if message.startswith("FAILED base seed 0"))
    # A progress bar's states count as one line.
    assert "code 3" in told and told.endswith("    first line\n    step 2\n    out of memory")
    failures = [place.record(row, seed)["failure"] for row in ("base", "big") for seed in (0, 1)]
    for failure, word in zip(failures, ("3", "signal 9", "code 3", "model_final"), strict=True):
        assert word in failure
    table = (place.output / "table.md").read_text()
    assert re.search(r"\| base +\| 1 +\| training was ended by signal 9", table)
    place.calls()

    assert place("--list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith("base seed 0: to be resumed, iteration 2 of 2, training ended")
    assert place("--pretend", "--seeds", "0") == 0
    printed = capsys.readouterr().out.splitlines()
    assert "--config-file configs/demo/demo_ms3.yaml --resume SOLVER" in printed[1]
    assert "--weights" in printed[2] and len(printed) == 4 + 3
    assert not place.calls()

    for path in place.control.iterdir():
        path.unlink()
    assert place() == 0
    again = [calls_of("base", 0, " --resume"), calls_of("big", 0)[1:]]
    again += [calls_of("base", 1, " --resume"), calls_of("big", 1, " --resume")]
    assert place.calls() == [call for calls in again for call in calls]
    assert not place.record("base", 0)["failure"]


@pytest.mark.parametrize(
    ("wait", "what", "stops", "again"),
    [
        ("wait", "train-big-seed_0", 1, calls_of("big", 0, " --resume")),
        ("hang", "train-big-seed_0", 3, calls_of("big", 0, " --resume")),  # it is killed
        ("wait", "evaluate-big-seed_0", 1, calls_of("big", 0)[1:]),
        # It obeys, but ends as if nothing had been.
        ("finish", "evaluate-big-seed_0", 1, calls_of("big", 0)[1:]),
    ],
)
def test_ctrl_c_and_going_on(place: Workplace, wait, what, stops, again) -> None:
    (place.control / f"{wait}-{what}").touch()
    assert place.interrupted(what, stops=stops) == 130
    stopped = place.record("big", 0)
    assert stopped["seconds"] > 0 and not stopped["failure"] and stopped["started"] is None
    assert not place.run("base", 1).exists()
    (place.control / f"{wait}-{what}").unlink()
    place.calls()
    assert place() == 0
    assert place.calls() == [*again, *EVERYTHING[6:]]
    assert (place.record("big", 0)["seconds"] > stopped["seconds"]) == what.startswith("train")


def test_several_at_once_and_one_call_at_a_time(place: Workplace, capsys) -> None:
    for row in ("base", "big"):
        (place.control / f"wait-train-{row}-seed_0").touch()
    statuses: list[int] = []
    second = lambda: statuses.append(place("--jobs", "2"))  # noqa: E731
    assert place.interrupted("train-big-seed_0", "--jobs", "2", meanwhile=second) == 130
    assert statuses == [2] and f"at work in {place.output}" in capsys.readouterr().err
    assert sorted(place.calls()) == ["train-base-seed_0", "train-big-seed_0"]


def test_an_error_of_ours_leaves_no_training_behind(place: Workplace, monkeypatch, capsys) -> None:
    (place.control / "wait-train-big-seed_0").touch()

    def full_disk(grid, output) -> None:
        while not (place.control / "waiting-train-big-seed_0").exists():
            time.sleep(0.01)
        raise OSError("no space left")

    monkeypatch.setattr("transavs.apps.ablation.write_report", full_disk)
    assert place("--jobs", "2", "--seeds", "0") == 2
    assert "no space left" in capsys.readouterr().err
    assert place.record("big", 0)["started"] is None


def test_a_run_whose_end_nobody_saw(place: Workplace) -> None:
    """The computer went off: the clock counts up to the last line of the log."""
    words = ("--rows", "base", "--seeds", "0")
    place(*words)
    record, log = place.record("base", 0), place.run("base", 0) / "output.log"
    record |= {"stage": "training", "seconds": 10.0, "started": time.time() - 500}
    (log.parent / "run.json").write_text(json.dumps(record))
    os.utime(log, (time.time(), record["started"] + 60))
    assert place(*words) == 0
    assert 70 <= place.record("base", 0)["seconds"] < 130


def test_changed_settings(place: Workplace, caplog, capsys) -> None:
    assert place() == 0
    place.calls()
    place.change("NUM_QUERIES: 50", "NUM_QUERIES: 60, SOLVER.BASE_LR: 0.5")
    assert place() == 2
    told = capsys.readouterr().err
    assert "--force" in told and "MODEL.TRANSAVS.NUM_QUERIES was 50, is 60" in told
    assert re.search("big seed 1: .*; SOLVER.BASE_LR was .*, is 0.5", told) and not place.calls()
    assert place("--report-only") == 0 and "Left out of the report: big seed 0" in caplog.text
    (place.run("big", 0) / "leftover").touch()
    assert place("--force") == 0
    assert place.calls() == [call for call in EVERYTHING if "big" in call]
    assert not (place.run("big", 0) / "leftover").exists()
    # A model that is gone is trained anew on request, too.
    (place.run("base", 0) / "results.json").unlink()
    (place.run("base", 0) / "model_final.pth").unlink()
    place.change("NUM_QUERIES: 50", "NUM_QUERIES: 60, SOLVER.BASE_LR: 0.5")
    assert place() == 2 and "model_final.pth is gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [None, "{", "[]", "{}", {"seconds": "abc"}, {"settings": []}],
)
def test_files_of_somebody_else_stay(place: Workplace, content, capsys) -> None:
    folder = place.run("base", 0)
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    if content is not None:
        record = {"settings": {}, "command": [], **content} if isinstance(content, dict) else None
        record = {} if content == {} else record
        text = content if isinstance(content, str) else json.dumps(record)
        (folder / "run.json").write_text(text)
    for options in ((), ("--force",)):
        assert place(*options) == 2
        assert re.search("base seed 0: .*run.json", capsys.readouterr().err)
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (["--rows", "bigg"], "rows.*'bigg'"),
        (["--seeds", "x"], "--seeds.*'x'"),
        (["--seeds", "9"], "seeds.* 9"),
        (["--jobs", "0"], "--jobs"),
        (["--threads", "0"], "--threads"),
        (["--output", __file__], "--output: .*test_ablation.py"),
        (["--set", "SOLVER.MAX_ITER", "-4"], "SOLVER.MAX_ITER"),
        (["--set", "SEED", "3"], "--set.*SEED"),
        (["--set", "SOLVER.MAX_ITERS", "3"], "row 'base'.*SOLVER.MAX_ITER"),
        (["--set", "DATASETS.TRAIN", "('nobody',)"], "row 'base'.*'nobody'"),
        (["--set", "MODEL.BACKBONE.NAME", "no"], "row 'base'.*MODEL.BACKBONE.NAME"),
    ],
)
def test_mistakes_are_told_before_any_work(place: Workplace, changes, names, capsys) -> None:
    assert place(*changes) == 2
    told = capsys.readouterr().err
    assert re.search(names, told) and "Traceback" not in told, told
    assert not place.calls() and not place.output.exists()


def test_files_and_conditions_are_looked_at_before_any_work(place: Workplace, capsys) -> None:
    place.change('MODEL.AUDIO.WEIGHTS: ""', "MODEL.AUDIO.WEIGHTS: no.pth")
    assert place() == 2
    assert re.search("row 'base': MODEL.AUDIO.WEIGHTS: .*no.pth", capsys.readouterr().err)
    # The tiny data set has one clip to test on.
    place.change("[original]", "[original, shuffled]")
    assert place() == 2
    assert "avsbench_ms3_test: shuffled" in capsys.readouterr().err and not place.calls()
