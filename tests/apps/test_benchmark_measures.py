"""What is measured is what it says: multiply-accumulates, stages, baselines, memory, compiling."""

import hashlib
import os
import time

import pytest
import torch
from tiny_models import random_clip, tiny_cfg, tiny_model
from torch import nn

from transavs.apps.benchmark.loader import measure_loader
from transavs.apps.benchmark.measure import (
    Conditions,
    force_foreground,
    mark,
    measure_inference,
    measure_memory,
)
from transavs.apps.benchmark.training import (
    STAGES,
    labelled_seconds,
    measure_compiled,
    measure_training,
    training_frames,
)
from transavs.audio import embedding_store
from transavs.data import audio_files
from transavs.layers import CrossAttentionLayer, FeedForwardLayer
from transavs.layers.deformable_attention import MultiScaleDeformableAttention
from transavs.modeling.cost import count_macs, measure_cost, random_clips
from transavs.modeling.inference import is_non_void
from transavs.utils.timing import choose_timer, median_ratio

CPU = torch.device("cpu")
# Shallow: what is compiled are its operators, one by one.
SHALLOW = (
    "MODEL.BACKBONE.NAME", "build_timm_backbone",
    "MODEL.TIMM.NAME", "test_resnet",
    "MODEL.TRANSAVS.DECODER_LAYERS", "1",
)  # fmt: skip


def conditions(side=64, precision="fp32", repeats=2):
    return Conditions((side, side), precision, choose_timer(CPU, 1), repeats, forced_foreground=2)


class AsModel(nn.Module):
    """A layer under the interface of a model that takes clips."""

    def __init__(self, layer: nn.Module, inputs) -> None:
        super().__init__()
        self.layer = layer
        self.inputs = inputs

    def forward(self, clips):
        # A trace must depend on its input.
        nothing = clips[0]["audio"].sum() * 0
        first, *others = self.inputs
        return [{"scores": self.layer(first + nothing, *others)}]


class Mixture(nn.Module):
    def forward(self, context):  # [Q, T] @ [N, T, C], as in Eq. (1)
        return torch.ones(6, 5) @ context


