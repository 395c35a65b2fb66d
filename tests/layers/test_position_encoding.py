"""Sine positions by hand."""

import math

import pytest
import torch

from transavs.layers import sine_position_encoding


def test_values_of_a_small_map_by_hand():
    # 8 channels: rows in 0-3, columns in 4-7. Half = 4, so the frequencies are 10000^0 = 1 and
    # 10000^(-2/4) = 1/100. In a map of 2 rows, row i lies at angle 2 pi (i + 1) / 2.
    encoding = sine_position_encoding(2, 4, 8)
    assert encoding.shape == (8, 2, 4) and encoding.dtype == torch.float32
    for row in range(2):
        angle = math.pi * (row + 1)
        expected = [
            math.sin(angle), math.cos(angle), math.sin(angle / 100), math.cos(angle / 100)
        ]  # fmt: skip
        for column in range(4):
            torch.testing.assert_close(
                encoding[:4, row, column], torch.tensor(expected), atol=1e-5, rtol=0
            )
    for column in range(4):
        angle = math.pi / 2 * (column + 1)
        expected = [
            math.sin(angle), math.cos(angle), math.sin(angle / 100), math.cos(angle / 100)
        ]  # fmt: skip
        for row in range(2):
            torch.testing.assert_close(
                encoding[4:, row, column], torch.tensor(expected), atol=1e-5, rtol=0
            )


def test_transposed_map_swaps_the_halves():
    encoding, turned = sine_position_encoding(3, 5, 16), sine_position_encoding(5, 3, 16)
    torch.testing.assert_close(encoding.transpose(1, 2), torch.cat((turned[8:], turned[:8])))


def test_every_cell_has_a_position_of_its_own():
    cells = sine_position_encoding(7, 9, 32).flatten(1).T
    distances = torch.cdist(cells, cells) + torch.eye(len(cells)) * 10
    assert distances.min() > 0.05


def test_last_cells_of_maps_of_different_size_agree():
    fine, coarse = sine_position_encoding(8, 8, 16), sine_position_encoding(4, 4, 16)
    torch.testing.assert_close(fine[:, 1::2, 1::2], coarse, atol=1e-4, rtol=0)


def test_channels_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        sine_position_encoding(2, 2, 6)
