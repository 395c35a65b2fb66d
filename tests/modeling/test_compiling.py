"""torch.compile: which parts are one graph, and that compiled training is training."""

import sys

import pytest
import torch
from tiny_models import random_clip, tiny_cfg, tiny_model

from transavs.engine import Trainer
from transavs.modeling.compiling import compile_parts
from transavs.structures import ClipAudio

pytestmark = pytest.mark.compiles

MASKED = (
    "MODEL.TRANSAVS.MASKED_ATTENTION", "True",
    "MODEL.PIXEL_DECODER.NAME", "MSDeformAttnPixelDecoder",
)  # fmt: skip


def whole(part):
    """Compiles without code generation; an error where the graph would break."""
    torch._dynamo.reset()
    return torch.compile(part, fullgraph=True, backend="eager")


@pytest.mark.parametrize("opts", [(), MASKED], ids=["plain", "masked"])
def test_the_network_has_no_graph_breaks(opts):
    model = tiny_model(*opts)
    audio = ClipAudio.pack([torch.randn(5, 128), torch.randn(4, 128)], [torch.arange(2)] * 2)
    maps = whole(model.backbone)(torch.randn(4, 3, 64, 64))
    queries, position = whole(model.query_generator)(audio.embeddings, audio.clip, audio.second)
    features = whole(model.pixel_decoder)(maps)
    expected = model.query_decoder(queries, position, features, all_layers=True)
    found = whole(model.query_decoder)(queries, position, features, all_layers=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.mask_logits, other.mask_logits)
        torch.testing.assert_close(one.class_logits, other.class_logits)


def test_a_compiled_model_learns_the_same():
    torch._dynamo.reset()
    cfg = tiny_cfg("MODEL.COMPILE", "eager")
    torch.manual_seed(0)
    compiled, plain = Trainer.build_model(cfg).train(), tiny_model()
    assert all(
        bool(part._compiled_call_impl) == (name != "criterion")
        for name, part in compiled.named_children()
    )
    assert list(compiled.state_dict()) == list(plain.state_dict())
    clips = [random_clip(seed=1, frames=2), random_clip(seed=2, frames=2)]
    found, expected = compiled(clips), plain(clips)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    sum(found.values()).backward()
    sum(expected.values()).backward()
    for own, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_an_unknown_backend():
    with pytest.raises(ValueError, match="MODEL.COMPILE must be a backend .* got 'indictor'"):
        compile_parts(torch.nn.Module(), "indictor")


def test_inductor_without_a_compiler_or_headers(monkeypatch, tmp_path):
    part = torch.nn.Sequential(torch.nn.Linear(2, 2))
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    with pytest.raises(ValueError, match="needs a C.. compiler, and .*no-compiler is not there"):
        compile_parts(part)
    assert part[0]._compiled_call_impl is None
    monkeypatch.setenv("CXX", sys.executable)  # any program will do
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(ValueError, match=r"needs the headers of Python, and .*Python.h is not"):
        compile_parts(part)
    (tmp_path / "Python.h").touch()
    compile_parts(part)
    assert part[0]._compiled_call_impl is not None
