"""Query homogeneity against loops over pairs."""

import numpy as np
import pytest
import torch

from transavs.losses import query_homogeneity


def test_against_loops() -> None:
    queries, masks = torch.randn(4, 6, 5), torch.randn(4, 6, 3, 4)
    masks[0, 1] = masks[0, 3] = -1.0  # two empty masks overlap by nothing
    confident = torch.rand(4, 6) > 0.5
    confident[0] = True
    confident[2] = False
    confident[3] = torch.arange(6) == 2
    cosine = overlap = 0.0
    pairs = 0
    for frame in range(4):
        chosen = confident[frame].nonzero().flatten().tolist()
        for position, i in enumerate(chosen):
            for j in chosen[position + 1 :]:
                a, b = (queries[frame, k].double().numpy() for k in (i, j))
                cosine += a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                first, second = (masks[frame, k].numpy() > 0 for k in (i, j))
                either = (first | second).sum()
                overlap += (first & second).sum() / either if either else 0.0
                pairs += 1
    sums = query_homogeneity(queries, masks, confident)
    assert sums["pairs"] == pairs > 15
    assert sums["cosine"].item() == pytest.approx(cosine, abs=1e-6)
    assert sums["overlap"].item() == pytest.approx(overlap, abs=1e-9)


def test_equal_and_opposite_queries() -> None:
    queries = torch.tensor([[[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [-3.0, 0.0]]])
    masks = torch.ones(2, 2, 2, 2)
    every = torch.ones(2, 2, dtype=torch.bool)
    same = query_homogeneity(queries[:1], masks[:1], every[:1])
    assert (same["cosine"], same["overlap"], same["pairs"]) == pytest.approx((1, 1, 1))
    assert query_homogeneity(queries[1:], masks[1:], every[1:])["cosine"] == pytest.approx(-1)
    assert query_homogeneity(queries, masks, ~every)["pairs"] == 0
