"""The argmax rule (Eq. 14, 15) and the semantic sum against loops over pixels."""

import numpy as np
import pytest
import torch

from transavs.modeling.inference import (
    argmax_classes,
    argmax_masks,
    competing_queries,
    resize_logits,
    semantic_sum_classes,
    semantic_sum_masks,
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


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_argmax_rule_equals_a_loop_over_pixels(classes, threshold):
    class_logits, mask_logits = 2 * torch.randn(6, classes + 1), 3 * torch.randn(6, 5, 7)
    kept = competing_queries(class_logits)
    assert 0 < kept.sum() < 6
    mask, score = argmax_masks(class_logits[kept], mask_logits[kept], threshold)
    expected_mask, expected_score = naive_argmax(class_logits, mask_logits, threshold)
    np.testing.assert_array_equal(mask.numpy(), expected_mask)
    np.testing.assert_allclose(score.numpy(), expected_score, atol=1e-6)
    assert mask.dtype == torch.bool and score.dtype == torch.float32


def test_background_wins_its_pixels():
    # Queries: sounding at 0.8, background at 0.7, and one that is no object.
    probs = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5]])
    masks = torch.tensor([[[0.9, 0.2, 0.55]], [[0.1, 0.9, 0.7]], [[1.0, 1.0, 1.0]]])
    kept = competing_queries(probs.log())
    assert kept.tolist() == [True, True, False]
    mask, score = argmax_masks(probs.log()[kept], masks.logit(1e-6)[kept], 0.5, num_sounding=1)
    # 0.8 m against 0.7 m: 0.72 > 0.07, 0.16 < 0.63, and 0.44 < 0.49.
    assert mask.tolist() == [[True, False, False]]
    torch.testing.assert_close(score, torch.tensor([[0.72, 0.16, 0.44]]))
    mask, score = semantic_sum_masks(probs.log(), masks.logit(1e-6), 0.5, num_sounding=1)
    sums = torch.tensor([[0.72 + 0.02 + 0.3, 0.16 + 0.18 + 0.3, 0.44 + 0.14 + 0.3]])
    torch.testing.assert_close(score, sums.clamp(max=1), atol=1e-5, rtol=0)
    background = torch.tensor([[0.09 + 0.07 + 0.2, 0.02 + 0.63 + 0.2, 0.055 + 0.49 + 0.2]])
    assert torch.equal(mask, sums > background)


def test_no_sounding_query_beside_the_background():
    probs = torch.tensor([[0.1, 0.8, 0.1]])
    mask, score = argmax_masks(probs.log(), torch.ones(1, 2, 2), 0.5, num_sounding=1)
    assert not mask.any() and (score == 0).all()


def test_winner_decides_even_where_another_mask_is_higher():
    # p = 0.9, m = 0.45 scores 0.405 and beats p = 0.6, m = 0.65 (0.39): its mask is below 0.5.
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    masks = torch.tensor([[[0.45]], [[0.65]]])
    mask, score = argmax_masks(probs.log(), masks.logit(), 0.5)
    assert not mask[0, 0] and score[0, 0] == pytest.approx(0.405)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_sounding_query_gives_an_empty_mask(dtype):
    none = torch.zeros(0, 2, dtype=dtype), torch.zeros(0, 3, 4, dtype=dtype)
    for rule in (argmax_masks, semantic_sum_masks):
        mask, score = rule(*none, 0.5)
        assert mask.shape == score.shape == (3, 4)
        assert mask.dtype == torch.bool and not mask.any()
        assert score.dtype == torch.float32 and (score == 0).all()


def test_semantic_sum_equals_a_loop():
    class_logits, mask_logits = torch.randn(5, 3), torch.randn(5, 4, 6)
    mask, score = semantic_sum_masks(class_logits, mask_logits, 0.5)
    probs = softmax(class_logits.double().numpy())
    total = np.zeros((4, 6))
    for query in range(5):
        total += (1 - probs[query, -1]) / (1 + np.exp(-mask_logits[query].double().numpy()))
    np.testing.assert_allclose(score.numpy(), total.clip(max=1), atol=1e-6)
    np.testing.assert_array_equal(mask.numpy(), total > 0.5)


def test_resizing_takes_the_padding_off():
    # A frame of 32 x 48 in a padded one of 64 x 64, at stride 4; columns tell where they are.
    logits = torch.arange(16.0).expand(2, 16, 16)
    resized = resize_logits(logits, (64, 64), (32, 48), (32, 48))
    assert resized.shape == (2, 32, 48)
    # Pixel x lies at (x + 0.5) / 4 - 0.5 in cells of stride 4.
    places = ((torch.arange(48) + 0.5) / 4 - 0.5).clamp(min=0)
    torch.testing.assert_close(resized, places.expand(2, 32, 48))
    assert resize_logits(logits, (64, 64), (32, 48), (20, 30)).shape == (2, 20, 30)
    empty = resize_logits(logits[:0].bfloat16(), (64, 64), (32, 48), (20, 30))
    assert empty.shape == (0, 20, 30) and empty.dtype == torch.float32


@pytest.mark.parametrize("num_sounding", [4, 3])
def test_classes_of_both_rules_equal_loops_over_pixels(num_sounding):
    """Four classes, of which the last may be the background."""
    class_logits, mask_logits = 2 * torch.randn(7, 5), 3 * torch.randn(7, 4, 6)
    probs = softmax(class_logits.double().numpy())[:, :4]
    masks = 1 / (1 + np.exp(-mask_logits.double().numpy()))
    kept = competing_queries(class_logits)
    assert 1 < kept.sum() < 7
    found = argmax_classes(class_logits[kept], mask_logits[kept], num_sounding)
    sums = semantic_sum_classes(class_logits, mask_logits, num_sounding)
    foreground, _ = semantic_sum_masks(class_logits, mask_logits, 0.5, num_sounding)
    for row in range(4):
        for column in range(6):
            best = max(
                (probs[query].max() * masks[query, row, column], int(probs[query].argmax()))
                for query in np.flatnonzero(kept.numpy())
            )[1]
            assert found[row, column] == (best if best < num_sounding else 0)
            scores = [
                sum(probs[query, label] * masks[query, row, column] for query in range(7))
                for label in range(4)
            ]
            assert sums[row, column] == np.argmax(scores[:num_sounding])
            if num_sounding == 3:
                # Mask2Former's semantic map: the argmax over all classes, background included.
                assert bool(foreground[row, column]) == (np.argmax(scores) < 3)


def test_no_competing_query_has_no_class():
    assert argmax_classes(torch.zeros(0, 5), torch.zeros(0, 2, 3), 4).tolist() == [[0] * 3] * 2
