"""What is measured is what it says: parts of a step, limits, memory."""

import hashlib
import time

import pytest
import torch
from tiny_models import tiny_cfg, tiny_model

from transavs.audio import embedding_store
from transavs.data import audio_files
from transavs.engine.benchmark import (
    STAGES,
    Clock,
    Point,
    labelled_seconds,
    measure_inference,
    measure_loader,
    measure_memory,
    measure_scaling,
    measure_training,
    random_clips,
    sweep_points,
    training_frames,
)
from transavs.engine.benchmark.clock import median_ratio
from transavs.engine.benchmark.inference import claiming_queries
from transavs.engine.benchmark.memory import mark
from transavs.modeling.inference import competing_queries

CPU = torch.device("cpu")
CLOCK = Clock.choose(CPU, threads=1)


def test_clock_of_one_thread_counts_no_sleep():
    assert CLOCK.processor and not Clock.choose(CPU, threads=2).processor
    start = CLOCK()
    time.sleep(0.5)
    assert CLOCK() - start < 0.4


def test_ratio_is_taken_round_by_round():
    # The machine was slow in the second round, and both took twice as long.
    assert median_ratio([2.0, 4.0, 2.0], [1.0, 2.0, 1.0]) == 2.0


@pytest.mark.parametrize("meta", ["TransAVS", "TPAVI"])
def test_inference_and_training_of_each_meta_architecture(meta):
    options = ("MODEL.META_ARCHITECTURE", meta, "MODEL.TPAVI.CHANNELS", 8)
    cfg, model = tiny_cfg(*options), tiny_model(*options)
    found = measure_inference(
        cfg, model, batch=2, frames=5, size=(64, 64), precision="fp32", clock=CLOCK, repeats=2,
        claiming=3,
    )  # fmt: skip
    assert found["seconds_per_clip"] == found["seconds"] / 2
    assert found["frames_per_second"] == pytest.approx(10 / found["seconds"])
    assert found["seconds"] > 0 and found["limit_seconds"] > 0 and found["memory_bytes"] > 0
    found = measure_training(
        cfg, model, batch=2, size=(64, 64), masks=2, precision="fp32", clock=CLOCK, repeats=2
    )
    assert tuple(found["stages"]) == STAGES and found["frames"] == 1
    assert found["images_per_second"] == pytest.approx(2 / found["seconds"])
    assert all(seconds >= 0 for seconds in found["stages"].values())
    assert found["stages"]["losses"] > 0 and found["stages"]["backward"] > 0
    assert (found["stages"]["matching"] > 0) == (meta == "TransAVS")
    assert 0 < found["loss_share"] < 1
    assert 0 < found["activation_bytes"] < found["memory_bytes"]
    assert "_losses" not in vars(model)  # the wrapping is gone


def test_bfloat16_on_the_cpu():
    cfg, model = tiny_cfg(), tiny_model()
    found = measure_inference(
        cfg, model, batch=1, frames=5, size=(32, 32), precision="bf16", clock=CLOCK, repeats=1,
        claiming=2, memory=False,
    )  # fmt: skip
    assert found["ratio"] > 0 and "memory_bytes" not in found


def test_claiming_queries():
    model = tiny_model().eval()
    clips = random_clips(tiny_cfg(), 1, 5, (32, 32))
    seen = []
    model.query_decoder.register_forward_hook(lambda *call: seen.append(call[-1][-1]))
    with torch.no_grad():
        with claiming_queries(model, 2):
            model(clips)
            claims = competing_queries(seen[0].class_logits)
        model(clips)
    assert claims[:, :2].all() and not claims[:, 2:].any()
    assert not competing_queries(seen[1].class_logits).any()


def test_memory_by_hand():
    def call():
        kept = torch.ones(1000)  # 4 kB
        with mark("span"):
            other = torch.ones(3000)
            del other
        return torch.ones(500), kept

    used = measure_memory(call, CPU)
    assert used.peak == 16000
    assert used.spans["span"] == (4000, 16000)


