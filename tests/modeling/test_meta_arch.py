"""TransAVS as a whole: its contract, its gradients, its answers to wrong input."""

import pytest
import tiny_models
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tiny_models import make_confident, random_clip, tiny_model

from transavs.modeling.inference import resize_logits

CONFIGS = {
    "paper": (),
    "second, FPN": (
        "MODEL.TRANSAVS.AUDIO_CONTEXT", "second", "MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder",
        "MODEL.TRANSAVS.MASK_BCE_WEIGHT", 5.0,
    ),
    "masked attention, deformable": (
        "MODEL.TRANSAVS.MASKED_ATTENTION", True, "MODEL.TRANSAVS.AUDIO_CONTEXT", "window",
        "MODEL.PIXEL_DECODER.NAME", "MSDeformAttnPixelDecoder",
        "MODEL.PIXEL_DECODER.ENCODER_LAYERS", 2,
    ),
    "Swin": tiny_models.TINY_SWIN,
    "Swin, FPN": (*tiny_models.TINY_SWIN, "MODEL.PIXEL_DECODER.NAME", "FPNPixelDecoder"),
    "timm, trainable audio": (
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "mobilenetv3_small_050",
        "MODEL.AUDIO.FREEZE", False,
    ),
    "one layer, last alone": (
        "MODEL.TRANSAVS.DECODER_LAYERS", 1, "MODEL.TRANSAVS.DEEP_SUPERVISION", False,
        "MODEL.TRANSAVS.QUERY_POSITION", "none", "MODEL.TRANSAVS.QUERY_ENCODER_LAYERS", 0,
    ),
    "classes": ("MODEL.TRANSAVS.NUM_CLASSES", 3),
    "background, agreement": (
        "MODEL.TRANSAVS.BACKGROUND_TARGET", True, "MODEL.TRANSAVS.AGREEMENT_WEIGHT", 1.0,
    ),
}  # fmt: skip


def let_every_term_act(model) -> None:
    with torch.no_grad():
        # A high p(sounding), and a distance below which all queries lie.
        model.query_decoder.class_head.bias.zero_()[:1] = 3.0
        model.criterion.distance_loss.distance = 1e4
        for name, parameter in model.named_parameters():
            # Starts at zero, where positions have no effect yet.
            if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
                parameter.normal_(std=0.1)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_trainable_parameter_gets_a_gradient(name):
    model = tiny_model(*CONFIGS[name])
    let_every_term_act(model)
    losses = model([random_clip(64, 64, masks=2, seed=seed) for seed in range(2)])
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["loss_aqdl"] > 0 and losses["loss_aqml"] > 0
    torch.stack(list(losses.values())).sum().backward()
    for parameter_name, parameter in tiny_models.trainable(model).items():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("masks", [0, [0, 1, 0, 2, 0], 9], ids=["none", "some", "G > Q"])
def test_any_number_of_true_masks_gives_a_whole_gradient(masks):
    """Several processes wait for every parameter's gradient, whatever their frames hold."""
    model = tiny_model()
    losses = model([random_clip(masks=masks)])
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in tiny_models.trainable(model).items():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_loss_names_follow_the_layers():
    supervised = {"loss_class", "loss_dice"}
    last = supervised | {"loss_aqdl", "loss_aqml"}
    others = {f"{name}_{layer}" for name in supervised for layer in range(2)}
    assert set(tiny_model()([random_clip()])) == last | others
    assert set(tiny_model("MODEL.TRANSAVS.DEEP_SUPERVISION", False)([random_clip()])) == last
    masked = tiny_model("MODEL.TRANSAVS.MASKED_ATTENTION", True)([random_clip()])
    assert set(masked) == last | others | {f"{name}_2" for name in supervised}
    plain = tiny_model("MODEL.TRANSAVS.AQDL_WEIGHT", 0.0, "MODEL.TRANSAVS.AQML_WEIGHT", 0.0)
    assert set(plain([random_clip()])) == supervised | others