def layers_by_hand():
    queries, places, channels = 7, 11, 16
    tokens = torch.randn(2, queries, channels), torch.randn(2, places, channels)
    projections = (2 * queries + 2 * places) * channels**2  # query and output, key and value
    products = 2 * queries * places * channels  # Q K^T and its product with V, all heads
    attention = CrossAttentionLayer(channels, num_heads=4)
    positions = torch.zeros(places, channels)
    yield attention, (*tokens, None, positions), 2 * (projections + products)

    yield FeedForwardLayer(8, 32), (torch.randn(3, 5, 8),), 3 * 5 * 8 * 32 * 2
    yield Mixture(), (torch.randn(3, 5, 4),), 3 * 6 * 4 * 5
    # 7x7 convolution of stride 2 from 3 to 8 channels.
    yield tiny_model().backbone.stem, (torch.randn(1, 3, 64, 64),), 32 * 32 * 8 * 3 * 49

    heads, points, shapes = 4, 3, [(4, 6), (2, 3)]
    places = sum(height * width for height, width in shapes)
    samples = places * heads * len(shapes) * points
    memory = torch.randn(2, places, channels)
    # Offsets (2 a sample) and weights, then value and output; a sample has C / heads channels.
    linear = places * channels * (3 * heads * len(shapes) * points) + 2 * places * channels**2
    deformable = MultiScaleDeformableAttention(channels, len(shapes), heads, points)
    inputs = (memory, torch.rand(places, 2), memory, shapes)
    yield deformable, inputs, 2 * (linear + samples * (channels // heads) * 5)


def test_multiply_accumulates_by_hand():
    for layer, inputs, expected in layers_by_hand():
        counted = count_macs(AsModel(layer, inputs), [random_clip()])[""]
        assert counted == expected, layer


def test_size_of_a_model():
    model = tiny_model()
    model.audio_encoder.requires_grad_(False)
    cost = measure_cost(tiny_cfg(), model, 5, (64, 64))
    assert model.training  # as it was
    assert cost.macs == sum(cost.macs_by_part.values())
    parts = {"backbone", "pixel_decoder", "audio_encoder", "query_generator", "query_decoder"}
    assert set(cost.macs_by_part) == parts
    frozen = sum(p.numel() for p in model.audio_encoder.parameters())
    learning = sum(p.numel() for p in model.backbone.parameters())
    assert cost.parameters - cost.learning_parameters == frozen
    assert cost.encoder_baseline_parameters == frozen + learning
    more = measure_cost(tiny_cfg(), tiny_model("MODEL.TRANSAVS.NUM_QUERIES", 10), 5, (64, 64))
    assert more.encoder_baseline_macs == cost.encoder_baseline_macs < cost.macs < more.macs
    assert count_macs(model, random_clips(tiny_cfg(), 2, 5, (64, 64)))[""] == 2 * cost.macs


def test_processor_time_counts_no_sleep():
    timer = choose_timer(CPU, threads=1)
    start = timer()
    time.sleep(0.5)
    assert timer() - start < 0.4


def test_ratio_is_taken_round_by_round():
    # The machine was slow in the second round, and both took twice as long.
    assert median_ratio([2.0, 4.0, 2.0], [1.0, 2.0, 1.0]) == 2.0


@pytest.mark.parametrize("meta", ["TransAVS", "TPAVI"])
def test_inference_and_training_of_each_meta_architecture(meta):
    options = ("MODEL.META_ARCHITECTURE", meta, "MODEL.TPAVI.CHANNELS", 8)
    cfg, model = tiny_cfg(*options), tiny_model(*options)
    found = measure_inference(cfg, model, conditions(), batch=2, frames=5)
    assert found["seconds_per_clip"] == found["seconds"] / 2
    assert found["frames_per_second"] == pytest.approx(10 / found["seconds"])
    assert found["seconds"] > 0 and found["encoder_baseline_seconds"] > 0
    assert found["memory_bytes"] > 0
    found = measure_training(cfg, model, conditions(), masks=2)
    assert (found["batch"], found["frames"], found["masks"]) == (2, 1, 2)
    assert found["images_per_second"] == pytest.approx(2 / found["seconds"])
    seconds = {stage: found[f"{stage}_seconds"] for stage in STAGES}
    assert min(seconds.values()) >= 0 and seconds["losses"] > 0 and seconds["backward"] > 0
    assert (seconds["matching"] > 0) == (meta == "TransAVS")
    assert 0 < found["loss_share"] < 1
    assert 0 < found["activation_bytes"] < found["memory_bytes"]
    assert "losses" not in vars(model)  # the wrapping is gone


def test_bfloat16_on_the_cpu():
    found = measure_inference(
        tiny_cfg(), tiny_model(), conditions(32, "bf16", 1), batch=1, frames=5, memory=False
    )
    assert found["ratio"] > 0 and "memory_bytes" not in found


def test_forced_foreground():
    model = tiny_model().eval()
    clips = random_clips(tiny_cfg(), 1, 5, (32, 32))
    with torch.no_grad():
        with force_foreground(model, 2):
            (forced,) = model(clips, with_queries=True)
        (plain,) = model(clips, with_queries=True)
    foreground = is_non_void(forced["queries"].class_logits)
    assert foreground[:, :2].all() and not foreground[:, 2:].any()
    assert not is_non_void(plain["queries"].class_logits).any()


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

        def answer(module, name, value=None):
            def call(*device):
                asked.append(name)
                return value

            monkeypatch.setattr(module, name, call)

        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        answer(torch.accelerator, "synchronize")
        answer(torch.cuda, "synchronize")
        answer(torch.cuda, "reset_peak_memory_stats")
        answer(torch.cuda, "memory_allocated", 300)
        answer(torch.cuda, "max_memory_allocated", 1000)
        return asked

    def test_the_timer_waits_for_it_and_reads_the_wall(self, asked):
        timer = choose_timer(torch.device("cuda"), threads=1)
        start = timer()
        time.sleep(0.05)
        assert timer() - start >= 0.04 and asked == ["synchronize"] * 2

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
        assert [classes.shape for classes in clip["target_classes"]] == [(4,)] * 3
    assert not torch.equal(clips[0]["frames"], clips[1]["frames"])
    assert "target_masks" not in random_clips(tiny_cfg(), 1, 3, (32, 32))[0]


def test_labelled_seconds_are_facts_of_the_data_set():
    assert labelled_seconds(tiny_cfg()) == (0,)
    assert labelled_seconds(tiny_cfg("DATASETS.TRAIN", "('mine',)")) == (0, 1, 2, 3, 4)
    assert training_frames(tiny_cfg(config="ms3_R50.yaml")) == 5
    assert training_frames(tiny_cfg("INPUT.TRAIN_FRAMES", 2, config="ms3_R50.yaml")) == 2
    assert training_frames(tiny_cfg("INPUT.TRAIN_FRAMES", 2)) == 1  # S4 labels one


def test_loader_computes_or_hashes_its_audio_each_time(monkeypatch):
    computed, hashed = [], []
    load, digest = audio_files.load_waveform, hashlib.sha256
    monkeypatch.setattr(
        audio_files, "load_waveform", lambda *call: [computed.append(1), load(*call)][1]
    )
    monkeypatch.setattr(
        embedding_store.hashlib, "sha256", lambda *call: [hashed.append(1), digest(*call)][1]
    )
    # What a data set would be needed for is left out.
    cfg = tiny_cfg("INPUT.AUDIO_EMBEDDINGS", "no.safetensors", "INPUT.NEGATIVE_AUDIO.SHARE", 1.0)
    found = measure_loader(cfg, conditions(repeats=3))
    assert cfg.INPUT.AUDIO_EMBEDDINGS == "no.safetensors"
    assert len(found) == 9 and all(seconds > 0 for seconds in found.values())
    # Three parts each, in three rounds and one before. Besides, the audio is read once for the
    # scores, and hashed once for its entry's name.
    assert len(computed) == len(hashed) == 3 * 4 + 1


@pytest.mark.compiles
@pytest.mark.parametrize("phase", ["inference", "training"])
def test_each_graph_is_made_once_and_breaks_are_counted(phase, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model, options = tiny_model(*SHALLOW), {"batch": 2, "frames": 3, "masks": 1}
    cfg, how = tiny_cfg(*SHALLOW), conditions(32, repeats=3)
    found = measure_compiled(cfg, model, how, phase, **options, backend="eager")
    # Backbone, audio encoder, query generator, pixel decoder and query decoder.
    assert found["graphs"] == 5
    assert (found["graph_breaks"], found["break_reasons"]) == (0, "")
    assert found["frames"] == (3 if phase == "inference" else 1) and found["batch"] == 2
    assert min(found["seconds"], found["compiled_seconds"], found["ratio"]) > 0
    assert found["first_seconds"] > found["compiled_seconds"]
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert model.query_decoder._compiled_call_impl is None
    if phase == "inference":
        model.pixel_decoder.register_forward_hook(lambda *_: torch._dynamo.graph_break())
        found = measure_compiled(cfg, model, how, phase, **options, backend="eager")
        assert found["graph_breaks"] == 1
        assert found["break_reasons"] and "\n" not in found["break_reasons"]
