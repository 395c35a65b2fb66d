"""Parameter groups, clipping and the learning rate, by hand."""

import copy

import pytest
import tiny_models
import torch
from torch import nn

from transavs.engine import build_lr_scheduler, build_optimizer


class Parts(nn.Module):
    """One parameter of every kind that the groups tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.linear = nn.Linear(2, 2)
        self.backbone.norm = nn.BatchNorm2d(2)
        self.backbone.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.backbone.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
        self.audio_encoder = nn.Module()
        # Not the image backbone.
        self.audio_encoder.backbone = nn.Linear(2, 2)
        self.level = nn.Embedding(3, 2)
        self.norm = nn.LayerNorm(2)
        self.shared = self.level


def settings_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> tuple[float, float]:
    groups = [
        group for group in optimizer.param_groups if any(p is parameter for p in group["params"])
    ]
    assert len(groups) == 1
    return groups[0]["lr"], groups[0]["weight_decay"]


def test_groups_have_the_rates_and_decays_of_the_config():
    cfg = tiny_models.tiny_cfg(
        "SOLVER.BASE_LR", 0.01, "SOLVER.BACKBONE_MULTIPLIER", 0.1, "SOLVER.WEIGHT_DECAY", 0.05,
        "SOLVER.WEIGHT_DECAY_NORM", 0.02, "SOLVER.WEIGHT_DECAY_EMBED", 0.03,
    )  # fmt: skip
    model = Parts()
    optimizer = build_optimizer(cfg, model)
    expected = {
        model.backbone.linear.weight: (0.001, 0.05),
        model.backbone.linear.bias: (0.001, 0.05),
        model.backbone.norm.weight: (0.001, 0.02),
        model.backbone.relative_position_bias_table: (0.001, 0.03),
        model.audio_encoder.backbone.weight: (0.01, 0.05),
        model.level.weight: (0.01, 0.03),
        model.norm.bias: (0.01, 0.02),
    }
    for parameter, settings in expected.items():
        assert settings_of(optimizer, parameter) == pytest.approx(settings)
    every = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(every) == len({id(p) for p in every}) == len(tiny_models.trainable(model))
    assert isinstance(optimizer, torch.optim.AdamW)


def test_every_trainable_parameter_of_transavs_is_optimized_once():
    model = tiny_models.tiny_model()
    optimizer = build_optimizer(tiny_models.tiny_cfg(), model)
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in tiny_models.trainable(model).values())
    rates = {
        name: settings_of(optimizer, parameter)[0]
        for name, parameter in tiny_models.trainable(model).items()
    }
    assert {rate for name, rate in rates.items() if name.startswith("backbone.")} == {0.0001}
    assert {rate for name, rate in rates.items() if not name.startswith("backbone.")} == {0.001}
    assert settings_of(optimizer, model.query_generator.position.weight)[1] == 0.0


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(tiny_models.tiny_cfg(), nn.Linear(2, 2).requires_grad_(False))


@pytest.mark.parametrize("norm_type", [2.0, 1.0])
def test_full_model_clipping_is_torchs(norm_type):
    cfg = tiny_models.tiny_cfg(
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.01, "SOLVER.CLIP_GRADIENTS.NORM_TYPE", norm_type
    )
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    twin = copy.deepcopy(model)
    optimizer = build_optimizer(cfg, model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        {**group, "params": [twin.get_parameter(names[id(p)]) for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    # The same groups under torch's own optimizer and clipping.
    plain = torch.optim.AdamW(groups, lr=cfg.SOLVER.BASE_LR)
    for _ in range(3):
        data = torch.randn(5, 3)
        for network, stepper in ((model, optimizer), (twin, plain)):
            stepper.zero_grad()
            network(data).square().sum().backward()
        before = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.01, norm_type)
        assert before > 0.01
        optimizer.step()
        plain.step()
        for first, second in zip(model.parameters(), twin.parameters(), strict=True):
            # Sums in another order: the norm may differ in its last digit.
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-7)


def test_small_gradients_are_not_scaled():
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(
        tiny_models.tiny_cfg("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 100.0), model
    )
    model(torch.ones(1, 2)).sum().backward()
    gradient = model.weight.grad.clone()
    optimizer.step()
    assert torch.equal(model.weight.grad, gradient)


@pytest.mark.parametrize("kind", ["value", "norm"])
def test_other_kinds_of_clipping_are_detectron2s(kind):
    cfg = tiny_models.tiny_cfg(
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.01
    )
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(cfg, model)
    model(torch.full((1, 2), 5.0)).sum().backward()
    optimizer.step()
    if kind == "value":
        assert model.weight.grad.abs().max() == pytest.approx(0.01)
    else:
        assert model.weight.grad.norm() == pytest.approx(0.01)


def test_clipping_can_be_off():
    cfg = tiny_models.tiny_cfg("SOLVER.CLIP_GRADIENTS.ENABLED", False)
    assert type(build_optimizer(cfg, nn.Linear(2, 2))) is torch.optim.AdamW


def rates(cfg, iterations: int) -> list[float]:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(iterations):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_polynomial_schedule_by_hand():
    cfg = tiny_models.tiny_cfg("SOLVER.MAX_ITER", 10)
    # (1 - i / 10) ** 0.9
    expected = [1.0, 0.909533, 0.818052, 0.725413, 0.631440, 0.535887, 0.438427, 0.338355]
    assert rates(cfg, 8) == pytest.approx(expected, abs=1e-4)
    assert rates(cfg, 10) == pytest.approx([(1 - i / 10) ** 0.9 for i in range(10)], abs=1e-9)


def test_polynomial_schedule_with_warm_up():
    cfg = tiny_models.tiny_cfg(
        "SOLVER.MAX_ITER", 10, "SOLVER.WARMUP_ITERS", 4, "SOLVER.WARMUP_FACTOR", 0.5
    )
    found = rates(cfg, 10)
    # Linear from 0.5 at iteration 0 to the schedule's own value at iteration 4.
    top = (1 - 4 / 10) ** 0.9
    warming = [0.5 + (top - 0.5) * i / 4 for i in range(4)]
    assert found[:4] == pytest.approx(warming, abs=1e-9)
    assert found[4:] == pytest.approx([(1 - i / 10) ** 0.9 for i in range(4, 10)], abs=1e-9)


def test_another_power_and_detectron2s_own_schedules():
    assert rates(
        tiny_models.tiny_cfg("SOLVER.MAX_ITER", 4, "SOLVER.POLY_LR_POWER", 2.0), 4
    ) == pytest.approx([1, 0.5625, 0.25, 0.0625])
    steps = tiny_models.tiny_cfg(
        "SOLVER.LR_SCHEDULER_NAME",
        "WarmupMultiStepLR",
        "SOLVER.MAX_ITER",
        4,
        "SOLVER.STEPS",
        "(2,)",
    )
    assert rates(steps, 4) == pytest.approx([1, 1, 0.1, 0.1])
