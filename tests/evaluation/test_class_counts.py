"""Scores by class: the worked example of the official AVSS script, float64 references, quirks."""

import numpy as np
import pytest
import torch

from transavs.evaluation import count_classes, mean_over_dataset, mean_over_frames, pool

# Two frames of 2 x 2 pixels and three classes: predicted, then true.
PREDICTED = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [0, 2]]])
TRUE = torch.tensor([[[0, 0], [1, 0]], [[0, 0], [0, 0]]])


def random_maps(frames: int = 7, classes: int = 6, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Predicted and true maps of which the last class never occurs, and one frame is right."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, classes - 1, (frames, 5, 8), generator=generator)
    noise = torch.randint(0, classes - 1, (frames, 5, 8), generator=generator)
    predicted = torch.where(torch.rand((frames, 5, 8), generator=generator) < 0.6, truth, noise)
    predicted[0] = truth[0] = 0
    return predicted, truth


class TestWorkedExample:
    counts = count_classes(PREDICTED, TRUE, 3)

    def test_sums(self):
        np.testing.assert_allclose(self.counts.iou_sum, [2 / 3 + 3 / 4, 1 / 2, 0], atol=1e-12)
        np.testing.assert_allclose(self.counts.f_sum, [1.8251, 0.5652, 0], atol=5e-5)
        assert self.counts.frames.tolist() == [2, 1, 1]
        assert self.counts.true_positives.tolist() == [5, 1, 0]
        assert self.counts.predicted.tolist() == [5, 2, 1]
        assert self.counts.labelled.tolist() == [7, 1, 0]

    def test_official_means(self):
        iou, f = mean_over_frames(self.counts, padded=True, unseen="zero")
        assert (iou / 100, f / 100) == pytest.approx((0.4028, 0.4926), abs=1e-4)
        without_last, _ = mean_over_frames(self.counts, padded=True, unseen="zero", drop=-1)
        assert without_last / 100 == pytest.approx(0.6042, abs=1e-4)
        without_background, _ = mean_over_frames(self.counts, drop=0)
        assert without_background / 100 == pytest.approx(0.25, abs=1e-4)

    def test_padded_frames_lift_the_background_alone(self):
        counts = count_classes(PREDICTED, TRUE, 3, padded_frames=3)
        iou, f = mean_over_frames(counts, padded=True, unseen="zero")
        assert iou == pytest.approx(100 * ((2 / 3 + 3 / 4 + 3) / 5 + 1 / 2 + 0) / 3)
        assert f == pytest.approx(100 * ((counts.f_sum[0] + 3) / 5 + counts.f_sum[1]) / 3)
        assert mean_over_frames(counts) == mean_over_frames(self.counts)
        assert mean_over_dataset(counts) == mean_over_dataset(self.counts)

    def test_over_the_data_set(self):
        iou, f = mean_over_dataset(self.counts)
        assert iou == pytest.approx(100 * (5 / 7 + 1 / 2 + 0) / 3)
        # Precision and recall: 5/5 and 5/7, 1/2 and 1.
        both = [1.3 * p * r / (0.3 * p + r) for p, r in ((1, 5 / 7), (1 / 2, 1))]
        assert f == pytest.approx(100 * sum(both) / 3)


def test_against_a_plain_reference():
    """The official rule in float64, frame by frame and class by class."""
    predicted, truth = random_maps()
    sums = {name: np.zeros(6) for name in ("iou", "f", "count")}
    pixels = np.zeros((3, 6))
    for p, t in zip(predicted.numpy(), truth.numpy(), strict=True):
        for label in range(6):
            hit = float(((p == label) & (t == label)).sum())
            marked, labelled = float((p == label).sum()), float((t == label).sum())
            pixels[:, label] += hit, marked, labelled
            if marked + labelled == 0:
                continue
            sums["count"][label] += 1
            sums["iou"][label] += hit / (marked + labelled - hit + 2.2e-16)
            precision = hit / marked if marked else 0.0
            recall = hit / labelled if labelled else 0.0
            if hit:
                sums["f"][label] += 1.3 * precision * recall / (0.3 * precision + recall)
    counts = count_classes(predicted, truth, 6)
    seen = sums["count"] > 0
    assert seen.tolist() == [True] * 5 + [False]
    for index, name in enumerate(("iou", "f")):
        by_class = np.divide(sums[name], sums["count"], where=seen, out=np.zeros(6))
        assert mean_over_frames(counts)[index] == pytest.approx(100 * by_class[:5].mean())
        assert mean_over_frames(counts, unseen="zero")[index] == pytest.approx(
            100 * by_class.mean()
        )
        assert mean_over_frames(counts, drop=0)[index] == pytest.approx(100 * by_class[1:5].mean())
    hit, marked, labelled = pixels[:, :5]
    iou = hit / (marked + labelled - hit)
    precision, recall = hit / marked, hit / labelled
    f = 1.3 * precision * recall / (0.3 * precision + recall)
    assert mean_over_dataset(counts) == pytest.approx((100 * iou.mean(), 100 * f.mean()))
    assert mean_over_dataset(counts, unseen="zero")[0] == pytest.approx(100 * iou.sum() / 6)


def test_pooled_clips_are_one_data_set():
    predicted, truth = random_maps()
    whole = count_classes(predicted, truth, 6, padded_frames=4)
    parts = [
        count_classes(predicted[:3], truth[:3], 6, padded_frames=1),
        count_classes(predicted[3:3], truth[3:3], 6),
        count_classes(predicted[3:].to(torch.uint8), truth[3:].to(torch.uint8), 6, 3),
    ]
    found = pool(parts)
    for unseen in ("zero", "skip"):
        assert mean_over_frames(found, padded=True, unseen=unseen) == pytest.approx(
            mean_over_frames(whole, padded=True, unseen=unseen)
        )
    assert mean_over_dataset(found) == mean_over_dataset(whole)
    assert found.padded_frames == 4


def test_nothing_is_nan():
    empty = count_classes(PREDICTED[:0], TRUE[:0], 3)
    assert np.isnan(mean_over_frames(empty)).all() and np.isnan(mean_over_dataset(empty)).all()
    assert mean_over_frames(empty, unseen="zero") == (0.0, 0.0)
    background = count_classes(TRUE[1:], TRUE[1:], 3)
    assert np.isnan(mean_over_frames(background, drop=0)).all()
    assert mean_over_frames(background) == pytest.approx((100.0, 100.0))


def test_wrong_input():
    with pytest.raises(ValueError, match=r"one shape \[N, H, W\], got \[2, 2, 2\] and \[1, 2, 2\]"):
        count_classes(PREDICTED, TRUE[:1], 3)
    with pytest.raises(ValueError, match=r"predicted classes in 0..1, got .* 0 to 2.*NUM_CLASSES"):
        count_classes(PREDICTED, TRUE, 2)
    with pytest.raises(ValueError, match="true classes in 0..2, got values from -1"):
        count_classes(PREDICTED, TRUE - 1, 3)
