"""TPAVI as a whole: its size, its contract, its gradients, its answers to wrong input."""

import pytest
import tiny_models
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from tiny_models import random_clip, trainable
from torch import nn

from transavs.config import setup_cfg
from transavs.engine import build_optimizer
from transavs.engine.trained_model import predict_clip
from transavs.modeling import TPAVI
from transavs.modeling.tpavi import ResidualUnit

TINY = ("MODEL.META_ARCHITECTURE", "TPAVI", "MODEL.TPAVI.CHANNELS", 8)
AVM = ("MODEL.TPAVI.AVM_WEIGHT", 0.5)


def tiny_tpavi(*opts: object) -> TPAVI:
    """A TPAVI in training mode that hears: the norms of its blocks do not start at zero."""
    model = tiny_models.tiny_model(*TINY, *opts)
    for block in model.decoder.blocks.values():
        nn.init.normal_(block.norm.weight)
    for neck in model.decoder.necks.values():
        for convolution in neck.convolutions:
            nn.init.normal_(convolution.weight, std=0.2)
    return model


def total(losses):
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize(
    ("config", "published"), [("s4_R50", 91.40), ("ms3_R50", 91.40), ("ms3_pvt_v2_b5", 101.32)]
)
def test_number_of_parameters(config, published):
    """The published counts, in millions and without VGGish, with what no step of it uses.

    Those are a second copy of the last two stages of the ResNet, and the first residual unit of the
    coarsest stage, which has nothing to be joined to.
    """
    cfg = setup_cfg(f"tpavi/{config}.yaml", ["MODEL.TIMM.WEIGHTS", ""])
    with torch.device("meta"):
        model = TPAVI(cfg)
        unused: list[nn.Module] = [ResidualUnit(256)]
    if config.endswith("R50"):
        unused += [model.backbone.res4, model.backbone.res5]
    assert not trainable(model.audio_encoder)
    del model.audio_encoder
    assert trainable(model).keys() == dict(model.named_parameters()).keys()
    used = sum(parameter.numel() for parameter in model.parameters())
    extra = sum(parameter.numel() for part in unused for parameter in part.parameters())
    assert round((used + extra) / 1e6, 2) == published
    assert used == {91.40: 68_157_697, 101.32: 100_140_417}[published]


