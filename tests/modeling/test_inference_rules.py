"""The argmax rule (Eq. 14, 15) and the semantic sum against loops over pixels."""

import numpy as np
import pytest
import torch

from transavs.modeling.inference import (
    RULES,
    argmax_rule,
    is_non_void,
    non_void_queries,
    resize_logits,
    semantic_sum_rule,
)


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def naive_argmax(class_logits, mask_logits, threshold) -> tuple[np.ndarray, np.ndarray]:
    probs = softmax(class_logits.double().numpy())
    masks = 1 / (1 + np.exp(-mask_logits.double().numpy()))
    height, width = masks.shape[1:]
    chosen, scores = np.zeros((height, width), bool), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            winner = None
            for query in range(len(probs)):
                label = probs[query].argmax()
                if label == probs.shape[1] - 1:  # no object: does not compete
                    continue
                score = probs[query, label] * masks[query, row, column]
                if winner is None or score > scores[row, column]:
                    winner, scores[row, column] = query, score
            if winner is not None:
                chosen[row, column] = masks[winner, row, column] > threshold
    return chosen, scores


def one(rule, class_logits, mask_logits, threshold=0.5, num_sounding=None):
    """What a rule says about one frame."""
    count = num_sounding or class_logits.shape[-1] - 1
    found = rule(class_logits[None], mask_logits[None], threshold, count)
    return [None if part is None else part[0] for part in found]


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_argmax_rule_equals_a_loop_over_pixels(classes, threshold):
    class_logits, mask_logits = 2 * torch.randn(6, classes + 1), 3 * torch.randn(6, 5, 7)
    assert 0 < is_non_void(class_logits).sum() < 6
    mask, score, *_ = one(argmax_rule, class_logits, mask_logits, threshold)
    expected_mask, expected_score = naive_argmax(class_logits, mask_logits, threshold)
    np.testing.assert_array_equal(mask.numpy(), expected_mask)
    np.testing.assert_allclose(score.numpy(), expected_score, atol=1e-6)
    assert mask.dtype == torch.bool and score.dtype == torch.float32


def test_background_wins_its_pixels():
    # Queries: sounding at 0.8, background at 0.7, and one that is no object.
    probs = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5]])
    masks = torch.tensor([[[0.9, 0.2, 0.55]], [[0.1, 0.9, 0.7]], [[1.0, 1.0, 1.0]]])
    assert is_non_void(probs.log()).tolist() == [True, True, False]
    mask, score, _, winners = one(argmax_rule, probs.log(), masks.logit(1e-6), num_sounding=1)
    # 0.8 m against 0.7 m: 0.72 > 0.07, 0.16 < 0.63, and 0.44 < 0.49.
    assert mask.tolist() == [[True, False, False]] and winners.tolist() == [[0, 1, 1]]
    torch.testing.assert_close(score, torch.tensor([[0.72, 0.16, 0.44]]))
    mask, score, *_ = one(semantic_sum_rule, probs.log(), masks.logit(1e-6), num_sounding=1)
    sums = torch.tensor([[0.72 + 0.02 + 0.3, 0.16 + 0.18 + 0.3, 0.44 + 0.14 + 0.3]])
    torch.testing.assert_close(score, sums.clamp(max=1), atol=1e-5, rtol=0)
    background = torch.tensor([[0.09 + 0.07 + 0.2, 0.02 + 0.63 + 0.2, 0.055 + 0.49 + 0.2]])
    assert torch.equal(mask, sums > background)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probs", [[0.1, 0.8, 0.1], [0.3, 0.2, 0.5]], ids=["background", "void"])
def test_no_sounding_query_gives_an_empty_mask(probs, dtype):
    class_logits = torch.tensor([probs]).log().to(dtype)
    mask, score, *_ = one(argmax_rule, class_logits, torch.ones(1, 2, 2, dtype=dtype), 0.5, 1)
    assert mask.dtype == torch.bool and not mask.any()
    assert score.dtype == torch.float32 and (score == 0).all()


def test_winner_decides_even_where_another_mask_is_higher():
    # p = 0.9, m = 0.45 scores 0.405 and beats p = 0.6, m = 0.65 (0.39): its mask is below 0.5.
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    mask, score, *_ = one(argmax_rule, probs.log(), torch.tensor([[[0.45]], [[0.65]]]).logit())
    assert not mask[0, 0] and score[0, 0] == pytest.approx(0.405)


