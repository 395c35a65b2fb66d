"""HungarianMatcher against a search over all assignments."""

from unittest import mock

import loss_references as reference
import numpy as np
import pytest
import torch

from transavs.losses import HungarianMatcher
from transavs.structures import FrameTargets, QueryOutput

CHANNELS = 4


def random_output(frames: int, queries: int, classes: int = 1, size=(4, 6)) -> QueryOutput:
    return QueryOutput(
        torch.randn(frames, queries, CHANNELS),
        2 * torch.randn(frames, queries, classes + 1),
        3 * torch.randn(frames, queries, *size),
    )


def random_targets(counts: list[int], classes: int = 1, size=(16, 24)) -> FrameTargets:
    masks = [torch.rand(count, *size) > 0.6 for count in counts]
    labels = [torch.randint(0, classes, (count,)) for count in counts]
    return FrameTargets.pack(masks, labels, size, torch.device("cpu"))


def pairs_of(match, frame: int) -> set[tuple[int, int]]:
    frames, queries, masks = (index.tolist() for index in match)
    return {(q, g) for f, q, g in zip(frames, queries, masks, strict=True) if f == frame}


@pytest.mark.parametrize("bce", [0.0, 2.0])
@pytest.mark.parametrize("counts", [[1, 2, 3, 0], [3, 5, 0, 1]], ids=["G <= Q", "G > Q"])
def test_matches_are_the_cheapest_of_all_assignments(counts, bce):
    queries = 4
    output, targets = random_output(len(counts), queries, 3), random_targets(counts, 3)
    (match,) = HungarianMatcher(5.0, 5.0, bce)([output], targets)
    layer = reference.Layer(
        output.queries.numpy(),
        output.class_logits.double().numpy(),
        output.mask_logits.double().numpy(),
    )
    weights = reference.Weights(bce=bce)
    for frame, count in enumerate(counts):
        found = pairs_of(match, frame)
        assert len(found) == min(queries, count)
        if not count:
            continue
        masks = list(targets.masks[frame, :count].double().numpy())
        labels = targets.classes[frame, :count].tolist()
        cost = reference.matching_costs(layer, frame, masks, labels, weights)
        best, pairs = reference.best_assignment(cost)
        assert found == set(pairs)
        assert sum(cost[pair] for pair in found) == pytest.approx(best)


def test_costs_equal_a_loop():
    output, targets = random_output(1, 4, 2), random_targets([3], 2)
    masks = list(targets.masks[0].double().numpy())
    layer = reference.Layer(
        output.queries.numpy(),
        output.class_logits.double().numpy(),
        output.mask_logits.double().numpy(),
    )
    expected = reference.matching_costs(
        layer, 0, masks, targets.classes[0].tolist(), reference.Weights(bce=2.0)
    )
    captured = {}

    def keep(cost):
        captured["cost"] = cost.copy()
        return np.arange(3), np.arange(3)

    with mock.patch("transavs.losses.matcher.linear_sum_assignment", keep):
        HungarianMatcher(5.0, 5.0, 2.0)([output], targets)
    np.testing.assert_allclose(captured["cost"], expected, rtol=1e-5, atol=1e-5)


def test_batch_gives_the_pairs_of_its_items_alone():
    counts = [2, 0, 1, 3]
    output, targets = random_output(4, 5), random_targets(counts)
    matcher = HungarianMatcher(5.0, 5.0)
    (together,) = matcher([output], targets)
    for frame, count in enumerate(counts):
        rows = slice(frame, frame + 1)
        alone = QueryOutput(
            output.queries[rows], output.class_logits[rows], output.mask_logits[rows]
        )
        single = FrameTargets(targets.masks[rows, :count], targets.classes[rows, :count], [count])
        (match,) = matcher([alone], single)
        assert pairs_of(match, 0) == pairs_of(together, frame)


def test_order_of_the_queries_does_not_matter():
    output, targets = random_output(1, 5), random_targets([3])
    order = torch.tensor([3, 1, 4, 0, 2])
    shuffled = QueryOutput(
        output.queries[:, order], output.class_logits[:, order], output.mask_logits[:, order]
    )
    matcher = HungarianMatcher(5.0, 5.0)
    plain = pairs_of(matcher([output], targets)[0], 0)
    permuted = pairs_of(matcher([shuffled], targets)[0], 0)
    assert {(int(order[q]), g) for q, g in permuted} == plain


def test_layers_are_matched_each_for_itself():
    outputs, targets = [random_output(2, 4) for _ in range(3)], random_targets([2, 3])
    matcher = HungarianMatcher(5.0, 5.0)
    together = matcher(outputs, targets)
    for output, match in zip(outputs, together, strict=True):
        for found, expected in zip(match, matcher([output], targets)[0], strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("counts", [[0, 0], []])
def test_no_target_at_all_gives_empty_pairs(counts):
    match = HungarianMatcher(5.0, 5.0)([random_output(len(counts), 3)] * 2, random_targets(counts))
    assert len(match) == 2
    assert all(index.shape == (0,) and index.dtype == torch.int64 for m in match for index in m)


def test_costs_travel_in_one_transfer_whatever_the_layers_and_frames(monkeypatch):
    outputs, targets = [random_output(6, 4) for _ in range(9)], random_targets([1, 2, 0, 3, 1, 2])
    transfers = []
    to_cpu = torch.Tensor.cpu

    def counted(tensor):
        transfers.append(tensor.shape)
        return to_cpu(tensor)

    def hidden(tensor, *args):
        raise AssertionError("a value was read one by one")

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    for name in ("item", "tolist", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, hidden)
    HungarianMatcher(5.0, 5.0)(outputs, targets)
    assert transfers == [(9, 6, 4, 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_are_told(value):
    outputs = [random_output(3, 3), random_output(3, 3)]
    targets = random_targets([1, 2, 1])
    matcher = HungarianMatcher(5.0, 5.0, 1.0)
    outputs[1].class_logits[2, 1] = value
    matches = matcher(outputs, targets)
    assert not matcher.finite
    # Still as many pairs as others expect, and those of sound frames are the same.
    expected = HungarianMatcher(5.0, 5.0, 1.0)([outputs[0]], targets)[0]
    assert all(torch.equal(a, b) for a, b in zip(matches[0], expected, strict=True))
    assert len(matches[1][0]) == 4 and set(pairs_of(matches[1], 2)) <= {(0, 0), (1, 0), (2, 0)}
    outputs[1].mask_logits[2, 0] = value
    outputs[1].class_logits[2, 1] = 0.0
    matcher(outputs, targets)
    assert not matcher.finite
    matcher(outputs[:1], targets)
    assert matcher.finite


def test_matching_by_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one must be positive"):
        HungarianMatcher(0.0, 0.0, 0.0)
