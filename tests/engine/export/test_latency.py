"""Latency: every runtime is measured, and compiling leaves the model as it is."""

from tiny_models import tiny_cfg, tiny_model

from transavs.engine.export import ClipGraph, format_latency, latency, measure_latency
from transavs.modeling.compiling import compile_parts

SHALLOW = (
    "MODEL.BACKBONE.NAME", "build_timm_backbone",
    "MODEL.TIMM.NAME", "test_resnet",
    "MODEL.TRANSAVS.DECODER_LAYERS", "1",
)  # fmt: skip


def test_a_compiled_copy_is_measured(monkeypatch):
    def without_a_compiler(model):
        compile_parts(model, "eager")

    monkeypatch.setattr(latency, "compile_parts", without_a_compiler)
    model = tiny_model(*SHALLOW).eval()
    graph = ClipGraph(model, "waveform", "BGR")
    found = measure_latency(tiny_cfg(*SHALLOW), graph, {}, (32, 32), 2, repeats=1)
    assert list(found["runtimes"]) == ["torch", "torch.compile"]
    assert found["runtimes"]["torch.compile"]["seconds"] > 0
    assert all(part._compiled_call_impl is None for part in model.children())
    assert "torch.compile" in format_latency(found)
