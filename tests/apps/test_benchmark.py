"""The command: tables, files, comparisons, curves, mistakes."""

import functools
import json

import pytest
import torch
from tiny_models import TINY

from transavs.apps import benchmark
from transavs.apps.benchmark import main
from transavs.apps.benchmark.report import draw_scaling, format_comparison, write_benchmark

SMALL = ["--config-file", "s4_R50.yaml", "--size", "32", "--repeats", "1"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "tiny.json"
    assert main([*SMALL, "--output", str(path), "--batches", "1,2", *TINY]) == 0
    return path


def test_the_file_holds_all_parts(measured):
    data = json.loads(measured.read_text())
    (size,), (training,), (loader,) = data["size"], data["training"], data["loader"]
    assert size["macs"] > size["encoder_baseline_macs"] > 0
    assert size["macs_ratio"] == size["macs"] / size["encoder_baseline_macs"]
    assert [entry["batch"] for entry in data["inference"]] == [1, 2]
    assert training["batch"] == 2 and training["ratio"] > 0
    assert loader["train_clip"] > loader["cached_sound"] > 0
    assert data["settings"]["precision"] == "fp32" and data["machine"]["torch"]


@pytest.mark.compiles
def test_what_compiling_gives(tmp_path, monkeypatch, capsys):
    eager = functools.partial(benchmark.measure_compiled, backend="eager")
    monkeypatch.setattr(benchmark, "measure_compiled", eager)
    path = tmp_path / "compiled.json"
    options = [
        "MODEL.TRANSAVS.DECODER_LAYERS", "1",
        "MODEL.BACKBONE.NAME", "build_timm_backbone",
        "MODEL.TIMM.NAME", "test_resnet",
    ]  # fmt: skip
    words = [*SMALL, "--frames", "2", "--parts", "compiled", "--output", str(path)]
    assert main([*words, *TINY, *options]) == 0
    inference, training = json.loads(path.read_text())["compiled"]
    assert (inference["phase"], inference["batch"], inference["frames"]) == ("inference", 1, 2)
    assert (training["phase"], training["batch"], training["frames"]) == ("training", 2, 1)
    assert "graph_breaks" in capsys.readouterr().out


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


def test_what_is_compared(tmp_path):
    path = tmp_path / "a.json"
    record = {"phase": "training", "batch": 2, "ratio": 0.5, "break_reasons": "x"}
    parts = {"compiled": [record], "loader": [{"sound": 0.25}]}
    write_benchmark(path, {"settings": {}, "machine": {}, **parts})
    names = [line.split("  ")[0] for line in format_comparison(path, path).splitlines()[2:]]
    assert names == ["compiled (phase training, batch 2): ratio", "loader: sound"]
    write_benchmark(tmp_path / "b.json", {"settings": {}, "machine": {}, "size": [{"macs": 1}]})
    with pytest.raises(ValueError, match="no number in common"):
        format_comparison(path, tmp_path / "b.json")


@pytest.mark.parametrize("text", [
    '"settings": null, "machine": {}, "loader": [{"x": 1}]',
    '"settings": {}, "machine": {}, "loader": {"x": 1}',
    '"settings": {}, "machine": {}, "loader": [1]',
    '"settings": {}, "machine": {}, "loader": [{"x": [1]}]',
    '"settings": {}, "machine": {}, "loader": [{"x": NaN}]',
    '"settings": {}, "machine": {}, "loader": [{"x": 1e999}]',
    f'"settings": {{}}, "machine": {{}}, "loader": [{{"x": 1{400 * "0"}}}]',
    '"settings": {}, "machine": {}',
    f'"settings": {5000 * "["}{5000 * "]"}',
])  # fmt: skip
def test_damaged_files_are_told(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f'{{"version": 2, {text}}}')
    with pytest.raises(ValueError, match=r"a\.json: expected a benchmark of version 2.*again"):
        format_comparison(path, path)


def test_scaling_draws_curves(tmp_path, capsys):
    path = tmp_path / "curves.json"
    sweeps = ["--scale-queries", "2,4", "--scale-size", "32,64", "--scale-frames", ""]
    words = [*SMALL, "--scaling", *sweeps, "--scale-batch", "", "--output", str(path)]
    assert main([*words, *TINY, "MODEL.TRANSAVS.NUM_QUERIES", "4"]) == 0
    points = json.loads(path.read_text())["scaling"]
    expected = [("queries", 2), ("queries", 4), ("size", 32), ("size", 64)]
    assert [(point["quantity"], point["value"]) for point in points] == expected
    # 4 queries and 32 pixels are the same point, which is measured once.
    assert points[1]["seconds"] == points[2]["seconds"] != points[3]["seconds"]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def point(quantity, value, batch, seconds_per_clip, ratio):
    seconds = batch * seconds_per_clip
    baseline = seconds / ratio
    return {
        "quantity": quantity, "value": value, "batch": batch, "seconds": seconds,
        "encoder_baseline_seconds": baseline, "ratio": ratio,
    }  # fmt: skip


def test_curves_are_what_was_measured_on_scales_that_compare():
    curves = [point("queries", 20, 1, 0.5, 1.25), point("queries", 300, 1, 1.0, 2.5)]
    curves += [point("batch", 1, 1, 1.0, 2.5), point("batch", 4, 4, 0.8, 2.0)]
    figure = draw_scaling(curves, "a title")
    figure.canvas.draw()
    above, above_batch, below, below_batch = figure.axes
    # Four clips at once in 3.2 s, by encoders of 1.6 s: 800 and 400 ms a clip.
    model, encoders = above_batch.lines
    assert model.get_ydata() == pytest.approx([1000, 800])
    assert encoders.get_ydata() == pytest.approx([400, 400])
    ratio, one = below_batch.lines
    assert list(ratio.get_ydata()) == [2.5, 2.0] and list(one.get_ydata()) == [1, 1]
    assert above.get_ylim() == above_batch.get_ylim() != below.get_ylim()
    assert below.get_ylim() == below_batch.get_ylim() and below.get_ylim()[0] == 0
    assert [label.get_text() for label in above.get_xticklabels()] == ["20", "300"]
    assert {"500", "1,000"} <= {label.get_text() for label in above.get_yticklabels()}
    assert below.get_xlabel() == "queries" and figure.get_suptitle() == "a title"


@pytest.mark.parametrize(("arguments", "named"), [
    ([], "--config-file"),
    ([*SMALL, "--parts", ","], "--parts"),
    ([*SMALL, "--batches", "1,many"], "--batches"),
    ([*SMALL, "--batches", ""], "--batches"),
    ([*SMALL, "--threads", "0"], "--threads"),
    ([*SMALL, "--precision", "fp16"], "--precision fp16"),
    ([*SMALL, "--parts", "size", "--scaling"], "--scaling"),
    ([*SMALL, "--scaling", *(f"--scale-{name}=" for name in benchmark.SWEEPS)], "--scale"),
    ([*SMALL, "--device", "abacus"], "MODEL.DEVICE"),
    ([*SMALL, "--masks", "1,1001"], "--masks"),
    ([*SMALL, "--size", "9999999999"], "--size"),
    ([*SMALL, "--scaling", "--scale-size", "2049"], "--scale-size"),
    (["--compare", "a.json", "b.json"], "a.json"),
    (["--compare", ".", "b.json"], "."),
    (["--compare", "a.json", "b.json", *SMALL], "--compare"),
])  # fmt: skip
def test_mistakes_are_told(arguments, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as ended:  # argparse
        code = ended.code
    assert code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("work", [[], ["--scaling"]])
def test_a_gpu_that_is_not_there_is_told_before_any_work(work, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(benchmark, "build_model", lambda cfg: pytest.fail("built a model"))
    assert main([*SMALL, *work, "--device", "cuda"]) == 2
    assert "MODEL.DEVICE cuda" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("output", "options"), [
    ("there", []),
    ("there/a.json", ["--scaling"]),
    ("there/b.png", ["--scaling"]),
    ("c.yaml", ["--config-file", "c.yaml"]),
])  # fmt: skip
def test_an_output_that_cannot_be_is_told_before_any_work(
    output, options, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "build_model", lambda cfg: pytest.fail("built a model"))
    (tmp_path / "there" / "a.png").mkdir(parents=True)
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    assert main([*SMALL, "--output", output, *options]) == 2
    assert "--output" in capsys.readouterr().err.splitlines()[-1]


def test_a_mistake_leaves_no_folder_behind(capsys, tmp_path):
    words = ["--config-file", "nope.yaml", "--output", str(tmp_path / "deep" / "er" / "y.json")]
    assert main(words) == 2
    assert "nope.yaml" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
