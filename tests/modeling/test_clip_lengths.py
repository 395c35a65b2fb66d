"""Clips of 5 and 10 seconds in one batch: nothing is padded, nothing depends on the neighbour."""

import itertools

import pytest
import torch
from tiny_models import random_clip, tiny_model

CONTEXTS = ("clip", "window", "second")
AVSS = ("INPUT.CLIP_SECONDS", 10, "MODEL.TRANSAVS.NUM_CLASSES", 70)


def clips_of_two_lengths() -> list[dict]:
    """A clip of 5 frames, one of 10, and one of 5 seconds of which one frame is labelled."""
    lengths = ((5, 5, [1, 2, 0, 1, 3]), (10, 10, [2] * 9 + [0]), (1, 5, [1]))
    clips = []
    for seed, (frames, seconds, masks) in enumerate(lengths):
        clip = random_clip(64, 32, frames=frames, seconds=seconds, masks=masks, seed=seed)
        clip["target_classes"] = [torch.arange(count) * 7 for count in masks]
        clips.append(clip)
    return clips


def model_for(context: str, *options: object):
    model = tiny_model(*AVSS, "MODEL.TRANSAVS.AUDIO_CONTEXT", context, *options)
    with torch.no_grad():
        # Some queries are sure of a class, others of none.
        model.query_decoder.class_head.weight.mul_(8)
        model.query_decoder.class_head.bias.zero_()
    return model


@pytest.mark.parametrize("context", CONTEXTS)
def test_losses_of_a_batch_are_those_of_its_clips(context):
    """Class and mask terms are means over masks, AQDL and AQML means over frames."""
    # With pairs of confident queries to act on.
    low = ((f"MODEL.TRANSAVS.{name}_THRESHOLD", "[0.05,0.05]") for name in ("AQDL", "AQML"))
    model = model_for(context, *itertools.chain(*low))
    model.criterion.distance_loss.distance = 1e4
    clips = clips_of_two_lengths()
    together = model(clips)
    alone = [model([clip]) for clip in clips]
    masks = [sum(map(len, clip["target_masks"])) for clip in clips]
    frames = [len(clip["frames"]) for clip in clips]
    assert (masks, frames) == ([7, 18, 1], [5, 10, 1])
    for name, value in together.items():
        weights = frames if "loss_aq" in name else masks
        expected = sum(w * losses[name] for w, losses in zip(weights, alone, strict=True))
        torch.testing.assert_close(value, expected / sum(weights), rtol=1e-4, atol=1e-5)
    assert together["loss_aqdl"] > 0 and together["loss_aqml"] > 0


@pytest.mark.parametrize("rule", ["argmax", "semantic_sum"])
def test_answers_do_not_depend_on_the_neighbour(rule):
    model = model_for("clip", "MODEL.TRANSAVS.INFERENCE.RULE", rule).eval()
    model.mask_threshold = 0.3 if rule == "argmax" else 0.05
    clips = clips_of_two_lengths()[:2]
    with torch.no_grad():
        together = model(clips)
        alone = [model([clip])[0] for clip in clips]
    assert [len(answer["masks"]) for answer in together] == [5, 10]
    seen = set()
    for first, second in zip(together, alone, strict=True):
        torch.testing.assert_close(first["scores"], second["scores"], rtol=1e-4, atol=1e-6)
        assert (first["class_maps"] == second["class_maps"]).float().mean() > 0.999
        # The foreground has a class, the background none.
        assert torch.equal(first["class_maps"] > 0, first["masks"])
        seen |= set(first["class_maps"].unique().tolist())
    assert 1 < len(seen) and max(seen) <= 70


def test_a_model_of_one_class_gives_no_class_maps():
    model = tiny_model().eval()
    with torch.no_grad():
        (answer,) = model([random_clip()])
    assert set(answer) == {"masks", "scores"}
