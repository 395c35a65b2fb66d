"""The repeated step: numbers that are not finite change nothing, in any precision."""

import math
from contextlib import nullcontext

import pytest
import tiny_models
import torch
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from transavs.engine.nonfinite import NonFiniteWatch, running_statistics
from transavs.engine.optimizer import FullModelClippedAdamW
from transavs.engine.steps import MixedPrecisionSteps, TrainingSteps, _RoundedConvolutionGradients


class Toy(nn.Module):
    """A norm and a linear map; clips named "poison" hold NaN, or make the gradient infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, clips):
        values = torch.cat([clip["audio"] for clip in clips])
        out = self.head(self.norm(values))
        losses = {"loss_a": out.square().mean(), "loss_b": out.abs().mean()}
        if any("steep" in clip for clip in clips):
            # The root has the value 0 and an infinite slope there.
            losses["loss_b"] = losses["loss_b"] + torch.sqrt((out - out).sum().square())
        return losses


def clips_of(step: int, **extra) -> list[dict]:
    generator = torch.Generator().manual_seed(step)
    clips = [
        {"clip_id": f"clip_{step}_{i}", "audio": torch.randn(4, 3, generator=generator)}
        for i in range(2)
    ]
    clips[1].update(extra)
    return clips


def poisoned(step: int) -> list[dict]:
    clips = clips_of(step)
    clips[1]["audio"][0, 0] = math.nan
    return clips


def make_steps(batches, action="skip", limit=3, fused=False, kind=TrainingSteps, **named):
    torch.manual_seed(0)
    model = Toy()
    options = {"fused": True} if fused else {}
    optimizer = FullModelClippedAdamW(
        [{"params": list(model.parameters())}], lr=0.1, max_norm=0.5, norm_type=2.0, **options
    )
    return kind(model, batches, optimizer, NonFiniteWatch(action, limit), 0, len(batches), **named)


def run(steps, first=0, last=None):
    """The log of the iterations: (value, iteration) by name."""
    last = len(steps.data_loader) if last is None else last
    with EventStorage(first) as storage:
        for iteration in range(first, last):
            steps.iter = storage.iter = iteration
            steps.run_step()
        steps.state_dict()
    return {name: history.values() for name, history in storage.histories().items()}


def state(steps) -> dict[str, torch.Tensor]:
    found = {f"model.{name}": value.clone() for name, value in steps.model.state_dict().items()}
    for index, entry in steps.optimizer.state_dict()["state"].items():
        found |= {f"{index}.{name}": value.clone() for name, value in entry.items()}
    return found


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# Numbers that are read at once, and those that a fused optimizer lets wait, as on GPUs.
BOTH = pytest.mark.parametrize("fused", [False, True])


@BOTH
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_step_left_out_might_as_well_not_have_been(fused, fault):
    bad = poisoned(1) if fault == "loss" else clips_of(1, steep=True)
    broken = make_steps([clips_of(0), bad, clips_of(2), clips_of(3)], fused=fused)
    log = run(broken)
    sound = make_steps([clips_of(0), clips_of(2), clips_of(3)], fused=fused)
    expected = run(sound)
    assert_same(state(broken), state(sound))
    losses = [value for value, _ in expected["loss_a"]]
    assert log["loss_a"] == [(value, at) for value, at in zip(losses, (0, 2, 3), strict=True)]
    assert log["nonfinite/skipped_steps"] == [(1, 1)]
    assert broken.state_dict()["nonfinite"] == {
        "skipped": 1, "overflows": 0, "in_a_row": 0
    }  # fmt: skip


@BOTH
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_stopping_leaves_sound_weights(fused, fault):
    bad = poisoned(1) if fault == "loss" else clips_of(1, steep=True)
    broken = make_steps([clips_of(0), bad, clips_of(2)], "stop", fused=fused)
    found = "loss_a nan, loss_b nan" if fault == "loss" else "norm of their gradient is nan"
    with pytest.raises(
        FloatingPointError, match=f"iteration 1: .*{found}; clips clip_1_0, clip_1_1"
    ):
        run(broken)
    sound = make_steps([clips_of(0)], fused=fused)
    run(sound)
    assert_same(state(broken), state(sound))


def test_weights_that_are_not_finite_are_named():
    steps = make_steps([clips_of(0)], "stop")
    with torch.no_grad():
        steps.model.head.bias[1] = math.inf
    with pytest.raises(FloatingPointError, match="1 weights are not finite .*head.bias"):
        run(steps)


@BOTH
def test_too_many_in_a_row_stop_the_training(fused):
    batches = [poisoned(0), clips_of(1), *map(poisoned, range(2, 9))]
    steps = make_steps(batches, limit=6, fused=fused)
    with pytest.raises(FloatingPointError, match="step 7 in a row .*NONFINITE_LIMIT allows 6"):
        run(steps)


def test_the_count_outlives_a_resume():
    batches = [clips_of(0), poisoned(1), poisoned(2), clips_of(3), clips_of(4)]
    whole = make_steps(batches)
    run(whole)
    first = make_steps(batches)
    run(first, last=3)
    saved = {"steps": first.state_dict(), "model": first.model.state_dict()}
    assert saved["steps"]["nonfinite"]["in_a_row"] == 2
    second = make_steps(batches[3:])
    second.model.load_state_dict(saved["model"])
    second.load_state_dict(saved["steps"])
    with EventStorage(3):
        for iteration in (3, 4):
            second.iter = iteration
            second.run_step()
    assert_same(state(second), state(whole))
    assert second.state_dict()["nonfinite"] == whole.state_dict()["nonfinite"]


def half(batches, **named):
    return make_steps(batches, kind=MixedPrecisionSteps, device="cpu", precision="fp16", **named)


@BOTH
def test_overflow_of_half_precision_is_no_fault(fused):
    steps = half([clips_of(0), clips_of(1), clips_of(2)], action="stop", fused=fused)
    # Too large for the gradients of the first step, but not when halved twice.
    steps.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=100)
    before = state(steps)
    log = run(steps, last=1)
    assert_same({k: v for k, v in before.items() if ".head." in k},
                {k: v for k, v in state(steps).items() if ".head." in k})  # fmt: skip
    assert steps.watch.overflows == 1 and steps.watch.skipped == 0
    assert log["amp/skipped_steps"] == [(1, 0)] and log["amp/scale"] == [(2.0**127, 0)]
    assert steps.state_dict()["grad_scaler"]["scale"] == 2.0**126
    assert math.isfinite(log["loss_a"][0][0])


def test_a_collapsed_scale_stops():
    steps = half([clips_of(i, steep=True) for i in range(9)], action="skip")
    steps.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-11)
    with pytest.raises(FloatingPointError, match="overflow at every loss scale.* bf16"):
        run(steps)
    assert steps.watch.overflows == 4 and steps.watch.skipped == 0


def test_half_precision_takes_what_single_does():
    batches = [clips_of(i) for i in range(3)]
    single, mixed = make_steps(batches), half(batches)
    mixed.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    expected, found = run(single), run(mixed)
    for (value, _), (other, _) in zip(expected["loss_a"], found["loss_a"], strict=True):
        assert other == pytest.approx(value, rel=0.02)
    assert found["amp/skipped_steps"][-1] == (0, 2)


@pytest.mark.parametrize("bias", [True, False])
def test_rounded_gradients_of_convolutions_are_those_of_half_precision(bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=bias)
    pixels = torch.randn(2, 4, 9, 9, requires_grad=True)
    leaves = [pixels, *convolution.parameters()]

    def gradients(dtype, mode):
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            loss = convolution(pixels).float().square().sum()
        with mode:
            return torch.autograd.grad(loss, leaves)

    expected = gradients(torch.float16, nullcontext())
    found = gradients(torch.float16, _RoundedConvolutionGradients())
    for value, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, value, rtol=2e-3, atol=2e-3)
    # Other precisions are left as they are.
    for dtype in (torch.bfloat16, torch.float32):
        pairs = zip(gradients(dtype, nullcontext()),
                    gradients(dtype, _RoundedConvolutionGradients()), strict=True)  # fmt: skip
        assert all(torch.equal(*pair) for pair in pairs)


def test_only_norms_that_train_have_statistics():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.LayerNorm(2), nn.BatchNorm1d(2).eval())
    assert len(running_statistics(model)) == 3


class Reads(TorchDispatchMode):
    """Counts the operators that wait for a device to learn a value or a size."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "equal", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name in ("index", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        sizes = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name.startswith(self.WAITING) or boolean or sizes:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [
    (),
    ("MODEL.TRANSAVS.MASKED_ATTENTION", True, "MODEL.TRANSAVS.AUDIO_CONTEXT", "window"),
    ("MODEL.TRANSAVS.AGREEMENT_WEIGHT", 1.0, "MODEL.TRANSAVS.MASK_BCE_WEIGHT", 1.0),
    ("MODEL.PIXEL_DECODER.NAME", "MSDeformAttnPixelDecoder",
     "MODEL.PIXEL_DECODER.ENCODER_LAYERS", 1),
])  # fmt: skip
def test_a_step_waits_for_the_device_once(monkeypatch, options):
    """With the optimizer of GPUs: the matching's costs travel; all else is read a step later."""
    model = tiny_models.tiny_model(*options)
    tiny_models.make_confident(model)
    optimizer = FullModelClippedAdamW(
        [{"params": list(tiny_models.trainable(model).values())}],
        lr=1e-3, max_norm=0.1, norm_type=2.0, fused=True,
    )  # fmt: skip
    clips = [tiny_models.random_clip(), tiny_models.random_clip(masks=3)]
    steps = TrainingSteps(model, [clips, clips], optimizer, NonFiniteWatch("stop", 0))
    # Clips lie on the CPU, and so do their checks.
    monkeypatch.setattr("transavs.modeling.clip_batch.check_clips", lambda clips, training: None)
    for clip in clips:
        del clip["frame_index"]
    transfers, lists = [], []
    to_cpu, to_list = torch.Tensor.cpu, torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: [transfers.append(t.shape), to_cpu(t)][1])
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: [lists.append(t), to_list(t)][1])
    # Not an iteration whose statistics are logged.
    with EventStorage(1) as storage:
        for iteration in (1, 2):
            steps.iter = storage.iter = iteration
            transfers.clear()
            lists.clear()
            with Reads() as reads:
                steps.run_step()
                unread = steps._pending
    layers = len(model.query_decoder.cross_attention) + model.query_decoder.masked_attention
    assert transfers.count(torch.Size([layers, 10, 5, 3])) == 1
    # What else is on the CPU by then: the numbers of the step before, float by float for the log.
    assert [shape for shape in transfers if shape != torch.Size([])] == [(layers, 10, 5, 3)]
    assert len(lists) == 1 and unread is not None
    metrics = len(unread.names)
    assert reads.found == ["_local_scalar_dense"] * metrics, set(reads.found)