def test_semantic_sum_equals_a_loop():
    class_logits, mask_logits = torch.randn(5, 3), torch.randn(5, 4, 6)
    mask, score, *_ = one(semantic_sum_rule, class_logits, mask_logits)
    probs = softmax(class_logits.double().numpy())
    total = np.zeros((4, 6))
    for query in range(5):
        total += (1 - probs[query, -1]) / (1 + np.exp(-mask_logits[query].double().numpy()))
    np.testing.assert_allclose(score.numpy(), total.clip(max=1), atol=1e-6)
    np.testing.assert_array_equal(mask.numpy(), total > 0.5)


@pytest.mark.parametrize("num_sounding", [3, 2], ids=["all sound", "a background"])
def test_a_batch_is_its_frames_and_void_queries_do_not_matter(num_sounding):
    class_logits, mask_logits = torch.randn(4, 6, 4), 3 * torch.randn(4, 6, 8, 8)
    class_logits[1, :, -1] = 9.0  # nothing competes
    class_logits[2, 1:, -1] = 9.0  # one query does
    mask_logits[3, 2] = mask_logits[3, 1]  # a tie
    class_logits[3, 2] = class_logits[3, 1]
    for rule in RULES.values():
        together = rule(class_logits, mask_logits, 0.5, num_sounding)
        assert together.masks.any() and not together.masks.all()
        for frame in range(4):
            alone = one(rule, class_logits[frame], mask_logits[frame], 0.5, num_sounding)
            for found, expected in zip(together[:3], alone[:3], strict=True):
                torch.testing.assert_close(found[frame], expected)
    kept = non_void_queries(class_logits, mask_logits)
    most = int(is_non_void(class_logits).sum(1).max())
    assert kept[0].shape == (4, most, 4) and kept[1].shape == (4, most, 8, 8) and most < 6
    few, every = (
        argmax_rule(*logits, 0.5, num_sounding) for logits in (kept, (class_logits, mask_logits))
    )
    assert torch.equal(few.masks, every.masks) and torch.equal(few.scores, every.scores)
    assert torch.equal(few.classes[few.masks], every.classes[few.masks])
    none = non_void_queries(class_logits[1:2], mask_logits[1:2])
    assert none[0].shape == (1, 1, 4) and not argmax_rule(*none, 0.5, num_sounding).masks.any()


def test_resizing_takes_the_padding_off():
    # A frame of 32 x 48 in a padded one of 64 x 64, at stride 4; columns tell where they are.
    logits = torch.arange(16.0).expand(1, 2, 16, 16)
    resized = resize_logits(logits, (64, 64), (32, 48), (32, 48))
    assert resized.shape == (1, 2, 32, 48)
    # Pixel x lies at (x + 0.5) / 4 - 0.5 in cells of stride 4.
    places = ((torch.arange(48) + 0.5) / 4 - 0.5).clamp(min=0)
    torch.testing.assert_close(resized, places.expand(1, 2, 32, 48))
    smaller = resize_logits(logits.bfloat16(), (64, 64), (32, 48), (20, 30))
    assert smaller.shape == (1, 2, 20, 30) and smaller.dtype == torch.float32


@pytest.mark.parametrize("num_sounding", [4, 3])
def test_classes_of_both_rules_equal_loops_over_pixels(num_sounding):
    """Four classes, of which the last may be the background."""
    class_logits, mask_logits = 2 * torch.randn(7, 5), 3 * torch.randn(7, 4, 6)
    probs = softmax(class_logits.double().numpy())[:, :4]
    masks = 1 / (1 + np.exp(-mask_logits.double().numpy()))
    kept = is_non_void(class_logits)
    assert 1 < kept.sum() < 7
    _, _, found, winners = one(argmax_rule, class_logits, mask_logits, 0.5, num_sounding)
    foreground, _, sums, _ = one(semantic_sum_rule, class_logits, mask_logits, 0.5, num_sounding)
    for row in range(4):
        for column in range(6):
            best = max(
                np.flatnonzero(kept.numpy()),
                key=lambda query: probs[query].max() * masks[query, row, column],
            )
            assert winners[row, column] == best and found[row, column] == probs[best].argmax()
            scores = [
                sum(probs[query, label] * masks[query, row, column] for query in range(7))
                for label in range(4)
            ]
            assert sums[row, column] == np.argmax(scores[:num_sounding])
            if num_sounding == 3:
                # Mask2Former's semantic map: the argmax over all classes, background included.
                assert bool(foreground[row, column]) == (np.argmax(scores) < 3)
