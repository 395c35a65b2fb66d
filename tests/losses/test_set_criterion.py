"""SetCriterion against a full recomputation in float64 loops, and at its edges."""

import math

import loss_references as reference
import pytest
import torch

from transavs.apps.benchmark.measure import measure_memory
from transavs.losses import (
    AudioQueryDistanceLoss,
    HungarianMatcher,
    SetCriterion,
    StepwiseThreshold,
)
from transavs.structures import FrameTargets, QueryOutput

CHANNELS, MASK_SIZE, FRAME_SIZE = 6, (4, 5), (16, 20)


def make_criterion(
    weights: reference.Weights, classes: int = 1, deltas=(0.55, 0.65)
) -> SetCriterion:
    distance_loss = AudioQueryDistanceLoss(
        CHANNELS, weights.distance, weights.epsilon, weights.normalize
    )
    torch.nn.init.normal_(distance_loss.projection.weight, std=0.3)
    return SetCriterion(
        classes,
        HungarianMatcher(weights.class_weight, weights.dice, weights.bce),
        distance_loss,
        StepwiseThreshold(deltas[0], deltas[0], 1, 10),
        StepwiseThreshold(deltas[1], deltas[1], 1, 10),
        class_weight=weights.class_weight,
        dice_weight=weights.dice,
        aqdl_weight=weights.aqdl,
        aqml_weight=weights.aqml,
        mask_bce_weight=weights.bce,
        focal_gamma=weights.gamma,
        no_object_weight=weights.no_object,
    )


def random_outputs(layers: int, frames: int, queries: int, classes: int = 1) -> list[QueryOutput]:
    return [
        QueryOutput(
            torch.randn(frames, queries, CHANNELS).requires_grad_(),
            (2 * torch.randn(frames, queries, classes + 1)).requires_grad_(),
            (2 * torch.randn(frames, queries, *MASK_SIZE)).requires_grad_(),
        )
        for _ in range(layers)
    ]


def random_targets(counts: list[int], classes: int = 1) -> FrameTargets:
    return FrameTargets.pack(
        [torch.rand(count, *FRAME_SIZE) > 0.5 for count in counts],
        [torch.randint(0, classes, (count,)) for count in counts],
        FRAME_SIZE,
        torch.device("cpu"),
    )


def expected_losses(
    criterion: SetCriterion,
    outputs: list[QueryOutput],
    targets: FrameTargets,
    weights: reference.Weights,
    deltas=(0.55, 0.65),
) -> dict[str, float]:
    layers = [
        reference.Layer(*(t.detach().double().numpy() for t in vars(output).values()))
        for output in outputs
    ]
    masks = [
        list(frame[:count].double().numpy())
        for frame, count in zip(targets.masks, targets.counts, strict=True)
    ]
    labels = [
        frame[:count].tolist() for frame, count in zip(targets.classes, targets.counts, strict=True)
    ]
    projection = criterion.distance_loss.projection.weight.detach().double().numpy()
    return reference.objective(layers, masks, labels, projection, deltas, weights)


@pytest.mark.parametrize(
    ("classes", "counts", "weights"),
    [
        (1, [1, 1, 1], reference.Weights()),
        (1, [2, 0, 3], reference.Weights(bce=5.0)),
        (1, [0, 0], reference.Weights(bce=5.0)),
        (1, [6, 1], reference.Weights()),
        (3, [2, 1], reference.Weights(gamma=0.0, no_object=1.0, normalize=True)),
        (
            1,
            [1, 2],
            reference.Weights(class_weight=2.0, dice=1.0, aqdl=0.5, aqml=3.0, distance=4.0),
        ),
    ],
    ids=[
        "union",
        "objects with BCE",
        "no mask at all",
        "more masks than queries",
        "classes",
        "weights",
    ],
)
def test_every_term_equals_the_float64_loops(classes, counts, weights):
    criterion = make_criterion(weights, classes)
    outputs, targets = random_outputs(2, len(counts), 5, classes), random_targets(counts, classes)
    losses, _ = criterion(outputs, targets, iteration=0)
    expected = expected_losses(criterion, outputs, targets, weights)
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name], rel=2e-5, abs=1e-6), name


def test_query_terms_follow_the_thresholds_of_the_iteration():
    criterion = make_criterion(reference.Weights())
    criterion.aqdl_threshold = StepwiseThreshold(0.2, 0.8, 10, 100)
    criterion.aqml_threshold = StepwiseThreshold(0.3, 0.4, 10, 100)
    outputs, targets = random_outputs(1, 4, 8), random_targets([1] * 4)
    seen = []
    for iteration in (0, 50, 100):
        losses, statistics = criterion(outputs, targets, iteration)
        deltas = (statistics["delta_1"].item(), statistics["delta_2"].item())
        seen.append(deltas)
        expected = expected_losses(criterion, outputs, targets, reference.Weights(), deltas)
        for name in ("loss_aqdl", "loss_aqml"):
            assert losses[name].item() == pytest.approx(expected[name], rel=2e-5, abs=1e-6)
        above = (outputs[0].class_logits.softmax(-1)[..., 0] > deltas[0]).sum(1).float().mean()
        assert statistics["queries_above_delta_1"] == above
    torch.testing.assert_close(
        torch.tensor(seen), torch.tensor([[0.2, 0.3], [0.5, 0.35], [0.8, 0.4]])
    )


