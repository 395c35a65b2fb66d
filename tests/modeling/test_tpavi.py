"""The baseline's blocks, in float64 against loops and the literal N x N attention."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transavs.modeling.tpavi import (
    STAGES,
    DilatedNeck,
    RefineBlock,
    ResidualUnit,
    TPAVIBlock,
    TPAVIDecoder,
)

AUDIO_CHANNELS = 3


def random_block(channels: int = 4) -> TPAVIBlock:
    """A block in evaluation mode whose every parameter and statistic is random."""
    block = TPAVIBlock(channels, AUDIO_CHANNELS).double().eval()
    for tensor in (*block.parameters(), *block.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    for tensor in block.parameters():
        tensor.data -= 1
    return block


def random_decoder(**options) -> TPAVIDecoder:
    """A small decoder that hears: the norms of its blocks do not start at zero."""
    decoder = TPAVIDecoder((2, 3, 4, 5), AUDIO_CHANNELS, channels=4, **options).double()
    for block in decoder.blocks.values():
        nn.init.normal_(block.norm.weight)
    for neck in decoder.necks.values():
        for convolution in neck.convolutions:
            nn.init.normal_(convolution.weight, std=0.3)
    return decoder


def random_features(frames: int, height: int = 64, width: int = 32) -> dict[str, torch.Tensor]:
    return {
        stage: torch.randn(frames, channels, height // stride, width // stride, dtype=torch.float64)
        for stage, channels, stride in zip(STAGES, (2, 3, 4, 5), (4, 8, 16, 32), strict=True)
    }


def random_audio(frames: int) -> torch.Tensor:
    return torch.randn(frames, AUDIO_CHANNELS, dtype=torch.float64)


class TestNeck:
    def test_loops(self):
        neck = DilatedNeck(2, 3).double()
        features = torch.randn(1, 2, 9, 8, dtype=torch.float64)
        expected = torch.zeros(3, 9, 8, dtype=torch.float64)
        for convolution, dilation in zip(neck.convolutions, (3, 6, 12, 18), strict=True):
            for channel in range(3):
                for y in range(9):
                    for x in range(8):
                        value = convolution.bias[channel].item()
                        for dy in (-1, 0, 1):
                            for dx in (-1, 0, 1):
                                row, column = y + dy * dilation, x + dx * dilation
                                if 0 <= row < 9 and 0 <= column < 8:
                                    weight = convolution.weight[channel, :, dy + 1, dx + 1]
                                    value += (weight * features[0, :, row, column]).sum().item()
                        expected[channel, y, x] += value
        torch.testing.assert_close(neck(features)[0], expected)

    def test_initial_weights_are_small(self):
        neck = DilatedNeck(32, 64)
        for convolution in neck.convolutions:
            assert convolution.weight.std().item() == pytest.approx(0.01, rel=0.1)


def literal_attention(block: TPAVIBlock, visual: torch.Tensor, audio: torch.Tensor):
    """One clip ``[T, C, h, w]`` as published: audio at every place, and a matrix of all pairs."""
    seconds, channels, height, width = visual.shape
    places = seconds * height * width
    seen = torch.stack(
        [visual[t, :, y, x] for t in range(seconds) for y in range(height) for x in range(width)]
    )
    sound = audio @ block.audio_proj.weight.T + block.audio_proj.bias
    heard = torch.stack([sound[n // (height * width)] for n in range(places)])

    def convolve(layer, rows):
        return rows @ layer.weight.flatten(1).T + layer.bias

    attention = convolve(block.theta, seen) @ convolve(block.phi, heard).T / places
    mixed = convolve(block.out, attention @ convolve(block.g, seen))
    norm = block.norm
    mixed = (mixed - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    fused = seen + mixed * norm.weight + norm.bias
    centred = fused - fused.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + block.layer_norm.eps).sqrt()
    result = scaled * block.layer_norm.weight + block.layer_norm.bias
    return result.view(seconds, height, width, channels).permute(0, 3, 1, 2), sound


class TestAttention:
    @pytest.mark.parametrize("lengths", [[1], [4], [2, 2], [3, 1, 2]], ids=str)
    def test_equals_the_matrix_of_all_pairs(self, lengths):
        block = random_block()
        frames = sum(lengths)
        visual = torch.randn(frames, 4, 3, 5, dtype=torch.float64)
        audio = random_audio(frames)
        found, sound = block(visual, audio, lengths)
        start = 0
        for length in lengths:
            own = slice(start, start + length)
            expected, heard = literal_attention(block, visual[own], audio[own])
            torch.testing.assert_close(found[own], expected)
            torch.testing.assert_close(sound[own], heard)
            start += length

    def test_norm_in_training_counts_all_places_of_the_batch(self):
        block = random_block().train()
        visual, audio = torch.randn(3, 4, 2, 2, dtype=torch.float64), random_audio(3)
        captured = {}
        block.norm.register_forward_hook(lambda m, x, y: captured.update(x=x[0], y=y))
        block(visual, audio, [2, 1])
        rows = captured["x"].permute(0, 2, 3, 1).flatten(0, 2)
        assert len(rows) == 3 * 2 * 2
        expected = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + block.norm.eps).sqrt()
        expected = expected * block.norm.weight + block.norm.bias
        torch.testing.assert_close(captured["y"].permute(0, 2, 3, 1).flatten(0, 2), expected)

    @pytest.mark.parametrize("training", [True, False])
    def test_sound_changes_nothing_at_first(self, training):
        block = TPAVIBlock(4, AUDIO_CHANNELS).double().train(training)
        visual = torch.randn(4, 4, 3, 5, dtype=torch.float64)
        fused, _ = block(visual, random_audio(4), [3, 1])
        expected = F.layer_norm(visual.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)
        torch.testing.assert_close(fused, expected)

    def test_frames_of_a_clip_may_come_in_any_order(self):
        block = random_block()
        visual, audio = torch.randn(5, 4, 2, 2, dtype=torch.float64), random_audio(5)
        order = torch.tensor([1, 2, 0, 4, 3])
        plain, _ = block(visual, audio, [3, 2])
        moved, _ = block(visual[order], audio[order], [3, 2])
        torch.testing.assert_close(moved, plain[order])

    def test_twice_the_seconds_keep_the_scale(self):
        """The mean over a clip said twice is that of the clip."""
        block = random_block()
        visual, audio = torch.randn(2, 4, 2, 2, dtype=torch.float64), random_audio(2)
        once, _ = block(visual, audio, [2])
        twice, _ = block(visual.repeat(2, 1, 1, 1), audio.repeat(2, 1), [4])
        torch.testing.assert_close(twice[:2], once)


class TestDecoder:
    def test_residual_unit_without_weights_cuts_what_is_negative(self):
        """As its first ReLU works in place, the shortcut adds relu(x): -1, 2 becomes 0, 2."""
        unit = ResidualUnit(1)
        for parameter in unit.parameters():
            nn.init.zeros_(parameter)
        features = torch.tensor([[[[-1.0, 2.0]]]])
        assert unit(features).tolist() == [[[[0.0, 2.0]]]]
        assert features.tolist() == [[[[-1.0, 2.0]]]]

    def test_residual_unit(self):
        unit = ResidualUnit(2).double()
        features = torch.randn(1, 2, 4, 4, dtype=torch.float64)
        rectified = features.clamp(min=0)
        inner = F.conv2d(rectified, unit.conv1.weight, unit.conv1.bias, padding=1)
        inner = F.conv2d(inner.clamp(min=0), unit.conv2.weight, unit.conv2.bias, padding=1)
        torch.testing.assert_close(unit(features), rectified + inner)

    def test_maps_of_the_output_are_those_behind_the_first_relu(self):
        decoder = random_decoder().eval()
        left = []
        for block in decoder.blocks.values():
            block.register_forward_hook(lambda module, inputs, output: left.append(output[0]))
        visual = decoder(random_features(2), random_audio(2), [2]).visual
        for found, fused in zip(visual, left, strict=True):
            assert fused.min() < 0
            assert torch.equal(found, fused.clamp(min=0))

    def test_corners_stay_where_they_are(self):
        """Units that add nothing leave the sum, doubled: 0, 3 becomes 0, 1, 2, 3."""
        block = RefineBlock(1)
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
        stage = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        doubled = block(stage, 2 * stage)
        torch.testing.assert_close(doubled[0, 0], torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 4))

    def test_stage_and_sum_pass_a_unit_each(self):
        block = RefineBlock(2).double()
        stage, coarser = torch.randn(2, 1, 2, 3, 4, dtype=torch.float64).unbind(0)
        expected = block.unit(block.skip_unit(stage) + coarser)
        expected = F.interpolate(expected, (6, 8), mode="bilinear", align_corners=True)
        torch.testing.assert_close(block(stage, coarser), expected)
        assert RefineBlock(2, coarsest=True).skip_unit is None

    def test_sizes_double_from_step_to_step(self):
        decoder = TPAVIDecoder((2, 3, 4, 5), AUDIO_CHANNELS, channels=6)
        sizes = []
        for stage in reversed(STAGES):
            decoder.refine[stage].register_forward_hook(
                lambda module, inputs, output: sizes.append(tuple(output.shape[1:]))
            )
        features = {name: value.float() for name, value in random_features(2, 224, 224).items()}
        output = decoder(features, random_audio(2).float(), [2])
        assert sizes == [(6, side, side) for side in (14, 28, 56, 112)]
        assert output.mask_logits.shape == (2, 224, 224)
        assert [tuple(v.shape) for v in output.visual] == [(2, 6, s, s) for s in (56, 28, 14, 7)]
        assert [tuple(a.shape) for a in output.audio] == [(2, 6)] * 4

    def test_clips_do_not_see_each_other(self):
        decoder = random_decoder().eval()
        lengths = [3, 1, 2]
        features, audio = random_features(6), random_audio(6)
        together = decoder(features, audio, lengths).mask_logits
        start = 0
        for length in lengths:
            own = slice(start, start + length)
            alone = decoder({n: v[own] for n, v in features.items()}, audio[own], [length])
            torch.testing.assert_close(together[own], alone.mask_logits)
            start += length

    @pytest.mark.parametrize("stages", [("res5",), ("res2", "res4"), STAGES], ids=len)
    def test_chosen_stages_hear(self, stages):
        decoder = random_decoder(stages=stages).eval()
        features = random_features(2)
        first = decoder(features, random_audio(2), [2])
        second = decoder(features, random_audio(2), [2])
        assert list(decoder.blocks) == list(stages)
        assert len(first.audio) == len(first.visual) == len(stages)
        assert (first.mask_logits - second.mask_logits).abs().amax((1, 2)).min() > 0

    def test_learns_that_sound_decides(self):
        """Two halves look different in every frame; the sound says which of them it is."""
        torch.manual_seed(0)
        decoder = TPAVIDecoder((2, 2, 2, 2), AUDIO_CHANNELS, channels=8)
        left = torch.zeros(8, 1, 32, 32)
        left[..., :16] = 1
        features = {
            stage: F.interpolate(torch.cat([left, 1 - left], 1), (size, size), mode="area")
            for stage, size in zip(STAGES, (8, 4, 2, 1), strict=True)
        }
        heard_left = torch.arange(8) % 2 == 0
        audio = F.one_hot(heard_left.long(), AUDIO_CHANNELS).float()
        truth = torch.where(heard_left[:, None, None], left[:, 0], 1 - left[:, 0])
        optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
        for _ in range(60):
            logits = decoder(features, audio, [1] * 8).mask_logits
            loss = F.binary_cross_entropy_with_logits(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        # Without the sound, half of all pixels are a guess: log 2.
        assert loss.item() < 0.2
        agreement = ((logits > 0) == truth.bool()).float().mean()
        assert agreement > 0.9
