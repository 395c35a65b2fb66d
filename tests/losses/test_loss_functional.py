"""Focal, dice and cross-entropy losses against loops, limits and closed forms."""

import loss_references as reference
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from transavs.losses.functional import (
    dice_loss,
    mask_bce_loss,
    pairwise_dice_loss,
    pairwise_mask_bce_loss,
    resize_masks,
    softmax_focal_loss,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def test_focal_loss_with_gamma_zero_is_weighted_cross_entropy():
    logits = torch.randn(4, 7, 3, requires_grad=True)
    labels = torch.randint(0, 3, (4, 7))
    weights = torch.tensor([1.0, 2.0, 0.1])

    value = softmax_focal_loss(logits, labels, weights, 0.0)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights, reduction="none")

    torch.testing.assert_close(value.flatten(), expected)
    # And so do the gradients.
    (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_focal_loss_over_cross_entropy_is_one_minus_p_to_the_gamma():
    # p = softmax([log 3, 0])_0 = 3/4: gamma 2 scales the cross-entropy by (1/4)^2.
    logits = torch.tensor([[3.0, 1.0]]).log()
    labels, weights = torch.tensor([0]), torch.ones(2)
    ratio = softmax_focal_loss(logits, labels, weights, 2.0) / softmax_focal_loss(
        logits, labels, weights, 0.0
    )
    torch.testing.assert_close(ratio, torch.tensor([1 / 16]))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_equals_a_loop(gamma):
    logits = 3 * torch.randn(5, 4)
    labels = torch.randint(0, 4, (5,))
    weights = torch.tensor([1.0, 0.5, 2.0, 0.1])
    value = softmax_focal_loss(logits, labels, weights, gamma)
    expected = [
        reference.focal(row.tolist(), int(label), weights.tolist(), gamma)
        for row, label in zip(logits.double(), labels, strict=True)
    ]
    torch.testing.assert_close(value.double(), torch.tensor(expected).double(), **TOLERANCE)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_extreme_logits_has_finite_gradients(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [0.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1])
    loss = softmax_focal_loss(logits, labels, torch.ones(2), gamma)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_dice_and_cross_entropy_equal_loops():
    logits = 2 * torch.randn(3, 5, 4)
    masks = (torch.rand(3, 5, 4) > 0.5).float()
    pairs = list(zip(logits.double().numpy(), masks.double().numpy(), strict=True))
    dice = [reference.dice(x, g) for x, g in pairs]
    bce = [reference.binary_cross_entropy(x, g) for x, g in pairs]
    torch.testing.assert_close(
        dice_loss(logits.sigmoid(), masks).double(), torch.tensor(dice).double(), **TOLERANCE
    )
    torch.testing.assert_close(
        mask_bce_loss(logits, masks).double(), torch.tensor(bce).double(), **TOLERANCE
    )


def test_masks_may_be_bool():
    logits = torch.randn(3, 5, 7)
    masks = torch.rand(3, 5, 7) > 0.5
    for loss in (dice_loss, mask_bce_loss):
        assert torch.equal(loss(logits, masks), loss(logits, masks.float()))


def test_dice_at_its_ends():
    # 4 pixels, all true. Certain and right: 1 - 9/9 = 0. Certain and wrong: 1 - 1/5.
    masks = torch.ones(2, 2, 2)
    logits = torch.stack([torch.full((2, 2), 100.0), torch.full((2, 2), -100.0)])
    torch.testing.assert_close(dice_loss(logits.sigmoid(), masks), torch.tensor([0.0, 0.8]))
    # An empty mask that is rightly left empty costs nothing.
    torch.testing.assert_close(
        dice_loss(logits[1:].sigmoid(), torch.zeros(1, 2, 2)), torch.zeros(1)
    )


def test_pairwise_forms_equal_the_plain_ones_for_every_pair():
    logits, masks = 2 * torch.randn(2, 4, 30), torch.rand(2, 3, 30)
    dice, bce = pairwise_dice_loss(logits, masks), pairwise_mask_bce_loss(logits, masks)
    assert dice.shape == bce.shape == (2, 4, 3)
    for frame in range(2):
        for query in range(4):
            for mask in range(3):
                x, g = logits[frame, query][None, None], masks[frame, mask][None, None]
                place = (frame, query, mask)
                torch.testing.assert_close(dice[place], dice_loss(x.sigmoid(), g)[0], **TOLERANCE)
                torch.testing.assert_close(bce[place], mask_bce_loss(x, g)[0], **TOLERANCE)


@pytest.mark.parametrize("size", [(3, 4), (4, 5), (12, 10)])
def test_resize_masks_averages_areas(size):
    masks = torch.rand(2, 3, 12, 10) > 0.5
    resized = resize_masks(masks, size)
    assert resized.shape == (2, 3, *size) and resized.dtype == torch.float32
    expected = np.stack(
        [
            [reference.area_average(mask, *size) for mask in frame]
            for frame in masks.double().numpy()
        ]
    )
    torch.testing.assert_close(resized.double(), torch.from_numpy(expected), **TOLERANCE)


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_resize_masks_of_nothing(shape):
    assert resize_masks(torch.zeros(*shape, 8, 8, dtype=torch.bool), (2, 2)).shape == (*shape, 2, 2)
