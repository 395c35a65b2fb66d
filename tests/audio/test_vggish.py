"""VGGish: names and shapes of the released weights, order of flattening."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from transavs.audio import VGGish, log_mel_examples

SHAPES = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12_288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return VGGish().eval()  # 290 MB: one for the whole file


def test_state_dict_has_exactly_the_released_names_and_shapes():
    with torch.device("meta"):
        encoder = VGGish()
    expected = {}
    for name, shape in SHAPES.items():
        expected |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    state = encoder.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    assert len(state) == 18
    assert sum(tensor.numel() for tensor in encoder.parameters()) == 72_141_184
    assert encoder.embedding_dim == 128
    assert "vggish-10086976.pth" in encoder.released_weights


def test_forward_equals_the_layer_table(encoder):
    """Layer by layer from the state_dict; the flattening is TensorFlow's: time, band, channel."""
    weights = {name: tensor.detach() for name, tensor in encoder.state_dict().items()}
    examples = log_mel_examples(0.1 * np.random.default_rng(0).standard_normal(31_000))
    maps = examples
    for index, pooled in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        name = f"features.{index}"
        maps = functional.conv2d(maps, weights[f"{name}.weight"], weights[f"{name}.bias"], 1, 1)
        maps = maps.relu()
        maps = functional.max_pool2d(maps, 2) if pooled else maps
    assert maps.shape == (2, 512, 6, 4)
    flat = maps.numpy().transpose(0, 2, 3, 1).reshape(2, -1)
    assert flat[0, (5 * 4 + 3) * 512 + 17] == maps[0, 17, 5, 3]
    for index in (0, 2, 4):
        weight = weights[f"embeddings.{index}.weight"].numpy()
        flat = np.maximum(flat @ weight.T + weights[f"embeddings.{index}.bias"].numpy(), 0)
    with torch.no_grad():
        embeddings = encoder(examples)
    assert embeddings.shape == (2, 128) and embeddings.min() >= 0
    np.testing.assert_allclose(embeddings.numpy(), flat, atol=1e-5)


def test_channels_first_flattening_would_be_noticed(encoder):
    """A feature in channel 1 alone must meet column 1 of the first linear layer, not column 24."""
    features = torch.zeros(1, 512, 6, 4)
    features[0, 1, 0, 0] = 1.0
    seen = []
    hook = encoder.embeddings[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    replaced = encoder.features.register_forward_hook(lambda *_: features)
    with torch.no_grad():
        encoder(torch.zeros(1, 1, 96, 64))
    hook.remove()
    replaced.remove()
    assert seen[0].nonzero().tolist() == [[0, 1]]


def test_a_batch_equals_its_examples_alone_and_may_be_empty(encoder):
    examples = torch.randn(2, 1, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = encoder(examples)
        alone = torch.cat([encoder(example[None]) for example in examples])
        assert encoder(examples[:0]).shape == (0, 128)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 96, 64), (2, 5, 1, 96, 64), (5, 1, 64, 96), (5, 3, 96, 64)])
def test_other_shapes_are_refused(encoder, shape):
    with pytest.raises(ValueError, match=r"must have shape \[S, 1, 96, 64\]"):
        encoder(torch.zeros(shape))


def test_a_pretraining_starts_from_weights_that_keep_the_scale():
    encoder = VGGish()
    examples = torch.randn(8, 1, 96, 64)
    assert encoder(examples).std() < 0.05
    encoder.start_pretraining()
    embeddings = encoder(examples)
    assert 0.3 < embeddings.std() < 10
    assert all(not layer.bias.any() for layer in encoder.modules() if hasattr(layer, "bias"))
