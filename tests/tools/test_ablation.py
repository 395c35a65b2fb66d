"""The command that runs a grid: a whole grid with real trainings, and everything around it."""

import json
import re
from pathlib import Path

import fake_trainings
import pytest
import tiny_models
import yaml

from transavs.engine.grid import Commands
from transavs.tools import ablation
from transavs.tools.ablation import main

TINY = dict(zip(tiny_models.TINY[::2], tiny_models.TINY[1::2], strict=True))
GRID = {
    "config": "configs/s4_R50.yaml",
    "overrides": {**TINY, "SOLVER.MAX_ITER": 2, "DATASETS.VAL": []},
    "seeds": [3],
    "test": ["avsbench_s4_test"],
    "conditions": ["original", "silence"],
    "rows": [
        {"name": "base", "title": "as it is", "baseline": True},
        {"name": "big", "overrides": {"MODEL.TRANSAVS.NUM_QUERIES": 6}},
    ],
}


@pytest.fixture
def arguments(tmp_path: Path, datasets_env: Path) -> list[str]:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID, sort_keys=False))
    return [str(path), "--output", str(tmp_path / "out")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets the command start stand-ins, which the folder steers."""
    control = tmp_path / "control"
    control.mkdir()
    monkeypatch.setenv("FAKE_TRAININGS", str(control))
    monkeypatch.setattr(ablation, "Commands", lambda: Commands(*fake_trainings.commands()))
    return control


@pytest.mark.slow
def test_a_grid_from_files_to_table(arguments: list[str], tmp_path: Path) -> None:
    # One row of the two: each process takes seconds to start.
    assert main([*arguments, "--rows", "big"]) == 0
    output = tmp_path / "out"
    run = output / "runs" / "big" / "seed_3"
    results = json.loads((run / "results.json").read_text())
    data = json.loads((output / "table.json").read_text())
    scores = data["rows"][1]["by_seed"]["3"]
    assert scores["M_J"] == results["avsbench_s4_test"]["original"]["M_J"]
    assert scores["G_mIoU"] == results["robustness"]["avsbench_s4_test"]["G_mIoU"]
    assert scores["seconds"] > 0 and scores["M_J_nonempty_shuffled"] is None
    assert [path.name for path in run.glob("*.pth")] == ["model_final.pth"]
    # What trained is what the row says.
    trained = yaml.safe_load((run / "config.yaml").read_text())
    assert trained["MODEL"]["TRANSAVS"]["NUM_QUERIES"] == 6 and trained["SEED"] == 3
    assert trained["DATASETS"]["TEST"] == []
    assert (output / "plot.png").stat().st_size > 10_000


def test_a_second_call_and_a_failure(
    arguments: list[str], fake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fake / "fail-train-big-seed_3").touch()
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "finished base seed 3: M_J 66.0" in captured.err
    assert "FAILED big seed 3: training ended with code 3; the end of " in captured.err
    assert "\n    out of memory\n" in captured.err
    assert "| big | 3 | training ended with code 3 |" in (tmp_path / "out/table.md").read_text()

    assert main([*arguments, "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed == [
        "base seed 3: finished",
        "big seed 3: to be resumed, iteration 2 of 2, training ended with code 3",
    ]
    assert main([*arguments, "--pretend"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "# base seed 3: finished" and printed[1].startswith("# big seed 3")
    assert "--config-file configs/s4_R50.yaml --resume MODEL.DEVICE cpu" in printed[2]
    assert "--weights" in printed[3] and len(printed) == 4

    (fake / "fail-train-big-seed_3").unlink()
    (fake / "calls").unlink()
    assert main([*arguments, "--seeds", "3", "--rows", "big"]) == 0
    assert (fake / "calls").read_text().split("\n")[0] == "train-big-seed_3 --resume"
    assert "| big |" in (tmp_path / "out/table.md").read_text()


def test_report_only(arguments: list[str], fake: Path, tmp_path: Path) -> None:
    assert main(arguments) == 0
    (fake / "calls").unlink()
    table = tmp_path / "out" / "table.md"
    before = table.read_text()
    table.unlink()
    assert main([*arguments, "--report-only"]) == 0
    assert table.read_text() == before and not (fake / "calls").exists()


def test_changed_settings_and_force(
    arguments: list[str], fake: Path, caplog: pytest.LogCaptureFixture, capsys
) -> None:
    assert main(arguments) == 0
    change = ["--set", "SOLVER.BASE_LR", "0.5"]
    assert main([*arguments, *change]) == 2
    assert "base seed 3: SOLVER.BASE_LR was the default, is 0.5" in capsys.readouterr().err
    with caplog.at_level("WARNING"):
        assert main([*arguments, *change, "--report-only"]) == 0
    assert "Left out of the report: base seed 3" in caplog.text
    assert main([*arguments, *change, "--force"]) == 0


def test_interrupted(arguments: list[str], fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome that was interrupted is the exit code of an interrupted command."""

    class Interrupted:
        interrupted, failed = True, ()

    monkeypatch.setattr(ablation.GridRunner, "run", lambda *args, **options: Interrupted())
    assert main(arguments) == 130


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--rows", "bigg"], "no row is called 'bigg'; near it: big"),
        (["--seeds", "x"], "--seeds: expected whole numbers such as 0,1, got 'x'"),
        (["--seeds", "9"], "no seed is called 9"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--threads", "0"], "--threads must lie in 1 to"),
        (["--output", __file__], "--output: .*test_ablation.py is a file, expected a folder"),
        (["--set", "SOLVER.MAX_ITER", "-4"], "SOLVER.MAX_ITER must be at least 1, got -4"),
        (["--set", "SEED", "3"], "--set: SEED is set by the grid: use seeds"),
        (["--set", "MODEL.AUDIO.WEIGHTS", "no.pth"], "row 'base': no file no.pth .MODEL.AUDIO.WEI"),
        (["--set", "SOLVER.MAX_ITERS", "3"], "near it: SOLVER.MAX_ITER"),
        (["--set", "DATASETS.TRAIN", "('nobody',)"], "row 'base': no data set is called 'nobody'"),
        (["--set", "MODEL.BACKBONE.NAME", "no"], "row 'base': MODEL.BACKBONE.NAME must be one of"),
    ],
)
def test_mistakes_are_told_before_any_work(
    arguments: list[str], fake: Path, changes: list[str], message: str, capsys
) -> None:
    code = main([*arguments, *changes])
    told = capsys.readouterr().err
    assert code == 2 and re.search(message, told), told
    assert told.startswith("ablation: error: ") and "Traceback" not in told
    assert not (fake / "calls").exists() and not Path(arguments[-1]).exists()


def test_conditions_that_cannot_be_had(arguments: list[str], fake: Path, capsys) -> None:
    # The tiny data set has one clip to test on.
    content = {**GRID, "conditions": ["original", "shuffled"]}
    Path(arguments[0]).write_text(yaml.safe_dump(content))
    assert main(arguments) == 2
    assert re.search(
        "condition 'shuffled' of avsbench_s4_test: .*at least 2 clips", capsys.readouterr().err
    )


def test_missing_data(
    arguments: list[str], fake: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert main(arguments) == 0
    monkeypatch.setenv("DETECTRON2_DATASETS", "/nowhere")
    # What is finished needs no data.
    assert main(arguments) == 0
    (Path(arguments[2]) / "runs/big/seed_3/results.json").unlink()
    assert main(arguments) == 2
    assert "/nowhere" in capsys.readouterr().err
