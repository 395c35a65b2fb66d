"""A manifest from end to end: what is kept is what the predictor says, on each way to it."""

import json
from dataclasses import replace

import listening_model
import numpy as np
import prediction_clips
import pytest
import tiny_models
import torch

pytest.importorskip("pyarrow")

from transavs.config import setup_cfg  # noqa: E402
from transavs.engine.prediction import (  # noqa: E402
    Execution,
    Settings,
    predict_manifest,
    read_manifest,
    read_predictions,
)
from transavs.engine.prediction.rows import predict_item  # noqa: E402
from transavs.engine.predictor import VideoPredictor  # noqa: E402

HERE = Execution(workers=0)
SIZE = listening_model.SIZE


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    cfg = setup_cfg(str(listening_model.write_config(folder)))
    return Settings.of(cfg, str(folder / "model.pth"), device="cpu")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A clip, a film, something that is neither, another clip."""
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "words.mp4").write_text("no film")
    rows = [
        {"id": "clip", **prediction_clips.write_clip(folder, 0, 3, SIZE)},
        {"id": "film", **prediction_clips.write_film(folder, 1, 2, SIZE)},
        {"id": "words", "video": "words.mp4"},
        {"id": "last", **prediction_clips.write_clip(folder, 2, 2, SIZE)},
    ]
    return prediction_clips.write_manifest(folder / "manifest.jsonl", rows)


def told(folder):
    return [(one.id, one.frame, one.counts, one.score) for one in read_predictions(folder)]


class TestContent:
    def test_masks_are_those_of_the_predictor(self, settings, manifest, tmp_path):
        summary = predict_manifest(manifest, tmp_path, settings, HERE)
        assert (summary.items, summary.finished, summary.now) == (4, 3, 3)
        assert [item_id for item_id, _ in summary.set_aside] == ["words"]
        assert "as a film" in summary.set_aside[0][1] and not summary.stopped
        predictor = settings.load()
        found = list(read_predictions(tmp_path))
        expected = [
            (item.id, moment)
            for item in read_manifest(manifest)
            if item.id != "words"
            for moment in predictor.predict(item.open(settings.longest_side))
        ]
        assert any(one.mask.any() for one in found) and not all(one.mask.all() for one in found)
        for one, (item_id, moment) in zip(found, expected, strict=True):
            assert (one.id, one.frame, one.seconds) == (item_id, moment.number, moment.seconds)
            assert np.array_equal(one.mask, moment.mask) and one.classes is None
            assert one.score == np.float32(moment.confidence)

    def test_the_worker_process_says_the_same(self, manifest, tmp_path):
        model = tiny_models.tiny_model()
        tiny_models.make_confident(model)
        torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
        cfg = tiny_models.tiny_cfg("MODEL.WEIGHTS", tmp_path / "model.pth")
        settings = Settings.of(cfg, device="cpu")
        predict_manifest(manifest, tmp_path / "here", settings, HERE)
        predict_manifest(manifest, tmp_path / "there", settings, Execution(workers=1))
        assert len(told(tmp_path / "here")) == 7
        for name in ("frames/shard-000000.parquet", "set_aside.jsonl", "run.json"):
            assert (tmp_path / "here" / name).read_bytes() == (
                tmp_path / "there" / name
            ).read_bytes()

    def test_classes(self, manifest, tmp_path):
        opts = ("MODEL.TRANSAVS.NUM_CLASSES", 3)
        model = tiny_models.tiny_model(*opts)
        with torch.no_grad():
            model.query_decoder.class_head.bias.copy_(torch.tensor([3.0, 3.0, 3.0, 0.0]))
        torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
        settings = Settings.of(tiny_models.tiny_cfg(*opts), str(tmp_path / "model.pth"))
        predictor = VideoPredictor(tiny_models.tiny_cfg(*opts), tmp_path / "model.pth", "cpu")
        item = read_manifest(manifest)[0]
        rows = predict_item(predictor, item, replace(settings, device="cpu"))
        moments = list(predictor.predict(item.open(0)))
        predict_manifest(manifest, tmp_path / "out", settings, HERE)
        found = [one for one in read_predictions(tmp_path / "out") if one.id == "clip"]
        assert len(rows) == len(moments) == len(found) == 3
        assert any(one.classes for one in found)
        for one, moment in zip(found, moments, strict=True):
            assert np.array_equal(moment.class_map > 0, moment.mask)
            whole = np.zeros_like(moment.class_map)
            for name in one.classes:
                number = 1 + (predictor.known_classes or ()).index(name)
                whole[one.mask_of(name)] = number
            assert np.array_equal(whole, moment.class_map)

    def test_write_mute_film(self, settings, tmp_path):
        prediction_clips.write_mute_film(tmp_path / "mute.mp4")
        path = prediction_clips.write_manifest(
            tmp_path / "manifest.jsonl", [{"id": "mute", "video": "mute.mp4"}]
        )
        summary = predict_manifest(path, tmp_path / "a", settings, HERE)
        assert "has no sound" in summary.set_aside[0][1]
        allowed = replace(settings, silent_films=True)
        assert predict_manifest(path, tmp_path / "b", allowed, HERE).finished == 1
        assert not any(one.mask.any() for one in read_predictions(tmp_path / "b"))

    def test_a_clip_whose_sound_holds_no_samples(self, settings, tmp_path):
        """As a film without sound."""
        row = prediction_clips.write_clip(tmp_path, 0, 1, SIZE)
        wav = tmp_path / row["audio"]
        wav.write_bytes(wav.read_bytes()[:44])
        path = prediction_clips.write_manifest(tmp_path / "m.jsonl", [{"id": "a", **row}])
        summary = predict_manifest(path, tmp_path / "a", settings, HERE)
        assert f"{wav} holds no samples: leave it out" in summary.set_aside[0][1]
        allowed = replace(settings, silent_films=True)
        assert predict_manifest(path, tmp_path / "b", allowed, HERE).finished == 1
        assert not any(one.mask.any() for one in read_predictions(tmp_path / "b"))

    def test_a_clip_whose_sound_breaks_off(self, settings, tmp_path, caplog):
        """As a film that is cut short: predicted, with a line that counts what is missing."""
        row = prediction_clips.write_clip(tmp_path, 0, 3, SIZE)
        wav = tmp_path / row["audio"]
        wav.write_bytes(wav.read_bytes()[: 44 + 2 * prediction_clips.RATE_HZ])
        path = prediction_clips.write_manifest(tmp_path / "m.jsonl", [{"id": "a", **row}])
        assert predict_manifest(path, tmp_path / "out", settings, HERE).finished == 1
        assert caplog.text.count(f"{wav} is cut short") == 1
        assert "3.00 s of sound, the last 2.00 s are missing" in caplog.text


class TestResuming:
    def test_stopped_and_gone_on(self, settings, manifest, tmp_path):
        steps = []
        stopped = predict_manifest(
            manifest, tmp_path, settings, HERE, should_stop=lambda: len(steps) == 1,
            step=steps.append,
        )  # fmt: skip
        assert stopped.stopped and stopped.finished == 1
        assert {item_id for item_id, *_ in told(tmp_path)} == {"clip"}
        again = predict_manifest(manifest, tmp_path, settings, HERE, step=steps.append)
        assert not again.stopped and (again.finished, again.now) == (3, 2)
        assert [one.index for one in steps] == [0, 1, 2, 3]
        nothing = predict_manifest(manifest, tmp_path, settings, HERE, step=steps.append)
        assert nothing.now == 0 and len(steps) == 4 and len(nothing.set_aside) == 1

    def test_an_item_that_was_mended(self, settings, tmp_path):
        row = prediction_clips.write_clip(tmp_path, 0, 1, SIZE)
        wav = tmp_path / row["audio"]
        saved = wav.read_bytes()
        wav.write_bytes(b"RIFF")
        path = prediction_clips.write_manifest(tmp_path / "m.jsonl", [{"id": "a", **row}])
        out = tmp_path / "out"
        assert predict_manifest(path, out, settings, HERE).finished == 0
        assert not told(out)
        wav.write_bytes(saved)
        assert predict_manifest(path, out, settings, HERE).finished == 0
        again = predict_manifest(path, out, settings, replace(HERE, retry_failed=True))
        assert again.finished == 1 and not again.set_aside and len(told(out)) == 1

    def test_another_model_is_refused(self, settings, manifest, tmp_path):
        predict_manifest(manifest, tmp_path, settings, HERE)
        before = told(tmp_path)
        weights = torch.load(settings.weights, weights_only=True)
        weights["model"]["query_decoder.mask_logits"] += 1
        torch.save(weights, tmp_path / "other.pth")
        for changed, name in [
            (replace(settings, weights=str(tmp_path / "other.pth")), "weights was"),
            (replace(settings, per_second=2.0), "per_second was 1.0, is 2.0"),
            (
                replace(settings, config=settings.config.replace("RGB", "BGR")),
                "FORMAT was RGB, is BGR",
            ),
        ]:
            with pytest.raises(ValueError, match=name):
                predict_manifest(manifest, tmp_path, changed, HERE)
        moved = tmp_path / "moved.pth"
        moved.write_bytes(open(settings.weights, "rb").read())
        same = replace(settings, weights=str(moved), threads=1)
        assert predict_manifest(manifest, tmp_path, same, HERE).now == 0
        assert told(tmp_path) == before


def test_mistakes_in_how_to_execute():
    for options, message in [
        ({"workers": -1}, "at least 0 workers"),
        ({"workers": 0, "ray": "local"}, "at least 1 workers"),
        ({"attempts": 0}, "at least 1 attempt"),
        ({"timeout_seconds": 0.0}, "must be above 0"),
        ({"timeout_seconds": 1.0, "workers": 0}, "without workers"),
    ]:
        with pytest.raises(ValueError, match=message):
            Execution(**options)


def test_settings_survive_json(settings):
    assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings
