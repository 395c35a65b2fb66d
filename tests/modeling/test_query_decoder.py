"""The query decoder: round robin, masked attention, supervision, and Eq. (7)."""

import math

import pytest
import torch
from torch import nn

from transavs.modeling import QueryDecoder
from transavs.structures import PixelFeatures

FRAMES, QUERIES, CHANNELS = 2, 3, 8
SIZES = [(2, 3), (4, 6), (8, 12)]


def random_features(frames: int = FRAMES) -> PixelFeatures:
    memory = [torch.randn(frames, CHANNELS, *size) for size in SIZES]
    return PixelFeatures(memory, torch.randn(frames, CHANNELS, 16, 24))


def make(layers: int = 7, **options) -> QueryDecoder:
    decoder = QueryDecoder(1, CHANNELS, 2, 16, layers, **options)
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    return decoder


def run(decoder, all_layers=True, features=None, queries=None, position=None):
    queries = torch.randn(FRAMES, QUERIES, CHANNELS) if queries is None else queries
    return decoder(queries, position, features or random_features(), all_layers)


@pytest.mark.parametrize("masked", [False, True])
def test_layers_see_the_maps_in_turn(masked):
    """Eq. (4): i = (l mod 3) + 1, coarse to fine."""
    decoder, seen = make(7, masked_attention=masked), []
    for layer in decoder.cross_attention:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1].shape[1]))
    run(decoder)
    cells = [height * width for height, width in SIZES]
    assert seen == [cells[layer % 3] for layer in range(7)]


def test_layer_reads_its_map_and_no_other():
    decoder, features = make(2), random_features()
    queries = torch.randn(FRAMES, QUERIES, CHANNELS)
    plain = run(decoder, features=features, queries=queries)
    for level, affected in ((0, [True, True]), (1, [False, True]), (2, [False, False])):
        memory = list(features.memory)
        memory[level] = memory[level] + torch.randn_like(memory[level])
        changed = run(
            decoder, features=PixelFeatures(memory, features.mask_features), queries=queries
        )
        different = [
            not torch.equal(a.queries, b.queries) for a, b in zip(plain, changed, strict=True)
        ]
        assert different == affected


def test_masks_are_dot_products_with_the_pixel_embedding():
    decoder, features = make(2), random_features()
    (output,) = run(decoder, all_layers=False, features=features)
    expected = torch.zeros(FRAMES, QUERIES, 16, 24, dtype=torch.float64)
    for channel in range(CHANNELS):
        pixels = features.mask_features[:, None, channel].double()
        expected += output.queries[:, :, channel, None, None].double() * pixels
    torch.testing.assert_close(output.mask_logits.double(), expected, atol=1e-5, rtol=1e-5)
    assert output.class_logits.shape == (FRAMES, QUERIES, 2)


@pytest.mark.parametrize("masked", [False, True])
def test_supervising_every_layer_does_not_change_the_last(masked):
    decoder, features = make(5, masked_attention=masked), random_features()
    queries, position = torch.randn(FRAMES, QUERIES, CHANNELS), torch.randn(QUERIES, CHANNELS)
    every = run(decoder, True, features, queries, position)
    (last,) = run(decoder, False, features, queries, position)
    # Masked attention starts from the masks of the initial queries, which are supervised, too.
    assert len(every) == 5 + masked
    for name in ("queries", "class_logits", "mask_logits"):
        assert torch.equal(getattr(every[-1], name), getattr(last, name))
    if masked:
        assert torch.equal(every[0].queries, queries)


def test_heads_run_once_at_test_time(monkeypatch):
    calls = []
    original = QueryDecoder._masks
    monkeypatch.setattr(
        QueryDecoder, "_masks", staticmethod(lambda *inputs: calls.append(1) or original(*inputs))
    )
    run(make(5), all_layers=False)
    assert len(calls) == 1


