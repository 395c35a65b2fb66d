"""predict.py from end to end: content, resuming, mistakes in a line, and what is told."""

import builtins
import itertools
import json
import logging
import os
import signal
import sys

import listening_model
import numpy as np
import prediction_clips
import pytest
import tiny_models
import torch

pytest.importorskip("pyarrow")
pytest.importorskip("pebble")

from transavs.apps.predict import main, model  # noqa: E402
from transavs.apps.predict.manifest import read_manifest  # noqa: E402
from transavs.apps.predict.model import ItemPredictor, Settings  # noqa: E402
from transavs.apps.predict.results import read_predictions  # noqa: E402
from transavs.apps.predict.run import predict_manifest  # noqa: E402
from transavs.config import setup_cfg  # noqa: E402

SIZE = listening_model.SIZE


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return listening_model.write_options(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def settings(options):
    return Settings.of(setup_cfg(options[1]), options[3], device="cpu", workers=0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A clip, a video, something that is neither, another clip."""
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "words.mp4").write_text("no video")
    rows = [
        {"id": "clip", **prediction_clips.write_clip(folder, 0, 3, SIZE)},
        {"id": "video", **prediction_clips.write_video(folder, 1, 2, SIZE)},
        {"id": "words", "video": "words.mp4"},
        {"id": "last", **prediction_clips.write_clip(folder, 2, 2, SIZE)},
    ]
    return prediction_clips.write_manifest(folder / "manifest.jsonl", rows)


def one_item(folder, row):
    return prediction_clips.write_manifest(folder / "one.jsonl", [{"id": "one", **row}])


def run(manifest, output, *words):
    return main([str(manifest), "--output", str(output), "--workers", "0", *map(str, words)])


def ids(folder):
    return list(dict.fromkeys(one.id for one in read_predictions(folder)))


def same(folder, other):
    names = ("frames/shard-000000.parquet", "failed_items.jsonl", "run.json")
    return all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_masks_are_those_of_the_predictor(settings, manifest, tmp_path):
    summary = predict_manifest(manifest, tmp_path, settings)
    assert (summary.items, summary.finished, summary.now, summary.stopped) == (4, 3, 3, False)
    assert [item_id for item_id, _ in summary.failed_items] == ["words"]
    predictor = ItemPredictor(settings).predictor
    found = list(read_predictions(tmp_path))
    expected = [
        (item.id, frame)
        for item in read_manifest(manifest)
        if item.id != "words"
        for frame in predictor.predict(item.open(settings.longest_side))
    ]
    assert any(one.mask.any() for one in found) and not all(one.mask.all() for one in found)
    for one, (item_id, frame) in zip(found, expected, strict=True):
        assert (one.id, one.frame, one.seconds) == (item_id, frame.number, frame.seconds)
        assert np.array_equal(one.mask, frame.mask) and one.classes is None
        assert one.score == np.float32(frame.confidence)


def test_workers_and_a_killed_run_write_the_same_bytes(manifest, tmp_path):
    network = tiny_models.tiny_model()
    tiny_models.make_confident(network)
    torch.save({"model": network.state_dict()}, tmp_path / "model.pth")
    cfg = tiny_models.tiny_cfg("MODEL.WEIGHTS", tmp_path / "model.pth")
    chosen = {name: Settings.of(cfg, device="cpu", workers=count)
              for name, count in (("here", 0), ("there", 1), ("again", 1))}  # fmt: skip
    for name in ("here", "there"):
        predict_manifest(manifest, tmp_path / name, chosen[name])
    asked = itertools.count()
    stopped = predict_manifest(
        manifest, tmp_path / "again", chosen["here"], should_stop=lambda: next(asked) > 0
    )
    assert stopped.stopped and stopped.finished == 1 and ids(tmp_path / "again") == ["clip"]
    again = predict_manifest(manifest, tmp_path / "again", chosen["again"])
    assert (again.finished, again.now) == (3, 2)
    assert same(tmp_path / "here", tmp_path / "there") and same(
        tmp_path / "here", tmp_path / "again"
    )


def test_classes(manifest, tmp_path):
    opts = ("MODEL.TRANSAVS.NUM_CLASSES", 3)
    network = tiny_models.tiny_model(*opts)
    with torch.no_grad():
        network.query_decoder.class_head.bias.copy_(torch.tensor([3.0, 3.0, 3.0, 0.0]))
    torch.save({"model": network.state_dict()}, tmp_path / "model.pth")
    settings = Settings.of(tiny_models.tiny_cfg(*opts), str(tmp_path / "model.pth"), workers=0)
    predictor = ItemPredictor(settings).predictor
    frames = list(predictor.predict(read_manifest(manifest)[0].open(0)))
    predict_manifest(manifest, tmp_path / "out", settings)
    found = [one for one in read_predictions(tmp_path / "out") if one.id == "clip"]
    assert any(one.classes for one in found)
    for one, frame in zip(found, frames, strict=True):
        whole = np.zeros_like(frame.class_map)
        for name in one.classes:
            whole[one.mask_of(name)] = 1 + (predictor.known_classes or ()).index(name)
        assert np.array_equal(whole, frame.class_map)


@pytest.mark.parametrize("kind", ["video", "clip"])
def test_without_audio(options, tmp_path, kind, caplog):
    if kind == "video":
        row, told = {"video": "mute.mp4"}, "mute.mp4 has no sound"
        prediction_clips.write_mute_video(tmp_path / "mute.mp4")
    else:
        row = prediction_clips.write_clip(tmp_path, 0, 1, SIZE)
        wav = tmp_path / row["audio"]
        wav.write_bytes(wav.read_bytes()[:44])
        told = f"{wav} holds no samples"
    manifest = one_item(tmp_path, row)
    assert run(manifest, tmp_path / "a", *options) == 0
    assert told in caplog.text and not ids(tmp_path / "a")
    assert run(manifest, tmp_path / "b", *options, "--silent-videos") == 0
    assert ids(tmp_path / "b") and not any(
        one.mask.any() for one in read_predictions(tmp_path / "b")
    )


def test_an_item_that_was_mended(options, tmp_path, caplog):
    row = prediction_clips.write_clip(tmp_path, 0, 3, SIZE)
    manifest, wav, out = one_item(tmp_path, row), tmp_path / row["audio"], tmp_path / "out"
    saved = wav.read_bytes()
    wav.write_bytes(b"RIFF")
    assert run(manifest, out, *options) == 0 and not ids(out)
    wav.write_bytes(saved[: 44 + 2 * prediction_clips.RATE_HZ])  # breaks off after a second
    assert run(manifest, out, *options) == 0 and not ids(out)
    assert run(manifest, out, *options, "--retry-failed") == 0 and ids(out) == ["one"]
    assert caplog.text.count(f"{wav} is cut short") == 1


def test_what_is_told_to_the_end_and_again(options, manifest, tmp_path, caplog, capsys):
    assert run(manifest, tmp_path / "out", *options) == 0
    assert "3 of 4 items predicted, 3 of them now" in caplog.text
    assert "failed_items.jsonl" in caplog.text and "words.mp4" in caplog.text
    assert "predicting: " in capsys.readouterr().err
    assert run(manifest, tmp_path / "out", *options) == 0
    assert "3 items finished before, 0 left" in caplog.text
    assert "predicting: " not in capsys.readouterr().err


def test_ctrl_c(options, manifest, tmp_path, monkeypatch):
    def interrupt(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    original = model._row
    monkeypatch.setattr(model, "_row", interrupt)
    assert run(manifest, tmp_path, *options) == 130
    assert ids(tmp_path) == ["clip"]
    monkeypatch.undo()
    assert run(manifest, tmp_path, *options) == 0
    assert ids(tmp_path) == ["clip", "video", "last"]


def test_another_model_or_other_settings_are_refused(options, manifest, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(manifest, out, *options, "--folder-fps", 2) == 0
    assert [one.seconds for one in read_predictions(out) if one.id == "last"] == [0.5]
    weights = torch.load(options[3], weights_only=True)
    torch.save(weights, tmp_path / "moved.pth")
    weights["model"]["query_decoder.mask_logits"] += 1
    torch.save(weights, tmp_path / "other.pth")
    before = (out / "run.json").read_bytes()
    assert json.loads(before)["settings"]["front_end"] == "vggish log-mel 2"
    for words, told in (
        (["--weights", tmp_path / "other.pth", "--folder-fps", 2], "weights was"),
        (["--fps", 2, "--folder-fps", 2], "(--fps was 1.0, is 2.0)"),
        ([], "(--folder-fps was 2.0, is 1.0)"),
        (
            ["--set", "INPUT.MIN_SIZE_TEST", 16, "--folder-fps", 2],
            "INPUT.MIN_SIZE_TEST was 32, is 16",
        ),
    ):
        assert run(manifest, out, *options, *words) == 2
        assert told in capsys.readouterr().err and (out / "run.json").read_bytes() == before
    assert run(manifest, out, *options, "--weights", tmp_path / "moved.pth", "--folder-fps", 2) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--device cuda", "--device"),
        ("--device tpu", "--device"),
        ("--threads 0", "--threads"),
        ("--threads 1000000000", "--threads"),
        ("--set INPUT.MIN_SIZE_TEST -5", "INPUT.MIN_SIZE_TEST"),
        ("--ray 127.0.0.1:1 --workers 1", "127.0.0.1:1"),
        ("--weights x.pth", "--config-file"),
        ("--fps 0", "--fps"),
        ("--folder-fps nan", "--folder-fps"),
        ("--set MODEL.WEIGHTS x.pth", "MODEL.WEIGHTS"),
        ("--item-timeout inf --workers 1", "--item-timeout"),
        ("--item-timeout 3", "--item-timeout"),
        ("--workers -1", "--workers"),
        ("--ray --workers 0", "--workers"),
        ("--output .", "--output"),
        ("--output manifest.jsonl", "manifest.jsonl"),
        ("--output manifest.jsonl/out", "manifest.jsonl"),
        ("--longest-side -1", "--longest-side"),
        ("--batch-size 0", "--batch-size"),
        ("--shard-items 0", "--shard-items"),
        ("--attempts 0", "--attempts"),
        ("--set INPUT.COLOUR red", "INPUT.COLOUR"),
        ("--config-file none.yaml", "none.yaml"),
    ],
)
def test_mistakes(manifest, tmp_path, capsys, monkeypatch, words, told):
    if "127.0.0.1:1" in words:
        pytest.importorskip("ray")
        monkeypatch.setattr("transavs.apps.predict.workers._ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(manifest.parent)
    assert run(manifest, tmp_path / "out", *words.split()) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("predict: error: ") and told in last
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("missing", "extra"), [("ray", "ray"), ("pyarrow", "predict"), ("pebble", "predict")]
)
def test_missing_packages(manifest, tmp_path, capsys, monkeypatch, missing, extra):
    original = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=missing)
        return original(name, *args)

    if missing != "ray":
        for name in ("run", "results", "workers"):
            monkeypatch.delitem(sys.modules, f"transavs.apps.predict.{name}")
    monkeypatch.setattr(builtins, "__import__", without)
    assert run(manifest, tmp_path / "out", "--ray", "--workers", "1") == 2
    assert f"transavs[{extra}]" in capsys.readouterr().err