class TestOnAGPU:
    """What is asked of CUDA; a stand-in answers."""

    @pytest.fixture
    def asked(self, monkeypatch):
        asked = []

        def answer(name, value=None):
            def call(device):
                asked.append(name)
                return value

            monkeypatch.setattr(torch.cuda, name, call)

        answer("synchronize")
        answer("reset_peak_memory_stats")
        answer("memory_allocated", 300)
        answer("max_memory_allocated", 1000)
        return asked

    def test_the_clock_waits_for_it_and_reads_the_wall(self, asked):
        clock = Clock.choose(torch.device("cuda"), threads=1)
        start = clock()
        time.sleep(0.05)
        assert clock() - start >= 0.04 and asked == ["synchronize"] * 2

    def test_memory_is_the_allocators_peak_over_what_was_there(self, asked):
        used = measure_memory(lambda: asked.append("the call"), torch.device("cuda"))
        assert used.peak == 700 and used.spans == {}
        assert asked == [
            "synchronize", "reset_peak_memory_stats", "memory_allocated", "the call",
            "synchronize", "max_memory_allocated",
        ]  # fmt: skip


def test_random_clips_are_clips_of_the_mapper():
    clips = random_clips(tiny_cfg(), 2, 3, (32, 48), masks=4)
    assert len(clips) == 2
    for clip in clips:
        assert clip["frames"].shape == (3, 3, 32, 48) and clip["audio"].shape == (5, 1, 96, 64)
        assert [mask.shape for mask in clip["target_masks"]] == [(4, 32, 48)] * 3
        assert all(mask.flatten(1).any(1).all() for mask in clip["target_masks"])
    assert not torch.equal(clips[0]["frames"], clips[1]["frames"])
    assert "target_masks" not in random_clips(tiny_cfg(), 1, 3, (32, 32))[0]


def test_labelled_seconds_are_facts_of_the_data_set():
    assert labelled_seconds(tiny_cfg()) == (0,)
    assert labelled_seconds(tiny_cfg(config="ms3_R50.yaml")) == (0, 1, 2, 3, 4)
    assert training_frames(tiny_cfg(config="ms3_R50.yaml")) == 5
    assert training_frames(tiny_cfg("INPUT.TRAIN_FRAMES", 2, config="ms3_R50.yaml")) == 2
    assert training_frames(tiny_cfg("INPUT.TRAIN_FRAMES", 2)) == 1  # S4 labels one
    assert labelled_seconds(tiny_cfg("DATASETS.TRAIN", "('mine',)")) == (0, 1, 2, 3, 4)


def test_loader_computes_or_hashes_its_sound_each_time(monkeypatch):
    computed, hashed = [], []
    load, digest = audio_files.load_waveform, hashlib.sha256
    monkeypatch.setattr(
        audio_files, "load_waveform", lambda *call: [computed.append(1), load(*call)][1]
    )
    monkeypatch.setattr(
        embedding_store.hashlib, "sha256", lambda *call: [hashed.append(1), digest(*call)][1]
    )
    found = measure_loader(tiny_cfg(), (64, 64), CLOCK, repeats=3)
    assert set(found) == {
        "train_clip", "test_clip", "decode_frame", "sound", "score_clip",
        "train_clip_cached_sound", "test_clip_cached_sound", "cached_sound", "cached_sound_again",
    }  # fmt: skip
    assert all(seconds > 0 for seconds in found.values())
    # Three parts each, in three rounds and one before. Besides, the sound is read once for the
    # scores, and hashed once for its entry's name.
    assert len(computed) == len(hashed) == 3 * 4 + 1


def test_loader_overrides_what_a_data_set_would_need():
    cfg = tiny_cfg("INPUT.AUDIO_EMBEDDINGS", "no.safetensors", "INPUT.NEGATIVE_AUDIO.SHARE", 1.0)
    assert measure_loader(cfg, (32, 32), CLOCK, repeats=1)["cached_sound"] > 0
    assert cfg.INPUT.AUDIO_EMBEDDINGS == "no.safetensors"


def test_scaling_measures_shared_points_once():
    asked = []

    def measure(point):
        asked.append(point)
        return {"seconds": float(point.queries)}

    centre = Point(queries=300, size=224, frames=5, batch=1)
    points = list(sweep_points(centre, {"queries": (20, 300), "batch": (1, 2)}))
    found = measure_scaling(points, measure)
    assert len(asked) == len(set(asked)) == 3
    assert found == {
        "queries": [{"value": 20, "seconds": 20.0}, {"value": 300, "seconds": 300.0}],
        "batch": [{"value": 1, "seconds": 300.0}, {"value": 2, "seconds": 300.0}],
    }