@pytest.mark.parametrize("counts", [[0, 0], [1, 0], [7, 2]])
def test_every_output_gets_a_finite_gradient(counts):
    criterion = make_criterion(reference.Weights(bce=1.0))
    outputs, targets = random_outputs(2, 2, 4), random_targets(counts)
    losses, _ = criterion(outputs, targets, 0)
    sum(losses.values()).backward()
    for layer, output in enumerate(outputs):
        assert torch.isfinite(output.class_logits.grad).all()
        assert torch.isfinite(output.mask_logits.grad).all()
        assert output.class_logits.grad.abs().sum() > 0
        if layer:
            assert torch.isfinite(output.queries.grad).all()


def test_masks_that_are_all_empty_are_learned_as_empty():
    criterion = make_criterion(reference.Weights(bce=1.0))
    outputs = random_outputs(1, 2, 3)
    targets = FrameTargets.pack(
        [torch.zeros(1, *FRAME_SIZE, dtype=torch.bool)] * 2,
        [torch.zeros(1, dtype=torch.int64)] * 2,
        FRAME_SIZE,
        torch.device("cpu"),
    )
    losses, _ = criterion(outputs, targets, 0)
    expected = expected_losses(criterion, outputs, targets, reference.Weights(bce=1.0))
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name], rel=2e-5, abs=1e-6)
    losses["loss_dice"].backward()
    # Descent lowers every logit of the two matched masks.
    matched = outputs[0].mask_logits.grad.flatten(2).abs().sum(2) > 0
    assert matched.sum() == 2
    assert (outputs[0].mask_logits.grad >= 0).all()


@pytest.mark.parametrize("size", [FRAME_SIZE, MASK_SIZE])
def test_dice_is_the_same_with_and_without_cross_entropy(size):
    """Without it the probabilities take the place of the logits, not of the model's output."""
    outputs = random_outputs(1, 2, 1)
    masks = [torch.rand(1, *size) > 0.5 for _ in range(2)]
    classes = [torch.zeros(1, dtype=torch.int64)] * 2
    targets = FrameTargets.pack(masks, classes, size, torch.device("cpu"))
    before = outputs[0].mask_logits.detach().clone()
    found = []
    for bce in (0.0, 1.0):
        losses, _ = make_criterion(reference.Weights(bce=bce))(outputs, targets, 0)
        dice = losses["loss_dice"]
        found.append((dice, *torch.autograd.grad(dice, outputs[0].mask_logits)))
    assert torch.equal(outputs[0].mask_logits, before)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_terms_of_weight_zero_are_left_out():
    criterion = make_criterion(reference.Weights(aqml=0.0))
    criterion.distance_loss = None
    losses, _ = criterion(random_outputs(1, 1, 3), random_targets([1]), 0)
    assert set(losses) == {"loss_class", "loss_dice"}


def test_a_matching_cost_that_is_not_finite_spoils_every_loss_and_gradient():
    """So that every process learns of it: one NaN may leave the losses of matched pairs alone."""
    criterion, targets = make_criterion(reference.Weights()), random_targets([1, 2])
    outputs = random_outputs(2, 2, 4)
    assert all(loss.isfinite() for loss in criterion(outputs, targets, 0)[0].values())
    outputs[0].class_logits.data[1, 0, 0] = math.inf
    losses, _ = criterion(outputs, targets, 0)
    assert all(loss.isnan() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(output.mask_logits.grad.isnan().any() for output in outputs)


def test_half_precision_does_not_overflow():
    """Sums over many pixels exceed float16's 65504; autocast would compute them in it."""
    size = (128, 128)
    criterion = make_criterion(reference.Weights(bce=5.0))
    targets = FrameTargets.pack(
        [torch.ones(1, *size, dtype=torch.bool)], [torch.zeros(1, dtype=torch.int64)], size,
        torch.device("cpu"),
    )  # fmt: skip
    output = QueryOutput(
        torch.randn(1, 3, CHANNELS).half(),
        torch.randn(1, 3, 2).half(),
        (30 + torch.randn(1, 3, *size)).half().requires_grad_(),
    )
    with torch.autocast("cpu", dtype=torch.float16):
        losses, _ = criterion([output], targets, 0)
        empty, _ = criterion(
            [output], FrameTargets(targets.masks[:, :0], targets.classes[:, :0], [0]), 0
        )
    for value in (*losses.values(), *empty.values()):
        assert value.dtype == torch.float32 and torch.isfinite(value)


def test_pixels_of_masks_are_not_kept_for_the_backward_pass() -> None:
    """Each decoder layer has as many; only those of one layer may be held at a time."""
    torch.manual_seed(0)
    criterion = make_criterion(reference.Weights())
    targets = random_targets([8, 8])
    pixels = 16 * FRAME_SIZE[0] * FRAME_SIZE[1] * torch.float32.itemsize

    def peak(layers: int) -> int:
        outputs = random_outputs(layers, frames=2, queries=8)
        kept = []
        use = measure_memory(
            lambda: kept.append(criterion(outputs, targets, 0)), torch.device("cpu")
        )
        return use.peak

    peak(1)  # what happens once
    assert peak(9) - peak(1) < 2 * pixels