def test_masked_attention_looks_where_the_previous_mask_is():
    decoder, seen = make(4, masked_attention=True), []
    for layer in decoder.cross_attention:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[4]))
    outputs = run(decoder)
    for layer, allowed in enumerate(seen):
        size = SIZES[layer % 3]
        logits = nn.functional.interpolate(outputs[layer].mask_logits, size, mode="bilinear")
        inside = (logits > 0).flatten(2)
        for frame in range(FRAMES):
            for query in range(QUERIES):
                expected = inside[frame, query]
                if not expected.any():
                    expected = torch.ones_like(expected)
                assert torch.equal(allowed[frame, 0, query], expected)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_masked_attention_is_never_nan(sign):
    """Masks that are nowhere (or everywhere) above 0.5 let their query look everywhere."""
    decoder = make(6, masked_attention=True)
    features = random_features()
    mask_features = torch.zeros_like(features.mask_features)
    mask_features[:, 0] = 1
    queries = torch.zeros(FRAMES, QUERIES, CHANNELS)
    queries[..., 0] = 50 * sign
    queries.requires_grad_()
    outputs = run(decoder, features=PixelFeatures(features.memory, mask_features), queries=queries)
    for output in outputs:
        assert torch.isfinite(output.mask_logits).all() and torch.isfinite(output.queries).all()
    sum(output.mask_logits.sum() for output in outputs).backward()
    assert torch.isfinite(queries.grad).all()


def test_frames_do_not_see_each_other():
    decoder, features = make(4), random_features()
    queries = torch.randn(FRAMES, QUERIES, CHANNELS)
    together = run(decoder, False, features, queries)[0].mask_logits
    for frame in range(FRAMES):
        part = slice(frame, frame + 1)
        own = PixelFeatures(
            [level[part] for level in features.memory], features.mask_features[part]
        )
        alone = run(decoder, False, own, queries[part])[0].mask_logits
        torch.testing.assert_close(together[part], alone, atol=1e-5, rtol=1e-5)


def test_positions_part_queries_that_are_equal():
    decoder, queries = make(3), torch.randn(FRAMES, 1, CHANNELS).expand(-1, 2, -1)
    for position, parted in ((None, False), (torch.randn(2, CHANNELS), True)):
        final = run(decoder, False, queries=queries, position=position)[0].queries
        assert bool((final[:, 0] - final[:, 1]).abs().max() > 1e-4) == parted


def test_queries_first_doubt_that_they_sound():
    decoder = QueryDecoder(1, CHANNELS, 2, 16, 3)
    probability = decoder.class_head(torch.zeros(1, CHANNELS)).softmax(-1)[0, 0]
    assert probability.item() == pytest.approx(0.25, abs=1e-6)
    assert decoder.class_head.bias[1].item() == pytest.approx(math.log(3))


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="at least one layer, got 0"):
        QueryDecoder(1, CHANNELS, 2, 16, 0)


@pytest.mark.parametrize("masked", [False, True])
def test_head_of_mask2former(masked):
    """Classes from the norm of the queries, masks through three linear layers of it."""
    decoder = make(2, masked_attention=masked, head="mask2former")
    features, queries = random_features(), torch.randn(FRAMES, QUERIES, CHANNELS)
    seen = [queries]
    decoder.feedforward[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    outputs = run(decoder, features=features, queries=queries)
    assert len(outputs) == 2 + masked
    for before, output in ((seen[-1], outputs[-1]), *([(seen[0], outputs[0])] if masked else [])):
        normed = decoder.norm(before)
        hidden = normed
        for layer in decoder.mask_embedding:
            hidden = layer(hidden)
        assert torch.equal(output.queries, normed)
        assert torch.equal(output.class_logits, decoder.class_head(normed))
        masks = torch.einsum("nqc,nchw->nqhw", hidden, features.mask_features)
        torch.testing.assert_close(output.mask_logits, masks)
    sum(o.class_logits.sum() + o.mask_logits.square().sum() for o in outputs).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_unknown_head():
    with pytest.raises(ValueError, match="one of plain, mask2former, got 'linear'"):
        make(1, head="linear")
