"""Who is in a clip, who sounds when, and in front of which background.

Two subsets, made like AVSBench-object's:

* single-source ("s4"): one object sounds through the whole clip,
* multi-source ("ms3"): one to three objects sound, each on and off by whole seconds, and in some
  seconds nothing sounds.

Both hold objects of sounding classes that stay mute: without them "segment everything that was
pasted" would be right without listening. No class appears twice in a clip, so that a sound
always points to one object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from transavs.data.demo.assets import Background, ClassAssets, DemoAssets
from transavs.data.demo.pictures import Picture
from transavs.data.demo.sounds import Recording

_Option = TypeVar("_Option")

SUBSETS = ("s4", "ms3")
SPLITS = ("train", "val", "test", "unseen")
CLIP_SECONDS = 5

S4_MUTE_COUNTS = {0: 0.25, 1: 0.33, 2: 0.27, 3: 0.15}
MS3_SOUNDING_COUNTS = {1: 0.3, 2: 0.4, 3: 0.3}
MS3_MUTE_COUNTS = {0: 0.22, 1: 0.46, 2: 0.32}
SILENT_THING_SHARE = 0.2
MUTE_SECONDS_SHARE = 0.35
START_SHARE = 0.7
GO_ON_SHARE = 0.75  # a second after a sounding one
TURN_ON_SHARE = 0.5  # a second after a mute one
MOST_OBJECTS = 5


@dataclass(frozen=True)
class Actor:
    """One object of a clip.

    Attributes:
        name: class name, or the picture's name for a thing that never sounds.
        picture: its cut-out.
        recording: what it lets hear; None = mute in this clip.
        sounding: one flag a second.
    """

    name: str
    picture: Picture
    recording: Recording | None
    sounding: tuple[bool, ...]


@dataclass(frozen=True)
class Cast:
    """Contents of one clip: the actors in the order of their object ids, and the background."""

    actors: tuple[Actor, ...]
    background: Background


class DemoClass(Protocol):
    """What a class with its assets (`ClassAssets`) and one without (`SoundingClass`) share."""

    @property
    def name(self) -> str: ...

    @property
    def category(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def held_out(self) -> object | None: ...


_Class = TypeVar("_Class", bound=DemoClass)


def category_of(classes: Sequence[DemoClass], split: str, index: int) -> str:
    """Category (folder name) of single-source clip ``index``; classes take turns."""
    usable = _usable_classes(classes, split)
    return usable[index % len(usable)].category


def draw_cast(
    assets: DemoAssets, subset: str, split: str, index: int, rng: np.random.Generator
) -> Cast:
    """Draw the contents of clip ``index`` of a subset's split.

    ``unseen`` shows and sounds only classes that have a held-out recording, sounds only those
    recordings, and lies in front of held-out backgrounds; the other splits use neither.
    """
    usable = _usable_classes(assets.classes, split)
    backgrounds = assets.held_out_backgrounds if split == "unseen" else assets.backgrounds
    background = backgrounds[rng.integers(len(backgrounds))]
    if subset == "s4":
        leader = index % len(usable)
        others = [usable[i] for i in rng.permutation(len(usable)) if i != leader]
        order = [usable[leader], *others]
        schedules = np.ones((1, CLIP_SECONDS), dtype=bool)
        mute_count = _draw_count(S4_MUTE_COUNTS, rng)
        thing_count = int((rng.random(mute_count) < SILENT_THING_SHARE).sum())
        mute_count -= thing_count
    else:
        order = [usable[i] for i in rng.permutation(len(usable))]
        sounding_count = min(_draw_count(MS3_SOUNDING_COUNTS, rng), len(order))
        schedules = draw_schedules(sounding_count, CLIP_SECONDS, rng)
        mute_count = _draw_count(MS3_MUTE_COUNTS, rng)
        thing_count = int(rng.random() < SILENT_THING_SHARE)
        thing_count = min(thing_count, MOST_OBJECTS - sounding_count - mute_count)
    actors = [
        _sounding_actor(each, split, schedule, rng)
        for each, schedule in zip(order, schedules, strict=False)
    ]
    mute_classes = order[len(actors) : len(actors) + mute_count]
    silence = (False,) * CLIP_SECONDS
    actors += [
        Actor(each.name, _choose(each.pictures, rng), None, silence) for each in mute_classes
    ]
    things = rng.permutation(len(assets.silent))[:thing_count]
    actors += [Actor(assets.silent[i].name, assets.silent[i], None, silence) for i in things]
    # Objects with a higher id lie in front; the order must not tell who sounds.
    return Cast(tuple(actors[i] for i in rng.permutation(len(actors))), background)


def draw_schedules(count: int, seconds: int, rng: np.random.Generator) -> np.ndarray:
    """bool [count, seconds]: in which seconds each of ``count`` objects sounds.

    Each object goes on and off on its own and sounds in at least one second. In some clips a
    stretch of one or two seconds is mute for all.
    """
    while True:
        schedules = np.zeros((count, seconds), dtype=bool)
        for schedule in schedules:
            schedule[0] = rng.random() < START_SHARE
            for second in range(1, seconds):
                share = GO_ON_SHARE if schedule[second - 1] else TURN_ON_SHARE
                schedule[second] = rng.random() < share
        if rng.random() < MUTE_SECONDS_SHARE:
            length = int(rng.integers(1, 3))
            start = int(rng.integers(seconds - length + 1))
            schedules[:, start : start + length] = False
        if schedules.any(axis=1).all():
            return schedules


def _usable_classes(classes: Sequence[_Class], split: str) -> list[_Class]:
    if split == "unseen":
        return [each for each in classes if each.held_out is not None]
    return list(classes)


def _sounding_actor(
    each: ClassAssets, split: str, schedule: np.ndarray, rng: np.random.Generator
) -> Actor:
    recording = each.held_out if split == "unseen" else _choose(each.recordings, rng)
    assert recording is not None, f"class {each.name} has no recording for {split}"
    sounding = tuple(bool(flag) for flag in schedule)
    return Actor(each.name, _choose(each.pictures, rng), recording, sounding)


def _choose(options: Sequence[_Option], rng: np.random.Generator) -> _Option:
    return options[int(rng.integers(len(options)))]


def _draw_count(shares: dict[int, float], rng: np.random.Generator) -> int:
    return int(rng.choice(list(shares), p=list(shares.values())))
