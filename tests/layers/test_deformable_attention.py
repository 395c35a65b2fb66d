"""Multi-scale deformable attention against a loop that samples point by point."""

import math

import numpy as np
import torch
from torch import nn

from transavs.layers.deformable_attention import MultiScaleDeformableAttention

SHAPES = [(3, 4), (5, 7)]


def sample(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bilinear value of ``[h, w, C]`` at (x, y) in cells, centres at integers, zero outside."""
    height, width = image.shape[:2]
    total = np.zeros(image.shape[2])
    left, top = math.floor(x), math.floor(y)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - abs(x - column)) * (1 - abs(y - row))
        if 0 <= column < width and 0 <= row < height:
            total += share * image[row, column]
    return total


def naive(module: MultiScaleDeformableAttention, queries, reference, memory) -> np.ndarray:
    """The module on one item, ``[P, C]``, in float64 loops."""
    heads, levels, points = module.num_heads, module.num_levels, module.num_points

    def project(layer: nn.Linear, tokens: np.ndarray) -> np.ndarray:
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        return tokens @ weight.T + bias

    queries, reference, memory = (t.double().numpy() for t in (queries, reference, memory))
    values = project(module.value_proj, memory)
    width = values.shape[1] // heads
    gathered = np.zeros_like(queries)
    for query in range(len(queries)):
        offsets = project(module.sampling_offsets, queries[query]).reshape(heads, levels, points, 2)
        scores = project(module.attention_weights, queries[query]).reshape(heads, -1)
        for head in range(heads):
            weights = np.exp(scores[head] - scores[head].max())
            weights = (weights / weights.sum()).reshape(levels, points)
            start = 0
            for level, (rows, columns) in enumerate(SHAPES):
                cells = values[start : start + rows * columns, head * width : (head + 1) * width]
                image = cells.reshape(rows, columns, width)
                start += rows * columns
                for point in range(points):
                    # Offsets count cells; cell i covers [i, i + 1), its centre is i + 0.5.
                    x = reference[query, 0] * columns + offsets[head, level, point, 0] - 0.5
                    y = reference[query, 1] * rows + offsets[head, level, point, 1] - 0.5
                    own = slice(head * width, (head + 1) * width)
                    gathered[query, own] += weights[level, point] * sample(image, x, y)
    return project(module.output_proj, gathered)


def make_module() -> MultiScaleDeformableAttention:
    module = MultiScaleDeformableAttention(8, num_levels=2, num_heads=4, num_points=3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_equals_a_loop_over_points():
    module = make_module()
    queries, reference = torch.randn(2, 5, 8), torch.rand(5, 2)
    memory = torch.randn(2, sum(h * w for h, w in SHAPES), 8)
    result = module(queries, reference, memory, SHAPES).detach().numpy()
    for item in range(2):
        expected = naive(module, queries[item], reference, memory[item])
        np.testing.assert_allclose(result[item], expected, rtol=1e-4, atol=2e-5)


def test_first_offsets_look_into_all_directions():
    module = MultiScaleDeformableAttention(8, num_levels=2, num_heads=4, num_points=3)
    offsets = module.sampling_offsets.bias.view(4, 2, 3, 2)
    right, down = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for head, direction in enumerate((right, down, -right, -down)):
        for point in range(3):
            expected = ((point + 1) * direction).expand(2, 2)
            torch.testing.assert_close(offsets[head, :, point], expected, atol=1e-6, rtol=0)
    # At the start all points count alike, wherever the query is.
    assert (module.attention_weights.weight == 0).all()


def test_every_parameter_and_the_memory_get_a_gradient():
    module = make_module()
    memory = torch.randn(1, sum(h * w for h, w in SHAPES), 8, requires_grad=True)
    module(torch.randn(1, 5, 8), torch.rand(5, 2), memory, SHAPES).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert memory.grad.abs().sum() > 0
