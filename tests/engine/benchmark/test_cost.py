"""Multiply-accumulates against counts by hand."""

import pytest
import torch
from tiny_models import random_clip, tiny_cfg, tiny_model
from torch import nn

from transavs.engine.benchmark import count_macs, count_parameters, random_clips
from transavs.layers import CrossAttentionLayer, FeedForwardLayer
from transavs.layers.deformable_attention import MultiScaleDeformableAttention


class AsModel(nn.Module):
    """A layer under the interface of a model that takes clips; its input has the audio's shape."""

    def __init__(self, layer: nn.Module, inputs) -> None:
        super().__init__()
        self.layer = layer
        self.inputs = inputs

    def forward(self, clips):
        # A trace must depend on its input.
        nothing = clips[0]["audio"].sum() * 0
        first, *others = self.inputs
        return [{"scores": self.layer(first + nothing, *others)}]


def macs_of(layer: nn.Module, *inputs) -> int:
    return count_macs(AsModel(layer, inputs), [random_clip()])[""]


def test_attention_counts_both_products_and_four_projections():
    batch, queries, places, channels = 2, 7, 11, 16
    layer = CrossAttentionLayer(channels, num_heads=4)
    tokens = torch.randn(batch, queries, channels), torch.randn(batch, places, channels)
    counted = macs_of(layer, *tokens, None, torch.zeros(places, channels))
    projections = (2 * queries + 2 * places) * channels**2  # query and output, key and value
    products = 2 * queries * places * channels  # Q K^T and its product with V, all heads
    assert counted == batch * (projections + products)


def test_feedforward_counts_two_linear_layers():
    assert macs_of(FeedForwardLayer(8, 32), torch.randn(3, 5, 8)) == 3 * 5 * 8 * 32 * 2


def test_deformable_attention_counts_samples_not_pairs():
    channels, heads, points, shapes = 16, 4, 3, [(4, 6), (2, 3)]
    layer = MultiScaleDeformableAttention(channels, len(shapes), heads, points)
    tokens = sum(height * width for height, width in shapes)
    samples = tokens * heads * len(shapes) * points
    memory = torch.randn(2, tokens, channels)
    reference = torch.rand(tokens, 2)
    # Offsets (2 a sample) and weights, then value and output; a sample has C / heads channels.
    linear = tokens * channels * (3 * heads * len(shapes) * points) + 2 * tokens * channels**2
    sampling = samples * (channels // heads) * 5
    assert macs_of(layer, memory, reference, memory, shapes) == 2 * (linear + sampling)


def test_batched_products_count_all_their_entries():
    class Mixture(nn.Module):
        def forward(self, context):  # [Q, T] @ [N, T, C], as in Eq. (1)
            return torch.ones(6, 5) @ context

    assert macs_of(Mixture(), torch.randn(3, 5, 4)) == 3 * 6 * 4 * 5


def test_parts_add_up_and_grow_with_the_queries():
    model = tiny_model()
    clips = random_clips(tiny_cfg(), 1, 5, (64, 64))
    counts = count_macs(model, clips)
    whole = counts.pop("")
    assert whole == sum(counts.values())
    assert set(counts) == {
        "backbone", "pixel_decoder", "audio_encoder", "query_generator", "query_decoder"
    }  # fmt: skip
    assert model.training  # as it was
    more = count_macs(tiny_model("MODEL.TRANSAVS.NUM_QUERIES", 10), clips)
    assert more["backbone"] == counts["backbone"]
    assert more["query_decoder"] > counts["query_decoder"]
    twice = count_macs(model, random_clips(tiny_cfg(), 2, 5, (64, 64)))
    assert twice[""] == 2 * whole


def test_stem_of_the_backbone_by_hand():
    model = tiny_model()
    stem = AsModel(model.backbone.stem, [torch.randn(1, 3, 64, 64)])
    # 7x7 convolution of stride 2 from 3 to 8 channels.
    assert count_macs(stem, [random_clip()])[""] == 32 * 32 * 8 * 3 * 49


def test_parameters():
    model = tiny_model()
    model.audio_encoder.requires_grad_(False)
    frozen = sum(p.numel() for p in model.audio_encoder.parameters())
    assert count_parameters(model) - count_parameters(model, trainable=True) == frozen
    assert count_parameters(nn.Linear(3, 4)) == pytest.approx(16)
