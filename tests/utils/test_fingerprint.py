"""Fingerprints of weights."""

import torch
from torch import nn

from transavs.utils.fingerprint import fingerprint


def test_fingerprint_is_of_the_numbers():
    model = nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    expected = fingerprint(model)
    renamed = nn.Sequential(model[2], nn.Identity(), model[1])
    assert fingerprint(renamed) == expected
    model[2].num_batches_tracked += 1
    assert fingerprint(model.to(memory_format=torch.channels_last)) == expected
    model[2].running_mean[0] += 1e-3
    assert fingerprint(model) != expected
    flat, square = nn.ParameterList([torch.zeros(4)]), nn.ParameterList([torch.zeros(2, 2)])
    assert fingerprint(flat) != fingerprint(square)
