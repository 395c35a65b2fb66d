"""A model and its compiled copy do the same work, each graph is made once, breaks are counted."""

import os

import pytest
import torch
from tiny_models import tiny_cfg, tiny_model

from transavs.engine.benchmark import Clock, format_benchmark, measure_compiled

pytestmark = pytest.mark.compiles

CLOCK = Clock.choose(torch.device("cpu"), threads=1)
# Shallow: what is compiled are its operators, one by one.
SHALLOW = (
    "MODEL.BACKBONE.NAME", "build_timm_backbone",
    "MODEL.TIMM.NAME", "test_resnet",
    "MODEL.TRANSAVS.DECODER_LAYERS", "1",
)  # fmt: skip


def measure(model, work, **settings):
    return measure_compiled(
        tiny_cfg(*SHALLOW), model, work, batch=2, frames=3, size=(32, 32), masks=1,
        precision="fp32", clock=CLOCK, repeats=3, claiming=2, backend="eager", **settings,
    )  # fmt: skip


@pytest.mark.parametrize("work", ["inference", "training"])
def test_each_graph_is_made_once(work, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = tiny_model(*SHALLOW)
    found = measure(model, work)
    # Backbone, audio encoder, query generator, pixel decoder and query decoder; in inference
    # perhaps another for the hook by which queries claim to sound, but none for each call.
    assert found["graphs"] in ((5, 6) if work == "inference" else (5,))
    assert found["breaks"] == {}
    assert found["frames"] == (3 if work == "inference" else 1) and found["batch"] == 2
    assert min(found["seconds"], found["compiled_seconds"], found["ratio"]) > 0
    assert found["first_seconds"] > found["compiled_seconds"]
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert model.query_decoder._compiled_call_impl is None
    line = format_benchmark({"compiled": [found]}).splitlines()[-1].split()
    assert line[0] == f"{work}," and line[-2:] == [str(found["graphs"]), "0"]


def test_breaks_are_counted():
    model = tiny_model(*SHALLOW)
    model.pixel_decoder.register_forward_hook(lambda *_: torch._dynamo.graph_break())
    found = measure(model, "inference")
    assert sum(found["breaks"].values()) == 1
    assert all("\n" not in reason for reason in found["breaks"])
