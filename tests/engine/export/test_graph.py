"""What is exported, before it is: front-end, rules and models as functions of whole batches."""

import pytest
import torch
from tiny_models import register_narrow_htsat, tiny_cfg, tiny_model

from transavs.audio.log_mel import clip_log_mel
from transavs.engine.export import ClipGraph
from transavs.engine.export.check import clips_of
from transavs.engine.export.exporter import trial_inputs
from transavs.engine.export.front_end import GraphLogMel
from transavs.engine.export.rules import RULES
from transavs.modeling.inference import (
    argmax_classes,
    argmax_masks,
    resize_logits,
    semantic_sum_classes,
    semantic_sum_masks,
)

FRAME_BY_FRAME = {
    "argmax": (argmax_masks, argmax_classes),
    "semantic_sum": (semantic_sum_masks, semantic_sum_classes),
}


@pytest.mark.parametrize("seconds", [1, 3])
@pytest.mark.parametrize("samples", [1, 20_000, 15_360 * 3 + 240, 60_001])
def test_log_mel_of_a_batch(seconds, samples):
    waveforms = torch.randn(2, samples).clamp(-1, 1) * torch.tensor([[1.0], [0.01]])
    found = GraphLogMel()(waveforms, seconds)
    assert found.dtype == torch.float32
    expected = torch.stack([clip_log_mel(waveform, seconds) for waveform in waveforms])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("num_sounding", [3, 2], ids=["all sound", "a background"])
def test_rules_of_a_batch(rule, num_sounding):
    class_logits, mask_logits = torch.randn(4, 6, 4), 3 * torch.randn(4, 6, 8, 8)
    class_logits[1, :, -1] = 9.0  # nothing competes
    class_logits[2, 1:, -1] = 9.0  # one query does
    mask_logits[3, 2] = mask_logits[3, 1]  # a tie
    class_logits[3, 2] = class_logits[3, 1]
    padded, crop = (32, 32), (30, 17)
    masks, scores, classes = RULES[rule](class_logits, mask_logits, padded, crop, 0.5, num_sounding)
    mask_rule, class_rule = FRAME_BY_FRAME[rule]
    assert masks.any() and not masks.all()
    for frame in range(4):
        own, logits = class_logits[frame], resize_logits(mask_logits[frame], padded, crop, crop)
        if rule == "argmax":
            kept = own.argmax(-1) != 3
            own, logits = own[kept], logits[kept]
        mask, score = mask_rule(own, logits, 0.5, num_sounding)
        assert torch.equal(masks[frame], mask)
        torch.testing.assert_close(scores[frame], score)
        found = class_rule(own, logits, num_sounding)
        assert torch.equal(classes[frame][mask], found[mask])


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
    graph = ClipGraph(model, sound, cfg.INPUT.FORMAT)
    inputs = trial_inputs(graph, 2, 3, (40, 56) if "odd" in name else (64, 32))
    found = dict(zip(graph.output_names, graph(*inputs), strict=True))
    answers = model(clips_of(cfg, graph, *inputs))
    assert found["scores"].max() > 0.1
    for key in answers[0]:
        expected = torch.stack([answer[key] for answer in answers])
        torch.testing.assert_close(found[key], expected, atol=1e-5, rtol=0)


def test_what_has_no_graph_is_refused(monkeypatch):
    model = tiny_model(*register_narrow_htsat(monkeypatch)).eval()
    with pytest.raises(ValueError, match="examples or embeddings instead"):
        ClipGraph(model, "waveform", "RGB")
    assert ClipGraph(model, "embeddings", "RGB").sound == "embeddings"
    with pytest.raises(ValueError, match="must be one of waveform, examples, embeddings"):
        ClipGraph(model, "mp3", "RGB")
    with pytest.raises(ValueError, match="expected a TransAVS or a TPAVI, got Linear"):
        ClipGraph(torch.nn.Linear(1, 1), "waveform", "RGB")
