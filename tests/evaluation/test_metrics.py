"""The per-frame metrics: worked examples, a naive float64 loop, and what they refuse."""

import numpy as np
import pytest
import torch

from transavs.evaluation import f_curve, f_thresholds, frame_jaccard


def naive_jaccard(scores: np.ndarray, target: np.ndarray, threshold: float) -> float:
    """The benchmark's rule for one frame, pixel by pixel in float64."""
    intersection = union = background_agreed = 0.0
    for score, truth in zip(scores.ravel(), target.ravel(), strict=True):
        predicted = bool(score > threshold)
        intersection += predicted and truth
        union += predicted or truth
        background_agreed += not predicted and not truth
    if not target.any():
        intersection, union = background_agreed, float(target.size)
    return intersection / (union + 1e-7)


def naive_f_curve(scores: np.ndarray, target: np.ndarray) -> list[float]:
    """The benchmark's rule for one frame: one threshold after the other in float64."""
    curve = []
    for threshold in torch.linspace(0, 1 - 1e-10, 255).numpy():
        predicted = scores >= threshold
        true_positives = float((predicted & target).sum())
        precision = true_positives / (float(predicted.sum()) + 1e-20)
        recall = true_positives / (float(target.sum()) + 1e-20)
        denominator = 0.3 * precision + recall
        curve.append(1.3 * precision * recall / denominator if denominator else 0.0)
    return curve


def random_frames(seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Scores of which a third lie exactly on a threshold; the last ground truth is empty."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(5, 9, 7, generator=generator, dtype=torch.float32)
    on_threshold = f_thresholds()[torch.randint(0, 255, scores.shape, generator=generator)]
    pick = torch.rand(scores.shape, generator=generator) < 1 / 3
    scores = torch.where(pick, on_threshold, scores).to(dtype)
    scores[0, 0, :4] = torch.tensor([0.0, 1.0, 0.5, 1e-8], dtype=dtype)
    targets = torch.rand(5, 9, 7, generator=generator) < 0.3
    targets[3] = True
    targets[4] = False
    return scores, targets


class TestFrameJaccard:
    def test_worked_example(self):
        # Frame 1: intersection 1, union 3. Frame 2 is empty: 3 of 4 background pixels kept.
        logits = torch.tensor([[[2.0, -2.0], [3.0, -1.0]], [[-2.0, -2.0], [4.0, -3.0]]])
        targets = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]]).bool()
        jaccard = frame_jaccard(logits.sigmoid(), targets)
        assert jaccard.dtype == torch.float64
        assert jaccard.tolist() == pytest.approx([1 / 3, 0.75], abs=1e-6)
        assert float(jaccard.mean()) == pytest.approx(0.5417, abs=5e-5)

    def test_limits(self):
        nothing = torch.zeros(1, 4, 6)
        empty = torch.zeros(1, 4, 6, dtype=torch.bool)
        assert float(frame_jaccard(nothing, empty)) == pytest.approx(1.0, abs=1e-7)
        assert float(frame_jaccard(nothing + 1, empty)) == 0.0
        assert float(frame_jaccard(nothing + 1, ~empty)) == pytest.approx(1.0, abs=1e-7)
        assert float(frame_jaccard(nothing, ~empty)) == 0.0

    def test_a_score_on_the_threshold_is_background(self):
        # Logit 0, hence score 0.5 everywhere, scores 0 against a full ground truth.
        target = torch.ones(1, 2, 2, dtype=torch.bool)
        assert float(frame_jaccard(torch.full((1, 2, 2), 0.5), target)) == 0.0
        above = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
        assert float(frame_jaccard(above.expand(1, 2, 2), target)) == pytest.approx(1.0, abs=1e-7)

    def test_one_false_pixel_on_an_empty_frame_costs_its_share(self):
        scores = torch.zeros(1, 4, 5)
        scores[0, 1, 1] = 0.9
        value = float(frame_jaccard(scores, torch.zeros(1, 4, 5, dtype=torch.bool)))
        assert value == pytest.approx(1 - 1 / 20, abs=1e-7)

    @pytest.mark.parametrize("threshold", [0.5, 0.25, 0.0])
    def test_equals_the_naive_loop(self, threshold):
        scores, targets = random_frames(seed=1)
        expected = [
            naive_jaccard(s.numpy(), t.numpy(), threshold)
            for s, t in zip(scores, targets, strict=True)
        ]
        torch.testing.assert_close(
            frame_jaccard(scores, targets, threshold),
            torch.tensor(expected, dtype=torch.float64),
            rtol=0,
            atol=1e-15,
        )

    def test_is_symmetric_for_binary_predictions(self):
        _, first = random_frames(seed=2)
        _, second = random_frames(seed=3)
        first, second = first[:4], second[:4]
        torch.testing.assert_close(
            frame_jaccard(first.float(), second), frame_jaccard(second.float(), first)
        )


