"""Who is in a clip and who sounds when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.casting import (
    MOST_OBJECTS,
    SPLITS,
    Cast,
    category_of,
    draw_cast,
    draw_schedules,
)

CLIPS = 150


def casts(assets: DemoAssets, subset: str, split: str) -> list[Cast]:
    return [
        draw_cast(assets, subset, split, index, np.random.default_rng([index, 5]))
        for index in range(CLIPS)
    ]


@pytest.fixture
def partly_held_out(drawn_assets: DemoAssets) -> DemoAssets:
    """Assets of which three classes have no recording to spare, as in the real set."""
    classes = drawn_assets.classes
    return replace(
        drawn_assets,
        classes=(*classes[:5], *(replace(each, held_out=None) for each in classes[5:])),
    )


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_no_class_twice_and_flags_match_recordings(
    drawn_assets: DemoAssets, subset: str, split: str
) -> None:
    for cast in casts(drawn_assets, subset, split):
        names = [actor.name for actor in cast.actors]
        assert len(set(names)) == len(names) and 1 <= len(names) <= MOST_OBJECTS
        for actor in cast.actors:
            assert len(actor.sounding) == 5
            assert any(actor.sounding) == (actor.recording is not None)


def test_single_source(drawn_assets: DemoAssets) -> None:
    drawn = casts(drawn_assets, "s4", "train")
    for index, cast in enumerate(drawn):
        sounding = [actor for actor in cast.actors if actor.recording is not None]
        assert len(sounding) == 1 and all(sounding[0].sounding)
        category = category_of(drawn_assets.classes, "train", index)
        assert category == f"{sounding[0].name}_sounding"
    accompanied = np.mean([len(cast.actors) > 1 for cast in drawn])
    assert 0.65 < accompanied < 0.85
    categories = [category_of(drawn_assets.classes, "train", index) for index in range(CLIPS)]
    counts = [categories.count(each.category) for each in drawn_assets.classes]
    assert max(counts) - min(counts) <= 1


def test_multi_source(drawn_assets: DemoAssets) -> None:
    drawn = casts(drawn_assets, "ms3", "train")
    sounding = [sum(actor.recording is not None for actor in cast.actors) for cast in drawn]
    assert set(sounding) == {1, 2, 3}
    empty = [
        not any(actor.sounding[second] for actor in cast.actors)
        for cast in drawn
        for second in range(5)
    ]
    assert 0.1 < np.mean(empty) < 0.3
    classes = {each.name for each in drawn_assets.classes}
    mute = [
        actor.name in classes for cast in drawn for actor in cast.actors if actor.recording is None
    ]
    assert 0.7 < np.mean(mute) < 0.95


def test_sounding_is_told_neither_by_order_nor_by_class(drawn_assets: DemoAssets) -> None:
    drawn = [cast for cast in casts(drawn_assets, "ms3", "train") if len(cast.actors) > 1]
    front = np.mean([cast.actors[-1].recording is not None for cast in drawn])
    back = np.mean([cast.actors[0].recording is not None for cast in drawn])
    assert abs(front - back) < 0.15


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_unseen_shares_no_recording_and_no_background(
    partly_held_out: DemoAssets, subset: str
) -> None:
    def used(split: str) -> tuple[set[str], set[str]]:
        drawn = casts(partly_held_out, subset, split)
        recordings = {
            actor.recording.reference
            for cast in drawn
            for actor in cast.actors
            if actor.recording is not None
        }
        return recordings, {cast.background.reference for cast in drawn}

    recordings, backgrounds = used("unseen")
    held_out = [each.held_out for each in partly_held_out.classes]
    assert recordings == {each.reference for each in held_out if each is not None}
    for split in ("train", "val", "test"):
        others, other_backgrounds = used(split)
        assert not recordings & others and not backgrounds & other_backgrounds
        assert len(others) > len(recordings)
    # Classes without a held-out recording are not seen there either.
    names = {
        actor.name for cast in casts(partly_held_out, subset, "unseen") for actor in cast.actors
    }
    assert not names & {each.name for each in partly_held_out.classes[5:]}


def test_schedules() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_schedules(count, 5, rng) for count in (1, 2, 3) for _ in range(100)]
    assert all(schedule.any(axis=1).all() for schedule in drawn)
    flags = np.concatenate([schedule for schedule in drawn])
    assert 0.5 < flags.mean() < 0.75
    changes = (flags[:, 1:] != flags[:, :-1]).mean()
    assert 0.2 < changes < 0.5
    # Objects of a clip do not switch together.
    pairs = np.concatenate([schedule[:2, None] for schedule in drawn if len(schedule) > 1], axis=1)
    assert (pairs[0] != pairs[1]).mean() > 0.25
