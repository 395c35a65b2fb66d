"""What is exported, before it is: the front-end and models as functions of whole batches."""

import pytest
import torch
from detectron2.modeling.backbone import swin
from tiny_models import register_narrow_htsat, tiny_cfg, tiny_model
from torch import nn

from transavs.apps.export.graph import ClipGraph, swin_of_any_batch
from transavs.apps.export.log_mel import GraphLogMel
from transavs.audio.log_mel import clip_log_mel
from transavs.audio.no_audio import NoAudio


@pytest.mark.parametrize("seconds", [1, 3])
@pytest.mark.parametrize("samples", [1, 20_000, 15_360 * 3 + 240, 60_001])
def test_log_mel_of_a_batch(seconds, samples):
    waveforms = torch.randn(2, samples).clamp(-1, 1) * torch.tensor([[1.0], [0.01]])
    found = GraphLogMel()(waveforms, seconds)
    assert found.dtype == torch.float32
    expected = torch.stack([clip_log_mel(waveform, seconds) for waveform in waveforms])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


MODELS = {
    "clip": (),
    "second, RGB, odd size": ("MODEL.TRANSAVS.AUDIO_CONTEXT", "second", "INPUT.FORMAT", "RGB"),
    "classes": (
        "MODEL.TRANSAVS.NUM_CLASSES", "3", "MODEL.TRANSAVS.INFERENCE.RULE", "semantic_sum",
        "MODEL.TRANSAVS.AUDIO_CONTEXT", "window",
    ),
    "TPAVI": ("MODEL.META_ARCHITECTURE", "TPAVI", "MODEL.TPAVI.CHANNELS", "8"),
}  # fmt: skip


@pytest.mark.parametrize("sound", ["waveform", "examples", "embeddings"])
@pytest.mark.parametrize("name", list(MODELS))
@torch.no_grad()
def test_a_graph_answers_as_its_model(name, sound):
    cfg, model = tiny_cfg(*MODELS[name]), tiny_model(*MODELS[name]).eval()
    if name != "TPAVI":
        # Some queries claim to sound, and not all of them.
        model.query_decoder.class_head.weight *= 100
        model.query_decoder.class_head.bias[-1] -= 1
    graph = ClipGraph(cfg, model, sound, (40, 56) if "odd" in name else (64, 32))
    inputs = graph.trial_inputs(2, 3)
    found = dict(zip(graph.output_names, graph(*inputs), strict=True))
    results = model(graph.clips_of(*inputs))
    assert found["scores"].max() > 0.1
    for key in results[0]:
        expected = torch.stack([result[key] for result in results])
        torch.testing.assert_close(found[key], expected, atol=1e-5, rtol=0)


def test_what_has_no_graph_is_refused(monkeypatch):
    options = register_narrow_htsat(monkeypatch)
    cfg, model = tiny_cfg(*options), tiny_model(*options).eval()
    with pytest.raises(ValueError, match="--sound examples or --sound embeddings"):
        ClipGraph(cfg, model, "waveform", (32, 32))
    assert ClipGraph(cfg, model, "embeddings", (32, 32)).sound == "embeddings"
    with pytest.raises(ValueError, match="got Linear"):
        ClipGraph(cfg, nn.Linear(1, 1), "waveform", (32, 32))


class Windows(nn.Module):
    def forward(self, windows):
        return swin.window_reverse(windows, 4, 8, 12)


def test_windows_of_swin_for_any_number_of_pictures():
    theirs = swin.window_reverse
    pictures = torch.export.Dim("pictures")
    with swin_of_any_batch():
        assert swin.window_reverse is not theirs
        program = torch.export.export(
            Windows(), (torch.randn(12, 4, 4, 3),), dynamic_shapes={"windows": {0: 6 * pictures}}
        )
    assert swin.window_reverse is theirs
    for count in (3, 5):
        windows = torch.randn(count * 6, 4, 4, 3)
        assert torch.equal(program.module()(windows), theirs(windows, 4, 8, 12))


class Embeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = NoAudio()

    def forward(self, examples):
        return self.encoder.embed(examples)


def test_any_number_of_sounds_that_nobody_hears():
    program = torch.export.export(
        Embeddings(), (torch.randn(2, 1, 96, 64),),
        dynamic_shapes={"examples": {0: torch.export.Dim("count")}},
    )  # fmt: skip
    for count in (1, 5):
        found = program.module()(torch.randn(count, 1, 96, 64))
        assert torch.equal(found, torch.zeros(count, 1))
