"""predict.py: mistakes in a line, resuming, and what is told at the end."""

import builtins
import json
import logging
import os
import signal
import sys

import listening_model
import prediction_clips
import pytest
import torch

pytest.importorskip("pyarrow")

from transavs.engine.prediction import read_predictions, rows  # noqa: E402
from transavs.tools.predict import main  # noqa: E402


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return listening_model.write_options(tmp_path_factory.mktemp("model"))


@pytest.fixture
def manifest(tmp_path):
    lines = [
        {"id": str(number), **prediction_clips.write_clip(tmp_path, number, 1)}
        for number in range(3)
    ]
    lines.insert(1, {"id": "lost", "video": "lost.mp4"})
    return prediction_clips.write_manifest(tmp_path / "manifest.jsonl", lines)


def run(manifest, output, *options):
    return main([str(manifest), "--output", str(output), "--workers", "0", *map(str, options)])


def test_to_the_end_and_again(model, manifest, tmp_path, caplog, capsys):
    out = tmp_path / "out"
    assert run(manifest, out, *model, "--set", "INPUT.MIN_SIZE_TEST", 16) == 0
    assert "3 of 4 items predicted, 3 of them now" in caplog.text
    assert "1 items were set aside" in caplog.text and "lost: no film at" in caplog.text
    assert [one.id for one in read_predictions(out)] == ["0", "1", "2"]
    assert "predicting: " in capsys.readouterr().err
    caplog.clear()
    assert run(manifest, out, *model, "--set", "INPUT.MIN_SIZE_TEST", 16) == 0
    assert "3 items finished before, 0 left" in caplog.text
    assert "predicting: " not in capsys.readouterr().err


def test_ctrl_c(model, manifest, tmp_path, caplog, monkeypatch):
    def interrupt(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    out = tmp_path / "out"
    original = rows._row
    monkeypatch.setattr(rows, "_row", interrupt)
    assert run(manifest, out, *model) == 130
    assert "stopped: the same command goes on with what is left" in caplog.text
    assert [one.id for one in read_predictions(out)] == ["0"]
    monkeypatch.undo()
    assert run(manifest, out, *model) == 0
    assert [one.id for one in read_predictions(out)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--device", "cuda"], "--device cuda: no GPU is usable here; take --device cpu"),
        (["--device", "tpu"], "--device must be 'cpu' or 'cuda', got 'tpu'"),
        (["--threads", "0"], "--threads must lie in 1 to 1024, got 0"),
        (["--threads", "1000000000"], "--threads must lie in 1 to 1024, got 1000000000"),
        (["--set", "INPUT.MIN_SIZE_TEST", "-5"], "INPUT.MIN_SIZE_TEST must be 0 or more pixels"),
        (["--ray", "127.0.0.1:1", "--workers", "1"], "no Ray cluster at '127.0.0.1:1'"),
        (["--weights", "x.pth"], "--weights without --config-file"),
        (["--fps", "0"], "--fps must be above 0"),
        (["--folder-fps", "nan"], "--folder-fps must be above 0"),
        (["--set", "MODEL.WEIGHTS", "x.pth"], "MODEL.WEIGHTS without --config-file"),
        (["--item-timeout", "inf"], "--item-timeout must be above 0 and at most 86400 seconds"),
        (["--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--output", ""], "--output must name a folder of its own"),
        (["--longest-side", "-1"], "--longest-side must not be negative"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--shard-items", "0"], "--shard-items must be at least 1"),
        (["--item-timeout", "3"], "without workers"),
        (["--ray"], "at least 1 workers"),
        (["--set", "INPUT.COLOUR", "red"], "error: no configuration key INPUT.COLOUR"),
        (["--config-file", "none.yaml"], "no config file 'none.yaml'"),
    ],
)
def test_mistakes(manifest, tmp_path, capsys, monkeypatch, options, expected):
    if "127.0.0.1:1" in options:
        pytest.importorskip("ray")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(manifest, tmp_path / "out", *options) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("predict: error: ") and expected in last
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/out"])
def test_an_output_that_is_no_folder(manifest, tmp_path, capsys, monkeypatch, place):
    """Told before anything is loaded."""
    monkeypatch.setattr("transavs.tools.predict._settings", None)
    (tmp_path / "file").write_text("")
    assert run(manifest, tmp_path / place) == 2
    assert f"--output: {tmp_path}/file is a file, expected a folder" in capsys.readouterr().err


def test_a_manifest_with_a_mistake(tmp_path, capsys):
    path = prediction_clips.write_manifest(tmp_path / "m.jsonl", [{"id": "a"}])
    assert run(path, tmp_path / "out") == 2
    assert "m.jsonl, line 1: id 'a' has no source" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_of_another_rate(model, tmp_path, capsys):
    line = {"id": "a", **prediction_clips.write_clip(tmp_path, 0, 4)}
    manifest = prediction_clips.write_manifest(tmp_path / "manifest.jsonl", [line])
    out = tmp_path / "out"
    assert run(manifest, out, *model, "--folder-fps", 2) == 0
    assert [one.seconds for one in read_predictions(out)] == [0.5, 1.5]
    assert run(manifest, out, *model) == 2
    assert "folder_rate was 2.0, is 1.0" in capsys.readouterr().err
    # A folder of an older version, which knew one rate.
    described = json.loads((out / "run.json").read_text())
    del described["folder_rate"]
    (out / "run.json").write_text(json.dumps(described))
    assert run(manifest, out, *model) == 0


def test_other_settings_are_refused(model, manifest, tmp_path, capsys):
    assert run(manifest, tmp_path / "out", *model) == 0
    before = (tmp_path / "out" / "run.json").read_bytes()
    capsys.readouterr()
    assert run(manifest, tmp_path / "out", *model, "--fps", 2) == 2
    told = capsys.readouterr().err
    assert "per_second was 1.0, is 2.0" in told and "predicting" not in told
    assert run(manifest, tmp_path / "out", *model, "--set", "INPUT.MIN_SIZE_TEST", 16) == 2
    assert "settings (INPUT.MIN_SIZE_TEST was 32, is 16): name" in capsys.readouterr().err
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    settings = json.loads(before)
    assert settings["manifest"]["items"] == 4
    # An older version resampled sounds differently, and did not say so.
    assert settings.pop("front_end") == "vggish log-mel 2"
    (tmp_path / "out" / "run.json").write_text(json.dumps(settings))
    assert run(manifest, tmp_path / "out", *model) == 2
    assert "front_end was None, is vggish log-mel 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "options", "extra"), [("ray", ["--ray", "--workers", "1"], "transavs[ray]")]
)
def test_missing_packages(model, manifest, tmp_path, capsys, monkeypatch, module, options, extra):
    original = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run(manifest, tmp_path / "out", *model, *options) == 2
    assert extra in capsys.readouterr().err


def test_without_pyarrow(manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "transavs.engine.prediction", raising=False)
    monkeypatch.delitem(sys.modules, "transavs.engine.prediction.parquet_files")
    for name in ("reader", "run", "store"):
        monkeypatch.delitem(sys.modules, f"transavs.engine.prediction.{name}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(manifest, tmp_path / "out") == 2
    assert "transavs[predict]" in capsys.readouterr().err
