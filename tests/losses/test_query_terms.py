"""AQDL and AQML (Eq. 9 to 12) against loops, and their gradients where they could vanish."""

import loss_references as reference
import numpy as np
import pytest
import torch

from transavs.losses import AudioQueryDistanceLoss, audio_query_mask_loss


def close_queries(frames: int = 3, queries: int = 6, channels: int = 8) -> torch.Tensor:
    """Queries at squared distances around 1, of length around 1: d_0 = 1 divides the pairs."""
    spread = torch.randn(frames, queries, channels) * (1 / (2 * channels)) ** 0.5
    return spread + torch.randn(frames, 1, channels) * channels**-0.5


def some_confident(frames: int = 3, queries: int = 6) -> torch.Tensor:
    """Memberships with a full, a mixed and an empty set."""
    confident = torch.rand(frames, queries) > 0.4
    confident[0], confident[-1] = True, False
    return confident


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("distance", "epsilon"), [(1.0, 0.1), (0.7, 1e-3), (100.0, 1.0)])
def test_distance_loss_equals_a_loop(normalize, distance, epsilon):
    loss = AudioQueryDistanceLoss(8, distance, epsilon, normalize)
    torch.nn.init.normal_(loss.projection.weight, std=0.4)
    queries, confident = close_queries(), some_confident()
    value = loss(queries, confident)
    expected = reference.query_distance_loss(
        queries.double().numpy(),
        confident.numpy(),
        loss.projection.weight.detach().double().numpy(),
        distance,
        epsilon,
        normalize,
    )
    assert expected > 0
    assert value.item() == pytest.approx(expected, rel=2e-5)


def test_distance_loss_of_two_queries_by_hand():
    # Squared distance 0.25, below d_0 = 1: 1 / (2 + 1) * 1 / (0.25 + 0.75) = 1/3.
    queries = torch.tensor([[[0.0, 0.0], [0.3, 0.4], [0.1, 0.0]]])
    confident = torch.tensor([[True, True, False]])
    loss = AudioQueryDistanceLoss(2, distance=1.0, epsilon=0.75)
    assert loss(queries, confident).item() == pytest.approx(1 / 3, rel=1e-6)