OPTIONS = {
    "ResNet": AVM,
    "ResNet with batch norm": (*AVM, "MODEL.RESNETS.NORM", "BN"),
    "two stages": (*AVM, "MODEL.TPAVI.STAGES", "('res3','res5')"),
    # SimplePixelDecoder, the default, would do without res2.
    "Swin": tiny_models.TINY_SWIN,
    "PVT": ("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "pvt_v2_b0"),
    "trainable audio": (*AVM, "MODEL.AUDIO.FREEZE", False),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_trainable_parameter_gets_a_gradient(name):
    model = tiny_tpavi(*OPTIONS[name])
    losses = model([random_clip(64, 64, masks=2, seed=seed) for seed in range(2)])
    assert all(torch.isfinite(value) for value in losses.values())
    total(losses).backward()
    for parameter_name, parameter in trainable(model).items():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # A bias just before a batch norm cancels out.
        if not parameter_name.endswith("out.bias"):
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_only_norms_of_the_attention_move_at_first():
    """As the norm starts at zero, nothing before it can matter in the first step."""
    model = tiny_models.tiny_model(*TINY)
    total(model([random_clip(64, 64)])).backward()
    for block in model.decoder.blocks.values():
        for name, parameter in block.named_parameters():
            # Several processes wait for all of them, be they zero.
            moves = name.startswith(("norm.", "layer_norm."))
            assert (parameter.grad.abs().sum() > 0) == moves, name


@pytest.mark.parametrize("masks", [0, [0, 1, 0, 2, 0], 9], ids=["none", "some", "many"])
def test_any_number_of_true_masks_gives_a_whole_gradient(masks):
    model = tiny_tpavi(*AVM)
    losses = model([random_clip(64, 64, masks=masks)])
    total(losses).backward()
    for name, parameter in trainable(model).items():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_losses_have_their_names_and_weights():
    clip = random_clip(64, 64)
    assert set(tiny_tpavi()([clip])) == {"loss_mask"}
    half, whole = tiny_tpavi(*AVM)([clip]), tiny_tpavi("MODEL.TPAVI.AVM_WEIGHT", 1.0)([clip])
    assert set(half) == {"loss_mask", "loss_avm"}
    torch.testing.assert_close(2 * half["loss_avm"], whole["loss_avm"])
    assert torch.equal(half["loss_mask"], whole["loss_mask"])
    cut = tiny_tpavi(*AVM, "MODEL.TPAVI.AVM_CUT_MASK", True)([clip])
    assert cut["loss_avm"] != half["loss_avm"]


def test_target_is_the_union_of_what_sounds():
    """However the mapper splits it; the background, a class of its own, does not sound."""
    clip = random_clip(64, 64, masks=2)
    union = [mask.any(0, keepdim=True) for mask in clip["target_masks"]]
    one = {**clip, "target_masks": union, "target_classes": [torch.zeros(1).long()] * 5}
    with_background = {
        **clip,
        "target_masks": [torch.cat([mask, ~mask]) for mask in union],
        "target_classes": [torch.tensor([0, 1])] * 5,
    }
    expected = tiny_tpavi()([one])["loss_mask"]
    for same in (clip, with_background):
        assert torch.equal(tiny_tpavi()([same])["loss_mask"], expected)
    captured = {}
    model = tiny_tpavi()
    model.decoder.register_forward_hook(lambda m, x, output: captured.update(output=output))
    loss = model([one])["loss_mask"]
    logits = captured["output"].mask_logits
    assert logits.shape == (5, 64, 64)
    assert torch.allclose(
        loss, F.binary_cross_entropy_with_logits(logits, torch.cat(union).float())
    )


def test_outputs_keep_their_contract():
    model = tiny_tpavi().eval()
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
        assert torch.equal(masks, scores > 0.5)
    assert set(results[0]) == {"masks", "scores"}
    strict = tiny_tpavi("MODEL.TRANSAVS.INFERENCE.MASK_THRESHOLD", 0.7).eval()(clips)
    assert torch.equal(strict[0]["masks"], results[0]["scores"] > 0.7)


@torch.no_grad()
def test_masks_follow_from_the_logits():
    model = tiny_tpavi().eval()
    captured = {}
    model.decoder.register_forward_hook(lambda m, x, output: captured.update(output=output))
    (result,) = model([random_clip(32, 40, height=24, width=30)])
    logits = captured["output"].mask_logits
    assert logits.shape == (5, 32, 64)
    expected = F.interpolate(logits[:, None, :, :40], (24, 30), mode="bilinear")[:, 0].sigmoid()
    torch.testing.assert_close(result["scores"], expected)


@torch.no_grad()
def test_batch_equals_single_clips():
    model = tiny_tpavi().eval()
    # Of one size they share a batch; of several, none may feel another's padding.
    for sizes in (((32, 32),) * 3, ((32, 32), (64, 48), (40, 32))):
        clips = [
            random_clip(*size, frames=frames, seed=seed)
            for seed, (size, frames) in enumerate(zip(sizes, (5, 2, 1), strict=True))
        ]
        for clip, together in zip(clips, model(clips), strict=True):
            (alone,) = model([clip])
            torch.testing.assert_close(together["scores"], alone["scores"], atol=1e-5, rtol=1e-4)
            assert (together["masks"] != alone["masks"]).float().mean() < 0.01


@torch.no_grad()
def test_sound_of_a_shown_second_reaches_the_whole_clip():
    model = tiny_tpavi().eval()
    index = torch.tensor([0, 2])
    clips = [random_clip(64, 64, frames=2, frame_index=index), random_clip(64, 64, seed=1)]
    plain = model(clips)
    for second, heard in ((2, True), (1, False)):
        other = {**clips[0], "audio": clips[0]["audio"].clone()}
        other["audio"][second] = torch.randn(1, 96, 64)
        changed = model([other, clips[1]])
        moved = (plain[0]["scores"] - changed[0]["scores"]).abs().amax((1, 2)) > 0
        assert moved.tolist() == [heard] * 2, second
        assert torch.equal(plain[1]["scores"], changed[1]["scores"])


@torch.no_grad()
def test_frames_may_come_in_any_order():
    model = tiny_tpavi().eval()
    clip = random_clip(64, 64)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = {**clip, "frames": clip["frames"][order], "frame_index": order}
    every, other = model([clip])[0]["scores"], model([moved])[0]["scores"]
    torch.testing.assert_close(other, every[order], atol=1e-5, rtol=1e-4)
    del clip["frame_index"]
    assert torch.equal(model([clip])[0]["scores"], every)


def test_one_labelled_frame_and_several_sizes_train_together():
    clips = [random_clip(64, 48, frames=1), random_clip(64, 96, frames=3, seed=1)]
    assert all(torch.isfinite(value) for value in tiny_tpavi(*AVM)(clips).values())


def test_padding_is_background():
    """As in TransAVS: a frame in a larger batch is judged on what lies beside it, too."""
    model = tiny_tpavi()
    captured = {}
    model.decoder.register_forward_hook(lambda m, x, output: captured.update(output=output))
    clips = [random_clip(32, 64, frames=2), random_clip(64, 64, frames=1, seed=1)]
    loss = model(clips)["loss_mask"]
    truth = torch.zeros(3, 64, 64)
    for frame in range(2):
        truth[frame, :32] = clips[0]["target_masks"][frame].any(0)
    truth[2] = clips[1]["target_masks"][0].any(0)
    logits = captured["output"].mask_logits
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, truth))


