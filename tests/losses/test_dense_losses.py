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


def matching_reference(logits, audio, visual, cut_mask):
    """AVM-AV place by place in float64: pooled logits, weighted mean, two softmaxes, KL."""
    stages = []
    for heard, seen in zip(audio, visual, strict=True):
        _, _, height, width = seen.shape
        step_y, step_x = logits.shape[1] // height, logits.shape[2] // width
        for frame in range(len(seen)):
            summed, inside = 0.0, 0
            for y in range(height):
                for x in range(width):
                    rows = slice(y * step_y, (y + 1) * step_y)
                    columns = slice(x * step_x, (x + 1) * step_x)
                    weight = 1 / (1 + (-logits[frame, rows, columns].mean()).exp())
                    if cut_mask:
                        weight = int(weight > 0.5)
                        inside += weight
                    summed = summed + weight * seen[frame, :, y, x]
            mean = summed / (max(inside, 1) if cut_mask else height * width)
            a, v = heard[frame].exp(), mean.exp()
            a, v = a / a.sum(), v / v.sum()
            stages.append((a * (a / v).log()).sum())
    return sum(stages) / len(audio)


@pytest.mark.parametrize("cut_mask", [False, True], ids=["soft", "cut"])
class TestMatching:
    def make(self, frames=3, channels=4):
        logits = torch.randn(frames, 8, 12)
        audio = [torch.randn(frames, channels) for _ in range(2)]
        visual = [torch.randn(frames, channels, *size) for size in ((4, 6), (2, 3))]
        return logits, audio, visual

    def test_loops(self, cut_mask):
        """The value and all gradients; a cut mask has none."""
        logits, audio, visual = self.make()
        logits[1] -= 9  # cut, nothing is left of this mask
        tensors = [logits, *audio, *visual]
        exact = [tensor.double().requires_grad_() for tensor in tensors]
        expected = matching_reference(exact[0], exact[1:3], exact[3:], cut_mask)
        expected.backward()
        for tensor in tensors:
            tensor.requires_grad_()
        found = audio_visual_matching_loss(logits, audio, visual, cut_mask)
        found.backward()
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        assert (logits.grad is None) == cut_mask
        for tensor, reference in zip(tensors, exact, strict=True):
            if tensor is not logits or not cut_mask:
                assert reference.grad.abs().sum() > 0
                torch.testing.assert_close(
                    tensor.grad.double(), reference.grad, atol=1e-6, rtol=1e-4
                )

    def test_hand_worked(self, cut_mask):
        """Logits of -1 at 2 x 2 places, v = (4, 0) at each, a = (2, 0).

        The softmax of (s, 0) is (p(s), 1 - p(s)), p being the logistic function. A soft mask makes
        v = (4 p(-1), 0) = (1.0758, 0). The gradient of the KL to s is p(s) - p(2) = -0.1351, and
        all logits together move s by 4 p(-1) p(1) = 0.7864. A cut mask is empty, and v = (0, 0).
        """
        logits = torch.full((1, 2, 2), -1.0, requires_grad=True)
        seen = torch.tensor([4.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2).clone().requires_grad_()
        loss = audio_visual_matching_loss(logits, [torch.tensor([[2.0, 0.0]])], [seen], cut_mask)
        loss.backward()
        if cut_mask:
            assert loss.item() == pytest.approx(0.3278, abs=5e-5) and logits.grad is None
        else:
            assert loss.item() == pytest.approx(0.0563, abs=5e-5)
            assert logits.grad.sum().item() == pytest.approx(-0.1351 * 0.7864, abs=5e-5)

    def test_summed_over_frames(self, cut_mask):
        logits, audio, visual = self.make()
        alone = [
            audio_visual_matching_loss(
                logits[n : n + 1],
                [a[n : n + 1] for a in audio],
                [v[n : n + 1] for v in visual],
                cut_mask,
            )
            for n in range(3)
        ]
        together = audio_visual_matching_loss(logits, audio, visual, cut_mask)
        torch.testing.assert_close(together, torch.stack(alone).sum())

    def test_equal_features_agree(self, cut_mask):
        """Where the mask is sure of every place."""
        heard = torch.randn(2, 4)
        seen = heard[:, :, None, None].expand(-1, -1, 2, 3)
        loss = audio_visual_matching_loss(torch.full((2, 4, 6), 30.0), [heard], [seen], cut_mask)
        assert loss.item() == pytest.approx(0, abs=1e-6)

    def test_nothing_marked_is_a_uniform_picture(self, cut_mask):
        """KL(a || uniform) = log C - H(a): with a = (3/4, 1/4), log 2 - 0.5623."""
        heard = torch.tensor([[math.log(3.0), 0.0]])
        loss = audio_visual_matching_loss(
            torch.full((1, 4, 4), -30.0), [heard], [torch.randn(1, 2, 2, 2)], cut_mask
        )
        entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
        assert loss.item() == pytest.approx(math.log(2) - entropy, rel=1e-5)
