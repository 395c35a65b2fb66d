"""The agreement loss against float64 loops, and its gradient's direction."""

import numpy as np
import pytest
import torch

from transavs.losses import AudioVisualAlignmentLoss
from transavs.structures import FrameTargets

CHANNELS, AUDIO = 6, 5


def make_case() -> tuple[AudioVisualAlignmentLoss, torch.Tensor, torch.Tensor, FrameTargets]:
    """Three frames: two sounding masks, a background mask alone, nothing."""
    loss = AudioVisualAlignmentLoss(AUDIO, CHANNELS)
    with torch.no_grad():
        loss.bias.fill_(0.3)
    sounding = torch.zeros(2, 8, 12, dtype=torch.bool)
    sounding[0, :4, :5] = True
    sounding[1, 2:8, 6:] = True
    targets = FrameTargets.pack(
        [sounding, torch.ones(1, 8, 12, dtype=torch.bool), sounding[:0]],
        [torch.tensor([0, 0]), torch.tensor([1]), torch.tensor([], dtype=torch.int64)],
        (8, 12),
        torch.device("cpu"),
    )
    return loss, torch.randn(3, AUDIO), torch.randn(3, CHANNELS, 4, 6), targets


def expected(loss: AudioVisualAlignmentLoss, audio, pixels, targets) -> float:
    def linear(layer, vector):
        return (
            layer.weight.detach().double().numpy() @ vector + layer.bias.detach().double().numpy()
        )

    positive, negative = [], []
    for frame in range(3):
        union = np.zeros((8, 12))
        for mask, label in zip(targets.masks[frame], targets.classes[frame], strict=True):
            if label == 0:
                union = np.maximum(union, mask.double().numpy())
        sound = linear(loss.audio_proj, audio[frame].double().numpy())
        for is_inside, scores in ((True, positive), (False, negative)):
            total, weight = np.zeros(CHANNELS), 0.0
            for row in range(4):
                for column in range(6):
                    share = union[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
                    share = share if is_inside else 1 - share
                    total += share * pixels[frame, :, row, column].double().numpy()
                    weight += share
            if weight == 0:
                continue
            place = linear(loss.pixel_proj, total / weight)
            cosine = sound @ place / np.linalg.norm(sound) / np.linalg.norm(place)
            score = cosine * loss.log_scale.detach().double().exp().item() + 0.3
            scores.append(np.log1p(np.exp(-score if is_inside else score)))
    assert len(positive) == 1 and len(negative) == 3
    return (np.mean(positive) + np.mean(negative)) / 2


def test_against_loops() -> None:
    loss, audio, pixels, targets = make_case()
    value = loss(audio, pixels, targets, num_sounding=1).item()
    assert value == pytest.approx(expected(loss, audio, pixels, targets), rel=2e-6)


def test_without_any_source() -> None:
    loss, audio, pixels, targets = make_case()
    empty = FrameTargets.pack(
        [mask[:0] for mask in targets.masks], [torch.tensor([]).long()] * 3, (8, 12), audio.device
    )
    value = loss(audio, pixels, empty, num_sounding=1)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(loss.audio_proj.weight.grad).all()


def test_training_tells_places_apart() -> None:
    loss, audio, pixels, targets = make_case()
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    first = loss(audio, pixels, targets, 1).item()
    for _ in range(60):
        value = loss(audio, pixels, targets, 1)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < 0.2 * first