def test_frozen_parts_stay_as_they_are():
    model = tiny_tpavi(
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "mobilenetv3_small_050",
        "MODEL.BACKBONE.FREEZE", True,
    )  # fmt: skip
    frozen = (model.backbone, model.audio_encoder)
    before = [value.clone() for part in frozen for value in part.state_dict().values()]
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for part in frozen for module in part.modules())
        assert model.decoder.training == mode
    total(model([random_clip(64, 64)])).backward()
    assert all(p.grad is None and not p.requires_grad for part in frozen for p in part.parameters())
    after = [value for part in frozen for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def separable_clip(seed: int):
    """Grey noise with a bright square in each frame, which is the true mask."""
    clip = random_clip(64, 64, frames=2, seed=seed)
    clip["frames"] = clip["frames"] // 4
    for frame in range(2):
        top, left = torch.randint(0, 40, (2,), generator=torch.manual_seed(10 * seed + frame))
        mask = torch.zeros(1, 64, 64, dtype=torch.bool)
        mask[:, top : top + 24, left : left + 24] = True
        clip["frames"][frame, :, mask[0]] += 160
        clip["target_masks"][frame] = mask
    return clip


def test_training_on_a_separable_case_lowers_the_loss():
    opts = ("MODEL.RESNETS.NORM", "BN", "SOLVER.BACKBONE_MULTIPLIER", 1.0, *AVM)
    model = tiny_models.tiny_model(*TINY, *opts)
    optimizer = build_optimizer(tiny_models.tiny_cfg(*TINY, *opts, "SOLVER.BASE_LR", 0.01), model)
    clips = [separable_clip(seed) for seed in range(2)]
    history = []
    for _ in range(25):
        losses = model(clips)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    # Knowing the share of foreground alone costs 0.41.
    assert history[-1]["loss_mask"] < 0.2 < 0.6 < history[0]["loss_mask"]
    assert history[-1]["loss_avm"] < history[0]["loss_avm"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_stays_finite(dtype):
    model = tiny_tpavi(*AVM)
    clip = random_clip(64, 64, masks=[2, 0, 1, 1, 0])
    with torch.autocast("cpu", dtype=dtype):
        losses = model([clip])
        result = total(losses)
    result.backward()
    expected = tiny_tpavi(*AVM)([clip])
    for term, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected[term].item(), rel=0.1)
    for name, parameter in trainable(model).items():
        assert torch.isfinite(parameter.grad).all(), name
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        (answer,) = model.eval()([clip])
    assert answer["scores"].dtype == torch.float32 and torch.isfinite(answer["scores"]).all()


def test_clips_may_be_longer_than_the_config_says():
    """Nothing in the network has the length of a clip."""
    (result,) = tiny_tpavi().eval()([random_clip(32, 32, frames=7, seconds=7)])
    assert len(result["masks"]) == 7


def test_backbone_without_all_features_is_told():
    with pytest.raises(ValueError, match="gives res5; for a ResNet set MODEL.RESNETS.OUT_FEATURES"):
        build_model(tiny_models.tiny_cfg(*TINY, "MODEL.RESNETS.OUT_FEATURES", "['res5']"))


def test_has_no_queries_to_ask():
    answer = predict_clip(tiny_tpavi().eval(), random_clip(32, 32))
    assert answer.queries is None and answer.masks.shape == (5, 32, 32)
