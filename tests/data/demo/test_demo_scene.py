"""Frames and label maps."""

from __future__ import annotations

import numpy as np
import pytest

from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.pictures import Picture
from transavs.data.demo.scene import FRAME_SIZE, Scene, render_scene


def render(assets: DemoAssets, count: int, seed: int) -> Scene:
    pictures = [each.pictures[0] for each in assets.classes[:count]]
    return render_scene(pictures, assets.backgrounds[0], 5, np.random.default_rng(seed))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_objects_are_seen_and_of_sensible_size(drawn_assets: DemoAssets, count: int) -> None:
    for seed in range(4):
        scene = render(drawn_assets, count, seed)
        assert scene.frames.shape == (5, FRAME_SIZE, FRAME_SIZE, 3)
        assert scene.frames.dtype == scene.labels.dtype == np.uint8
        assert set(np.unique(scene.labels)) == set(range(count + 1))
        for number in range(1, count + 1):
            shares = (scene.labels == number).mean(axis=(1, 2))
            assert 0.015 < shares.min() and shares.max() < 0.25


def test_motion_is_smooth_and_there(drawn_assets: DemoAssets) -> None:
    ways = []
    for seed in range(6):
        labels = render(drawn_assets, 1, seed).labels
        centers = np.array([np.argwhere(frame == 1).mean(axis=0) for frame in labels])
        steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
        assert steps.max() < 0.1 * FRAME_SIZE
        ways.append(steps.sum())
    assert max(ways) > 5


def test_labels_lie_where_the_colour_is(drawn_assets: DemoAssets) -> None:
    disc = drawn_assets.classes[0].pictures[0]
    scene = render_scene([disc], drawn_assets.backgrounds[0], 5, np.random.default_rng(1))
    inside = scene.frames[scene.labels == 1].astype(int)
    # The disc is red.
    assert (inside[:, 0] - inside[:, 1] > 40).mean() > 0.97


def test_later_objects_lie_in_front(drawn_assets: DemoAssets) -> None:
    # Too many large blocks to lie side by side: they overlap, and the last one is whole.
    block = np.full((200, 200, 4), 255, dtype=np.uint8)
    pictures = [Picture(f"{number}.png", block, True) for number in range(12)]
    scene = render_scene(pictures, drawn_assets.backgrounds[0], 5, np.random.default_rng(0))
    areas = [(scene.labels == number).sum(axis=(1, 2)).mean() for number in range(1, 13)]
    assert min(areas[:-1]) < 0.8 * areas[-1]


def test_same_generator_same_scene(drawn_assets: DemoAssets) -> None:
    one, other = render(drawn_assets, 3, 9), render(drawn_assets, 3, 9)
    assert (one.frames == other.frames).all() and (one.labels == other.labels).all()
    assert (render(drawn_assets, 3, 10).frames != one.frames).any()