def test_distance_of_close_queries_far_from_the_origin_keeps_its_digits():
    # In single precision |q|^2 + |q'|^2 - 2 q.q' of these would be off by more than 1.
    first = torch.full((256,), 100.0)
    second = first.clone()
    second[0] += 0.25  # x = 1/16
    queries = torch.stack((first, second))[None].requires_grad_()
    loss = AudioQueryDistanceLoss(256)(queries, torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(1 / (1 / 16 + 0.1) / 3, rel=1e-6)
    loss.backward()
    # d/dq_0 of 1 / (x + eps) is -2 (q - q') / (x + eps)^2.
    expected = torch.zeros(256)
    expected[0] = 2 * 0.25 / (1 / 16 + 0.1) ** 2 / 3
    assert torch.allclose(queries.grad[0, 0], expected, rtol=1e-5, atol=1e-5)


def test_distance_loss_gradient_equals_finite_differences():
    loss = AudioQueryDistanceLoss(4, distance=100.0, epsilon=0.5)
    queries, confident = close_queries(2, 4, 4).requires_grad_(), torch.ones(2, 4, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(loss(queries, confident), queries)
    step, projection = 1e-5, np.eye(4)
    base = queries.detach().double().numpy()
    for place in np.ndindex(*base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[place] += sign * step
            ends.append(
                reference.query_distance_loss(moved, confident.numpy(), projection, 100.0, 0.5)
            )
        assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("distance", "epsilon"), [(1.0, 0.1), (0.01, 0.1), (1.0, 1e-4)])
def test_identical_queries_are_pushed_apart(distance, epsilon, normalize):
    loss = AudioQueryDistanceLoss(8, distance, epsilon, normalize)
    queries = torch.randn(1, 1, 8).repeat(1, 3, 1).requires_grad_()
    value = loss(queries, torch.ones(1, 3, dtype=torch.bool))
    value.backward()
    assert torch.isfinite(value) and value > 0
    assert torch.isfinite(queries.grad).all()
    assert (queries.grad.norm(dim=-1) > 0).all(), "identical queries would stay identical"
    # The gradient acts against the displacement: a step along it parts the queries.
    moved = (queries - 1e-2 * queries.grad / queries.grad.norm()).detach()
    apart = torch.cdist(loss.projection(moved), loss.projection(moved))
    assert (apart[0][torch.triu(torch.ones(3, 3), 1) > 0] > 0).all()


def test_displacement_has_the_length_of_the_strongest_push():
    # d/dr of 1 / (r^2 + e) is largest at r^2 = e / 3.
    loss = AudioQueryDistanceLoss(8, distance=1.0, epsilon=0.1)
    steps = loss._steps(torch.zeros(2, 5, 8))
    torch.testing.assert_close(steps.square().sum(-1), torch.full((5,), 0.1 / 3))
    # Where that lies beyond d_0, the pair would no longer count: half of d_0 then.
    steps = AudioQueryDistanceLoss(8, distance=0.02, epsilon=0.1)._steps(torch.zeros(2, 5, 8))
    torch.testing.assert_close(steps.square().sum(-1), torch.full((5,), 0.01))


def test_coincident_pair_counts_as_displaced():
    # x = epsilon / 3 between the two: 1 / 3 * 1 / (4/3 * 0.3) = 1 / 1.2.
    loss = AudioQueryDistanceLoss(4, distance=1.0, epsilon=0.3)
    queries = torch.ones(1, 2, 4)
    assert loss(queries, torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(
        1 / 1.2, rel=1e-5
    )
    # A query that coincides with one outside of S_1 is left alone.
    assert loss(queries, torch.tensor([[True, False]])).item() == 0


@pytest.mark.parametrize(
    ("queries", "confident"),
    [
        (torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)),
        (10 * torch.arange(6.0).view(1, 6, 1).repeat(2, 1, 4), torch.ones(2, 6, dtype=torch.bool)),
    ],
    ids=["nothing above delta", "all far apart"],
)
def test_distance_loss_is_zero_with_a_graph(queries, confident):
    loss = AudioQueryDistanceLoss(4)
    queries = queries.requires_grad_()
    value = loss(queries, confident)
    assert value.item() == 0
    value.backward()
    assert (queries.grad == 0).all()
    assert (loss.projection.weight.grad == 0).all()
    queries.grad = None


def test_distance_loss_refuses_a_zero_epsilon():
    with pytest.raises(ValueError, match="must be positive"):
        AudioQueryDistanceLoss(4, epsilon=0.0)


def test_mask_loss_equals_a_loop_over_pairs():
    logits, confident = 2 * torch.randn(3, 6, 4, 5), some_confident()
    expected = reference.query_mask_loss(logits.double().numpy(), confident.numpy())
    assert expected > 0
    assert audio_query_mask_loss(logits, confident).item() == pytest.approx(expected, rel=1e-5)


def test_mask_loss_of_two_queries_by_hand():
    # m_1 = (0.8, 0.2), m_2 = (0.6, 0.9): Bin = (1, 0) and (1, 1).
    # I = 1/4 (1*0.6 + 0*0.9 + 0.8*1 + 0.2*1) = 0.4; two of them: 0.4 / 3.
    masks = torch.tensor([[[[0.8, 0.2]], [[0.6, 0.9]]]])
    value = audio_query_mask_loss(masks.logit(), torch.ones(1, 2, dtype=torch.bool))
    assert value.item() == pytest.approx(0.4 / 3, rel=1e-6)


def test_mask_loss_gradient_takes_bin_as_constant():
    # d/dm_1 of the pair above is Bin(m_2) / (2HW (n + 1)) = (1, 1) / 12, times m (1 - m).
    masks = torch.tensor([[[[0.8, 0.2]], [[0.6, 0.9]]]])
    logits = masks.logit().requires_grad_()
    audio_query_mask_loss(logits, torch.ones(1, 2, dtype=torch.bool)).backward()
    slope = (masks * (1 - masks) / 12)[0]
    torch.testing.assert_close(logits.grad[0, 0], slope[0])
    # Bin(m_1) = (1, 0) lets the second pixel of m_2 free.
    torch.testing.assert_close(logits.grad[0, 1], slope[1] * torch.tensor([[1.0, 0.0]]))


def test_mask_loss_gradient_equals_finite_differences():
    logits = torch.randn(2, 4, 2, 3)
    # Away from the step of Bin, where the loss is not continuous.
    logits = (logits.sign() * (logits.abs() + 0.1)).requires_grad_()
    confident = torch.tensor([[True, True, True, False], [True, False, True, True]])
    (gradient,) = torch.autograd.grad(audio_query_mask_loss(logits, confident), logits)
    base, step = logits.detach().double().numpy(), 1e-5
    for place in np.ndindex(*base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[place] += sign * step
            ends.append(reference.query_mask_loss(moved, confident.numpy()))
        assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)


def test_mask_loss_is_zero_with_a_graph_when_nothing_is_above_delta():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = audio_query_mask_loss(logits, torch.zeros(2, 3, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()