class TestFCurve:
    def test_thresholds(self):
        thresholds = f_thresholds()
        assert thresholds.shape == (255,)
        assert thresholds.dtype == torch.float32
        assert float(thresholds[0]) == 0.0
        assert float(thresholds[-1]) == 1.0
        np.testing.assert_allclose(thresholds.double().numpy(), np.arange(255) / 254, atol=6e-8)

    def test_worked_example_of_two_frames(self):
        # A reaches 1 for thresholds in (0.1, 0.3], B in (0.5, 0.9]; together (1 + 0.5652) / 2.
        scores = torch.tensor([[[0.3, 0.3], [0.1, 0.1]], [[0.9, 0.9], [0.5, 0.5]]])
        targets = torch.tensor([[[1, 1], [0, 0]]] * 2).bool()
        curves = f_curve(scores, targets)
        assert curves.amax(dim=1).tolist() == pytest.approx([1.0, 1.0])
        everything = 1.3 * 0.5 / (0.3 * 0.5 + 1)
        assert float(curves.mean(dim=0).max()) == pytest.approx((1 + everything) / 2)
        assert float(curves.mean(dim=0).max()) == pytest.approx(0.7826, abs=5e-5)
        reaches_one = f_thresholds()[curves[0] > 1 - 1e-9]
        assert float(reaches_one.min()) > 0.1
        assert float(reaches_one.max()) <= 0.3 + 1e-7

    def test_worked_example_of_one_frame(self):
        scores = torch.tensor([[[0.9, 0.2], [0.3, 0.1]]])
        targets = torch.tensor([[[1, 1], [0, 0]]]).bool()
        assert float(f_curve(scores, targets).max()) == pytest.approx(0.8125)  # P = 1, R = 0.5

    @pytest.mark.parametrize("share", [0.25, 0.10])
    def test_threshold_zero_marks_everything(self, share):
        targets = torch.zeros(1, 10, 10, dtype=torch.bool)
        targets.view(-1)[: int(100 * share)] = True
        floor = f_curve(torch.zeros(1, 10, 10), targets)
        assert float(floor[0, 0]) == pytest.approx(1.3 * share / (0.3 * share + 1))
        assert float(floor[0, 1:].max()) == 0.0  # nothing predicted: 0 / 0 becomes 0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("seed", [4, 5])
    def test_equals_the_naive_loop(self, seed, dtype):
        scores, targets = random_frames(seed, dtype)
        expected = [
            naive_f_curve(s.numpy(), t.numpy()) for s, t in zip(scores, targets, strict=True)
        ]
        torch.testing.assert_close(
            f_curve(scores, targets),
            torch.tensor(expected, dtype=torch.float64),
            rtol=0,
            atol=1e-12,
        )

    def test_every_score_on_a_threshold_reaches_it(self):
        # Pixel k holds threshold k: threshold k is reached by 255 - k pixels, all of them true.
        scores = f_thresholds().view(1, 15, 17)
        curve = f_curve(scores, torch.ones(1, 15, 17, dtype=torch.bool))[0]
        recall = (255 - torch.arange(255).double()) / 255
        torch.testing.assert_close(curve, 1.3 * recall / (0.3 + recall))

    def test_rows_of_empty_frames_are_zero(self):
        scores, targets = random_frames(seed=6)
        assert float(f_curve(scores, targets)[4].abs().max()) == 0.0

    def test_a_frame_alone_equals_the_frame_in_a_batch(self):
        scores, targets = random_frames(seed=7)
        together = f_curve(scores, targets)
        for index in range(len(scores)):
            alone = f_curve(scores[index : index + 1], targets[index : index + 1])
            assert torch.equal(alone[0], together[index])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_compared_exactly(self, dtype):
        scores, targets = random_frames(seed=8)
        half = scores.to(dtype)
        assert torch.equal(f_curve(half, targets), f_curve(half.float(), targets))
        assert torch.equal(frame_jaccard(half, targets), frame_jaccard(half.float(), targets))

    def test_no_frames_give_no_rows(self):
        nothing = torch.zeros(0, 4, 4)
        assert f_curve(nothing, nothing.bool()).shape == (0, 255)
        assert frame_jaccard(nothing, nothing.bool()).shape == (0,)


@pytest.mark.parametrize("metric", [frame_jaccard, f_curve])
class TestRefusals:
    def test_shapes(self, metric):
        with pytest.raises(ValueError, match=r"one shape \[N, H, W\], got \[4, 4\]"):
            metric(torch.zeros(4, 4), torch.zeros(4, 4).bool())
        with pytest.raises(ValueError, match=r"\[1, 4, 4\] and \[1, 4, 5\]"):
            metric(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5).bool())
        with pytest.raises(ValueError, match="at least one pixel"):
            metric(torch.zeros(1, 0, 4), torch.zeros(1, 0, 4).bool())

    def test_dtypes(self, metric):
        frames = torch.zeros(1, 4, 4)
        with pytest.raises(ValueError, match="floating-point scores"):
            metric(frames.bool(), frames.bool())
        with pytest.raises(ValueError, match="boolean targets"):
            metric(frames, frames)

    @pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
    def test_scores_that_are_no_probabilities(self, metric, value):
        scores = torch.zeros(1, 4, 4)
        scores[0, 1, 2] = value
        with pytest.raises(ValueError, match="apply a sigmoid to logits first"):
            metric(scores, torch.zeros(1, 4, 4).bool())
