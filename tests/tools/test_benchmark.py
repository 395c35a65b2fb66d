"""The command: tables, files, comparisons, curves, mistakes."""

import json

import pytest
import torch
from tiny_models import TINY

from transavs.engine.benchmark import measure_compiled
from transavs.tools import benchmark
from transavs.tools.benchmark import main

SMALL = ["--config-file", "s4_R50.yaml", "--size", "32", "--repeats", "1"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "tiny.json"
    assert main([*SMALL, "--output", str(path), "--batches", "1,2", *TINY]) == 0
    return path


def test_the_file_holds_all_parts(measured):
    data = json.loads(measured.read_text())
    assert data["cost"]["macs"] > data["cost"]["limit_macs"] > 0
    assert data["cost"]["parameters"] > data["cost"]["learning_parameters"]
    assert [entry["batch"] for entry in data["inference"]] == [1, 2]
    (training,) = data["training"]
    assert training["batch"] == 2 and training["data_seconds"] > 0
    assert data["loader"]["train_clip"] > data["loader"]["cached_sound"] > 0
    assert data["settings"]["precision"] == "fp32" and data["machine"]["torch"]


@pytest.mark.compiles
def test_what_compiling_gives(tmp_path, monkeypatch, capsys):
    def without_a_compiler(*args, **settings):
        return measure_compiled(*args, **settings, backend="eager")

    monkeypatch.setattr(benchmark, "measure_compiled", without_a_compiler)
    path = tmp_path / "compiled.json"
    options = [
        "MODEL.TRANSAVS.DECODER_LAYERS", "1",
        "MODEL.BACKBONE.NAME", "build_timm_backbone",
        "MODEL.TIMM.NAME", "test_resnet",
    ]  # fmt: skip
    words = [*SMALL, "--frames", "2", "--parts", "compiled", "--output", str(path)]
    assert main([*words, *TINY, *options]) == 0
    inference, training = json.loads(path.read_text())["compiled"]
    assert (inference["work"], inference["batch"], inference["frames"]) == ("inference", 1, 2)
    assert (training["work"], training["batch"], training["frames"]) == ("training", 2, 1)
    assert "torch.compile" in capsys.readouterr().out


def test_comparison(measured, tmp_path, capsys):
    data = json.loads(measured.read_text())
    data["inference"][0]["ratio"] /= 2
    data["settings"]["threads"] = 7
    other = tmp_path / "other.json"
    other.write_text(json.dumps(data))
    capsys.readouterr()
    assert main(["--compare", str(measured), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "Differs: threads: 1 -> 7" in printed
    line = next(line for line in printed.splitlines() if "inference (batch 1): ratio" in line)
    assert line.split()[-1] == "0.500"


def test_scaling_draws_curves(tmp_path, capsys):
    path = tmp_path / "curves.json"
    sweeps = [
        "--scale-queries",
        "2,4",
        "--scale-size",
        "32,64",
        "--scale-frames",
        "",
    ]
    assert (
        main([*SMALL, "--scaling", *sweeps, "--scale-batch", "", "--output", str(path), *TINY]) == 0
    )
    data = json.loads(path.read_text())
    assert {name: [p["value"] for p in points] for name, points in data["scaling"].items()} == {
        "queries": [2, 4], "size": [32, 64]
    }  # fmt: skip
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "By queries" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "--config-file is needed"),
    ([*SMALL, "--parts", "speed"], "--parts: expected some of size, inference"),
    ([*SMALL, "--parts", ","], "--parts: expected some of size, inference, training, loader, "
     "compiled, got ','"),
    ([*SMALL, "--batches", "1,many"], "--batches: expected whole numbers"),
    ([*SMALL, "--batches", ""], "need at least one number"),
    ([*SMALL, "--threads", "0"], "--threads must lie in 1 to 1024, got 0"),
    ([*SMALL, "--precision", "fp16"], "on the CPU take bf16"),
    ([*SMALL, "--parts", "compiled", "--compile"], "leave --compile out"),
    ([*SMALL, "MODEL.DEVICE", "cuda"], "MODEL.DEVICE cuda would be ignored: say --device cuda"),
    ([*SMALL, "--parts", "size", "--soak", "40"], "--soak measures something else"),
    ([*SMALL, "--parts", "size", "--scaling"], "--scaling measures something else"),
    ([*SMALL, "--weights", "x.pth", "--scaling"], "--weights would not fit"),
    ([*SMALL, "--device", "abacus"], "--device must be 'cpu' or 'cuda'"),
    ([*SMALL, "--scale-size", "32"], "--scale-size is for --scaling, and would be ignored"),
    ([*SMALL, "--parts", "size,inference", "--masks", "2"],
     "--masks is for --parts training or --parts compiled, and would be ignored: leave it out"),
    ([*SMALL, "--parts", "inference", "--train-batch", "2"], "--train-batch is for --parts train"),
    ([*SMALL, "--scaling", "--train-batch", "2"], "--train-batch is for --parts training"),
    ([*SMALL, "--parts", "size,loader", "--compile"], "--compile is for --parts inference or"),
    ([*SMALL, "--soak", "40", "--compile"], "--compile is for --parts inference or"),
    ([*SMALL, "--parts", "training", "--batches", "2"], "--batches is for --parts inference or"),
    ([*SMALL, "--parts", "training", "--claiming", "2"], "--claiming is for --parts inference or"),
    ([*SMALL, "--queries", "8", "MODEL.TRANSAVS.NUM_QUERIES", "9"],
     "--queries and MODEL.TRANSAVS.NUM_QUERIES say the same: leave one of them out"),
    ([*SMALL, "--frames", "2", "INPUT.CLIP_SECONDS", "3"], "--frames and INPUT.CLIP_SECONDS say"),
    ([*SMALL, "--queries", "8", "--claiming", "9"],
     "--claiming 9 is more than the 8 queries that a frame has: lower it"),
    ([*SMALL, "--scaling", "--claiming", "30", "--scale-queries", "40,20"],
     "--claiming 30 is more than the 20 queries that a frame has"),
    ([*SMALL, "--parts", "training", "--masks", "1,100000"],
     "--masks must be at most 1000, got 100000"),
    ([*SMALL, "--train-batch", "1001"], "--train-batch must be at most 1000, got 1001"),
    ([*SMALL, "--size", "9999999999"], "--size must be at most 2048, got 9999999999"),
    ([*SMALL, "--queries", "2001"], "--queries must be at most 2000, got 2001"),
    ([*SMALL, "--frames", "1001"], "--frames must be at most 1000, got 1001"),
    ([*SMALL, "--batches", "1001"], "--batches must be at most 1000, got 1001"),
    ([*SMALL, "--scaling", "--scale-size", "2049"], "--scale-size must be at most 2048, got 2049"),
    (["--compare", "a.json", "b.json"], "a.json"),
    (["--compare", "a", "b", "--config-file", "c.yaml", "--output", "d", "--scale-size", "1", "K"],
     "leave out --config-file, --output, --scale-size, K, and put > FILE"),
    (["--compare", ".", "b.json"], ". is a folder, expected a .json file"),
])  # fmt: skip
def test_mistakes_are_told(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told_before_any_work(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(benchmark, "build_model", lambda cfg: pytest.fail("built a model"))
    for work in ([], ["--scaling"]):
        assert main([*SMALL, *work, "--device", "cuda"]) == 2
        message = capsys.readouterr().err
        assert message.strip().splitlines()[-1] == (
            "benchmark: error: --device cuda: no GPU is usable here; take --device cpu"
        )


def test_an_output_that_cannot_be_is_told_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "build_model", lambda cfg: pytest.fail("built a model"))
    (tmp_path / "there" / "a.png").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    for output, options, message in (
        ("there", [], "--output names a folder, there: name a file in it"),
        ("new/", [], "--output names a folder, new/: name a file in it"),
        ("there/a.json", ["--scaling"], "the curves of --output names a folder, there/a.png"),
        ("there/b.png", ["--scaling"], "the curves of --output would overwrite --output"),
        ("there/a.json", ["--soak", "40"], "the curves of --output names a folder, there/a.png"),
        ("file/a.json", [], "file is a file, expected a folder"),
        ("c.yaml", ["--config-file", "c.yaml"], "--output would overwrite --config-file c.yaml"),
    ):
        assert main([*SMALL, "--output", output, *options]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error


def test_a_mistake_leaves_no_folder_behind(capsys, tmp_path):
    words = ["--config-file", "nope.yaml", "--output", str(tmp_path / "deep" / "er" / "y.json")]
    assert main(words) == 2
    assert "no config file 'nope.yaml'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_refused(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text('{"demo_s4_test": {}}')
    assert main(["--compare", str(path), str(path)]) == 2
    assert "expected a benchmark of version 1" in capsys.readouterr().err
