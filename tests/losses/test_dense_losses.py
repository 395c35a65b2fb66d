"""The two losses of AVSBench's baseline, against loops and hand-worked values."""

import math

import pytest
import torch

from transavs.losses import audio_visual_matching_loss, frame_bce_loss, union_masks
from transavs.structures import FrameTargets


def pack(masks, classes, size=(2, 2)):
    return FrameTargets.pack(masks, classes, size, torch.device("cpu"))


class TestUnion:
    def test_hand_worked(self):
        """Two objects overlap; the background (class 1) does not sound; a frame has no target."""
        left = torch.tensor([[True, False], [True, False]])
        top = torch.tensor([[True, True], [False, False]])
        masks = [torch.stack([left, top, ~(left | top)]), torch.zeros(0, 2, 2, dtype=torch.bool)]
        classes = [torch.tensor([0, 0, 1]), torch.zeros(0, dtype=torch.int64)]
        union = union_masks(pack(masks, classes), num_sounding=1)
        assert union.tolist() == [[[True, True], [True, False]], [[False, False], [False, False]]]

    def test_no_target_in_the_whole_batch(self):
        empty = [torch.zeros(0, 2, 2, dtype=torch.bool)] * 3
        union = union_masks(pack(empty, [torch.zeros(0, dtype=torch.int64)] * 3), 1)
        assert union.shape == (3, 2, 2) and not union.any()


class TestCrossEntropy:
    def test_mean_over_pixels_and_frames(self):
        logits = torch.randn(3, 4, 5, dtype=torch.float64)
        masks = torch.rand(3, 4, 5) > 0.5
        masks[1] = False
        total = 0.0
        for frame in range(3):
            for row in range(4):
                for column in range(5):
                    p = 1 / (1 + math.exp(-logits[frame, row, column]))
                    total -= math.log(p if masks[frame, row, column] else 1 - p)
        expected = total / 60
        assert frame_bce_loss(logits, masks).item() == pytest.approx(expected, rel=1e-6)

    def test_undecided_costs_log_2(self):
        zeros = torch.zeros(2, 3, 3)
        assert frame_bce_loss(zeros, zeros > 0).item() == pytest.approx(math.log(2))


def matching_reference(logits, audio, visual):
    """AVM-AV in NumPy's manner: pooled mask, mean within it, two softmaxes, KL, sum, mean."""
    stages = []
    for heard, seen in zip(audio, visual, strict=True):
        count, channels, height, width = seen.shape
        step_y, step_x = logits.shape[1] // height, logits.shape[2] // width
        total = 0.0
        for frame in range(count):
            summed, places = torch.zeros(channels, dtype=torch.float64), 0
            for y in range(height):
                for x in range(width):
                    rows = slice(y * step_y, (y + 1) * step_y)
                    columns = slice(x * step_x, (x + 1) * step_x)
                    if logits[frame, rows, columns].double().sigmoid().mean() > 0.5:
                        summed, places = summed + seen[frame, :, y, x].double(), places + 1
            mean = summed / max(places, 1)
            a, v = heard[frame].double().exp(), mean.exp()
            a, v = a / a.sum(), v / v.sum()
            total += float((a * (a / v).log()).sum())
        stages.append(total)
    return sum(stages) / len(stages)


class TestMatching:
    def make(self, frames=3, channels=4):
        logits = torch.randn(frames, 8, 12)
        audio = [torch.randn(frames, channels) for _ in range(2)]
        visual = [torch.randn(frames, channels, *size) for size in ((4, 6), (2, 3))]
        return logits, audio, visual

    def test_loops(self):
        logits, audio, visual = self.make()
        found = audio_visual_matching_loss(logits, audio, visual)
        assert found.item() == pytest.approx(matching_reference(logits, audio, visual), rel=1e-5)

    def test_summed_over_frames(self):
        logits, audio, visual = self.make()
        alone = [
            audio_visual_matching_loss(
                logits[n : n + 1], [a[n : n + 1] for a in audio], [v[n : n + 1] for v in visual]
            )
            for n in range(3)
        ]
        together = audio_visual_matching_loss(logits, audio, visual)
        torch.testing.assert_close(together, torch.stack(alone).sum())

    def test_equal_features_agree(self):
        heard = torch.randn(2, 4)
        seen = heard[:, :, None, None].expand(-1, -1, 2, 3)
        loss = audio_visual_matching_loss(torch.ones(2, 4, 6), [heard], [seen])
        assert loss.item() == pytest.approx(0, abs=1e-6)

    def test_nothing_marked_is_a_uniform_picture(self):
        """KL(a || uniform) = log C - H(a): with a = (3/4, 1/4), log 2 - 0.5623."""
        heard = torch.tensor([[math.log(3.0), 0.0]])
        loss = audio_visual_matching_loss(
            torch.full((1, 4, 4), -5.0), [heard], [torch.randn(1, 2, 2, 2)]
        )
        entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
        assert loss.item() == pytest.approx(math.log(2) - entropy, rel=1e-5)

    def test_no_gradient_moves_the_mask(self):
        logits, audio, visual = self.make()
        for tensor in (logits, *audio, *visual):
            tensor.requires_grad_()
        audio_visual_matching_loss(logits, audio, visual).backward()
        assert logits.grad is None
        assert all(tensor.grad.abs().sum() > 0 for tensor in (*audio, *visual))
