"""The cache of a frozen backbone's features."""

import pytest
import torch
from tiny_models import random_clip, tiny_cfg, tiny_model
from torch import nn

from transavs.modeling.feature_cache import FeatureCache


class Counting(nn.Module):
    """A backbone of two maps that counts the frames that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.frames = 0

    def forward(self, images):
        self.frames += len(images)
        fine = self.conv(images)
        return {"res2": fine, "res3": fine[:, :2, ::2, ::2] * 2}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Counting().requires_grad_(False)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_answers_are_the_backbones_and_computed_once(backbone, tmp_path):
    images = torch.randn(3, 3, 8, 6)
    expected = backbone(images)
    cache = FeatureCache(tmp_path, backbone)
    backbone.frames = 0
    assert same(cache(images, backbone), expected) and backbone.frames == 3
    assert same(cache(images, backbone), expected) and backbone.frames == 3
    # Another process, other neighbours, another order: only the new frame is computed.
    other = torch.stack([images[2], torch.randn(3, 8, 6), images[0]])
    answer = FeatureCache(tmp_path, backbone)(other, backbone)
    assert backbone.frames == 4
    assert torch.equal(answer["res2"][0], expected["res2"][2])
    assert torch.equal(answer["res3"][2], expected["res3"][0])
    torch.testing.assert_close(answer["res2"][1], backbone(other)["res2"][1])


def test_mixed_precision_neither_rounds_what_is_kept_nor_what_is_answered(backbone, tmp_path):
    images = torch.randn(2, 3, 8, 6)
    expected = backbone(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert backbone(images)["res2"].dtype == torch.bfloat16
        assert same(FeatureCache(tmp_path, backbone)(images, backbone), expected)
    backbone.frames = 0
    assert same(FeatureCache(tmp_path, backbone)(images, backbone), expected)
    assert backbone.frames == 0


def test_other_weights_and_sizes_are_other_files(backbone, tmp_path):
    images = torch.zeros(1, 3, 8, 6)
    cache = FeatureCache(tmp_path, backbone)
    cache(images, backbone)
    # As many zeros in another shape.
    assert cache(torch.zeros(1, 3, 6, 8), backbone)["res2"].shape == (1, 4, 6, 8)
    changed = {name: value + 1 for name, value in backbone.state_dict().items()}
    backbone.load_state_dict(changed)
    assert same(cache(images, backbone), backbone(images))


def test_damaged_file(backbone, tmp_path):
    cache, images = FeatureCache(tmp_path, backbone), torch.zeros(1, 3, 8, 6)
    cache(images, backbone)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{path.name}.*delete the file"):
        cache(images, backbone)


@pytest.mark.parametrize("architecture", ["TransAVS", "TPAVI"])
def test_models_answer_alike_with_and_without(architecture, tmp_path):
    options = ("MODEL.META_ARCHITECTURE", architecture, "MODEL.BACKBONE.FREEZE", True)
    options += ("MODEL.TPAVI.CHANNELS", 8)
    plain = tiny_model(*options).eval()
    cached = tiny_model(*options, "MODEL.BACKBONE.CACHE", tmp_path).eval()
    cached.load_state_dict(plain.state_dict())
    clips = [random_clip(seed=1), random_clip(seed=2)]
    with torch.no_grad():
        expected = plain(clips)
        for _ in range(2):
            for one, other in zip(cached(clips), expected, strict=True):
                assert torch.equal(one["masks"], other["masks"])
                assert torch.equal(one["scores"], other["scores"])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 10


def test_a_backbone_that_learns_has_no_cache(tmp_path):
    with pytest.raises(ValueError, match="MODEL.BACKBONE.FREEZE True"):
        tiny_cfg("MODEL.BACKBONE.CACHE", tmp_path)
