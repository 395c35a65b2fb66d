"""Attention against softmax loops in float64, and the layers around it."""

import numpy as np
import pytest
import torch
from torch import nn

from transavs.layers import Attention, CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def naive_attention(module: Attention, query, key, value, allowed=None) -> np.ndarray:
    """Multi-head attention of one item, ``[Q, C]`` from ``[P, C]``, head by head and row by row."""

    def project(layer: nn.Linear, tokens: torch.Tensor) -> np.ndarray:
        return to_numpy(tokens) @ to_numpy(layer.weight).T + to_numpy(layer.bias)

    q, k, v = (
        project(layer, tokens)
        for layer, tokens in (
            (module.query_proj, query),
            (module.key_proj, key),
            (module.value_proj, value),
        )
    )
    width = q.shape[1] // module.num_heads
    joined = np.zeros_like(q)
    for head in range(module.num_heads):
        own = slice(head * width, (head + 1) * width)
        for row in range(len(q)):
            scores = k[:, own] @ q[row, own] / width**0.5
            if allowed is not None:
                scores = np.where(allowed[row], scores, -np.inf)
            weights = np.exp(scores - scores.max())
            joined[row, own] = (weights / weights.sum()) @ v[:, own]
    return joined @ to_numpy(module.out_proj.weight).T + to_numpy(module.out_proj.bias)


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_softmax_loops(heads, masked):
    module = Attention(16, heads)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    query, key, value = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    allowed = None
    if masked:
        allowed = torch.rand(2, 1, 5, 7) > 0.5
        allowed[..., 3] = True
        allowed[0, 0, 0] = torch.arange(7) == 2
    result = to_numpy(module(query, key, value, allowed))
    for item in range(2):
        places = None if allowed is None else allowed[item, 0].numpy()
        expected = naive_attention(module, query[item], key[item], value[item], places)
        np.testing.assert_allclose(result[item], expected, rtol=1e-5, atol=2e-5)


def test_what_is_not_allowed_changes_nothing():
    module = Attention(8, 2)
    query, memory = torch.randn(1, 3, 8), torch.randn(1, 6, 8)
    allowed = torch.rand(1, 1, 3, 6) > 0.4
    allowed[..., 0], allowed[..., 5] = True, False
    changed = memory.clone()
    changed[:, 5] = 1e3
    torch.testing.assert_close(
        module(query, memory, memory, allowed), module(query, changed, changed, allowed)
    )


def test_dropout_acts_in_training_alone():
    module = Attention(8, 2, dropout=0.5)
    tokens = torch.randn(1, 6, 8)
    assert not torch.equal(module(tokens, tokens, tokens), module(tokens, tokens, tokens))
    module.eval()
    assert torch.equal(module(tokens, tokens, tokens), module(tokens, tokens, tokens))


def test_channels_must_divide_into_heads():
    with pytest.raises(ValueError, match=r"channels \(10\) must be a multiple of num_heads \(4\)"):
        Attention(10, 4)


def normalized(values: np.ndarray) -> np.ndarray:
    """Layer norm with unit weight and zero bias."""
    spread = np.sqrt(values.var(-1, keepdims=True) + 1e-5)
    return (values - values.mean(-1, keepdims=True)) / spread


def test_self_attention_adds_positions_to_queries_and_keys_but_not_to_values():
    layer = SelfAttentionLayer(8, 2)
    queries, position = torch.randn(1, 4, 8), torch.randn(4, 8)
    placed = queries[0] + position
    expected = to_numpy(queries[0]) + naive_attention(layer.attention, placed, placed, queries[0])
    np.testing.assert_allclose(
        to_numpy(layer(queries, position))[0], normalized(expected), atol=2e-5
    )
    # Without positions the layer does not know the order of the queries.
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(layer(queries, None)[:, order], layer(queries[:, order], None))


def test_cross_attention_reads_the_memory():
    layer = CrossAttentionLayer(8, 2)
    queries, memory = torch.randn(1, 4, 8), torch.randn(1, 6, 8)
    position, memory_position = torch.randn(4, 8), torch.randn(6, 8)
    expected = to_numpy(queries[0]) + naive_attention(
        layer.attention, queries[0] + position, memory[0] + memory_position, memory[0]
    )
    result = layer(queries, memory, position, memory_position)
    np.testing.assert_allclose(to_numpy(result)[0], normalized(expected), atol=2e-5)
    torch.testing.assert_close(
        layer(queries, memory, None, memory_position),
        layer(queries, memory, torch.zeros(4, 8), memory_position),
    )


def test_feedforward_is_two_maps_with_relu_residual_and_norm():
    layer = FeedForwardLayer(4, 6)
    tokens = torch.randn(3, 4)
    x = to_numpy(tokens)
    hidden = np.maximum(x @ to_numpy(layer.linear1.weight).T + to_numpy(layer.linear1.bias), 0)
    output = hidden @ to_numpy(layer.linear2.weight).T + to_numpy(layer.linear2.bias)
    np.testing.assert_allclose(to_numpy(layer(tokens)), normalized(x + output), atol=2e-5)