def test_frozen_parts_stay_as_they_are():
    model = tiny_model(
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "mobilenetv3_small_050",
        "MODEL.BACKBONE.FREEZE", True,
    )  # fmt: skip
    frozen = (model.backbone, model.audio_encoder)
    before = [value.clone() for part in frozen for value in part.state_dict().values()]
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for part in frozen for module in part.modules())
        assert model.pixel_decoder.training == mode
    torch.stack(list(model([random_clip()]).values())).sum().backward()
    assert all(p.grad is None and not p.requires_grad for part in frozen for p in part.parameters())
    # Running statistics of batch norm included.
    after = [value for part in frozen for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    fresh = build_model(tiny_models.tiny_cfg("MODEL.BACKBONE.FREEZE", True))
    assert not fresh.backbone.training


def test_outputs_keep_their_contract():
    model = tiny_model().eval()
    make_confident(model)
    clips = [
        random_clip(32, 40, height=50, width=70),
        random_clip(64, 48, frames=2, frame_index=torch.tensor([3, 1]), seed=1),
    ]
    results = model(clips)
    for result, (frames, height, width) in zip(results, [(5, 50, 70), (2, 64, 48)], strict=True):
        masks, scores = result["masks"], result["scores"]
        assert masks.dtype == torch.bool and masks.shape == (frames, height, width)
        assert scores.dtype == torch.float32 and scores.shape == (frames, height, width)
        assert scores.min() >= 0 and scores.max() <= 1
    assert set(results[0]) == {"masks", "scores"}


@pytest.mark.parametrize("rule", ["argmax", "semantic_sum"])
def test_masks_follow_from_the_last_layer(rule):
    """The rules themselves are checked pixel by pixel elsewhere; here, that they are applied."""
    model = tiny_model("MODEL.TRANSAVS.INFERENCE.RULE", rule).eval()
    model.query_decoder.class_head.weight.data.normal_(std=1.0)
    clip = random_clip(32, 40, height=24, width=30)
    with torch.no_grad():
        # About half of the queries shall sound.
        margins = model([clip], with_queries=True)[0]["queries"].class_logits.diff(dim=-1)
        model.query_decoder.class_head.bias[0] += margins.median()
    (result,) = model([clip], with_queries=True)
    output = result["queries"]
    probs = output.class_logits.softmax(-1)
    sounding = 0
    for frame in range(5):
        logits = resize_logits(output.mask_logits[frame][None], (32, 64), (32, 40), (24, 30))[0]
        masks = logits.sigmoid()
        if rule == "semantic_sum":
            score = torch.einsum("q,qhw->hw", 1 - probs[frame, :, -1], masks).clamp(max=1)
            expected = score > 0.5
        else:
            candidates = [q for q in range(5) if probs[frame, q, 0] > probs[frame, q, 1]]
            sounding += len(candidates)
            score, expected = torch.zeros(24, 30), torch.zeros(24, 30, dtype=torch.bool)
            for query in candidates:
                better = probs[frame, query, 0] * masks[query] > score
                score = torch.where(better, probs[frame, query, 0] * masks[query], score)
                expected = torch.where(better, masks[query] > 0.5, expected)
        torch.testing.assert_close(result["scores"][frame], score, atol=1e-6, rtol=1e-5)
        assert torch.equal(result["masks"][frame], expected)
    assert rule == "semantic_sum" or 0 < sounding < 25


def test_sound_reaches_the_masks_of_its_own_second_or_of_the_clip():
    clip = random_clip()
    other = {**clip, "audio": clip["audio"].clone()}
    other["audio"][2] = torch.randn(1, 96, 64)
    for context, changed in (("second", [2]), ("window", [1, 2, 3]), ("clip", [0, 1, 2, 3, 4])):
        model = tiny_model("MODEL.TRANSAVS.AUDIO_CONTEXT", context).eval()
        make_confident(model)
        plain, different = model([clip])[0]["scores"], model([other])[0]["scores"]
        moved = (plain - different).abs().amax((1, 2)) > 0
        assert moved.nonzero()[:, 0].tolist() == changed, context


@pytest.mark.parametrize("name", ["paper", "masked attention, deformable"])
def test_batch_equals_single_clips(name):
    model = tiny_model(*CONFIGS[name]).eval()
    make_confident(model)
    # Of one size they share a batch; of several, none may feel another's padding.
    for sizes in (((32, 32),) * 3, ((32, 32), (64, 48), (40, 32))):
        clips = [random_clip(*size, seed=seed) for seed, size in enumerate(sizes)]
        for clip, together in zip(clips, model(clips), strict=True):
            (alone,) = model([clip])
            torch.testing.assert_close(together["scores"], alone["scores"], atol=1e-5, rtol=1e-4)
            assert (together["masks"] != alone["masks"]).float().mean() < 0.01


def test_clips_of_different_sizes_train_together():
    losses = tiny_model()([random_clip(32, 48), random_clip(64, 32, frames=1, seed=1)])
    assert all(torch.isfinite(value) for value in losses.values())


def test_order_of_the_frames_is_that_of_frame_index():
    model = tiny_model("MODEL.TRANSAVS.AUDIO_CONTEXT", "second").eval()
    make_confident(model)
    clip = random_clip()
    order = torch.tensor([3, 0, 4])
    some = {**clip, "frames": clip["frames"][order], "frame_index": order}
    every, part = model([clip])[0]["scores"], model([some])[0]["scores"]
    torch.testing.assert_close(part, every[order], atol=1e-5, rtol=1e-4)
    # Without an index, frame t shows second t.
    del clip["frame_index"]
    assert torch.equal(model([clip])[0]["scores"], every)


def test_network_that_has_diverged_has_no_finite_loss():
    """An error here would let the other processes wait: the trainer sees it by the losses."""
    model = tiny_model()
    with torch.no_grad():
        model.query_decoder.class_head.weight.fill_(float("nan"))
    losses = model([random_clip()])
    assert losses and all(value.isnan() for value in losses.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["paper", "masked attention, deformable", "Swin, FPN"])
def test_mixed_precision_stays_finite(name, dtype):
    model = tiny_model(*CONFIGS[name])
    let_every_term_act(model)
    clip = random_clip(64, 64, masks=[2, 0, 1, 1, 0])
    with torch.autocast("cpu", dtype=dtype):
        losses = model([clip])
        total = torch.stack(list(losses.values())).sum()
    total.backward()
    plain = tiny_model(*CONFIGS[name])
    let_every_term_act(plain)
    expected = plain([clip])
    for term, value in losses.items():
        assert value.dtype == torch.float32 and torch.isfinite(value), term
        if not term.startswith(("loss_aq", "loss_dice_", "loss_class_")):
            assert value.item() == pytest.approx(expected[term].item(), rel=0.1, abs=0.1)
    for parameter_name, parameter in tiny_models.trainable(model).items():
        assert torch.isfinite(parameter.grad).all(), parameter_name
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        (result,) = model.eval()([clip])
    assert result["scores"].dtype == torch.float32 and torch.isfinite(result["scores"]).all()


def test_thresholds_follow_the_iteration_of_the_trainer():
    model = tiny_model("SOLVER.MAX_ITER", 100, "MODEL.TRANSAVS.THRESHOLD_PERIOD", 10)
    with EventStorage(60) as storage:
        model([random_clip()])
        logged = storage.latest()
    assert logged["queries/delta_1"] == (pytest.approx(0.55 + 0.1 * 0.6), 60)
    assert logged["queries/queries_above_delta_1"][0] == 0
    with EventStorage(61) as storage:
        model([random_clip()])
        assert "queries/delta_1" not in storage.latest()


def test_pictures_are_normalised_in_the_order_of_the_config():
    model = tiny_model("MODEL.PIXEL_MEAN", "[1.0,2.0,3.0]", "MODEL.PIXEL_STD", "[1.0,2.0,4.0]")
    clip = random_clip(40, 32)
    clips = [clip, random_clip(32, 32, frames=1)]
    (batch,) = model.batches(clips)
    images = batch.images
    assert images.shape == (6, 3, 64, 32) and batch.sizes == [(40, 32), (32, 32)]
    for channel, (mean, std) in enumerate([(1, 1), (2, 2), (3, 4)]):
        expected = (clip["frames"][:, channel].float() - mean) / std
        torch.testing.assert_close(images[:5, channel, :40], expected)
    # Padding is the mean colour.
    assert (images[:5, :, 40:] == 0).all() and (images[5, :, 32:] == 0).all()
