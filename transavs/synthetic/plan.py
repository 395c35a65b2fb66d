"""Decides what a clip shows and lets hear, without decoding a file.

A clip has a class that leads it, drawn by the weights, so that rare classes are heard about as
often as common ones. Mostly the class is shown: in a photograph that is annotated with it, or as a
cut-out in front of another one, an instrument half of the time over a person. Other clips let it be
heard from off screen, let only what is no class be heard, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from transavs.data.demo.casting import CLIP_SECONDS, draw_schedules
from transavs.synthetic.sources import Instance, Photo, SceneClass, Sources

_Option = TypeVar("_Option")

Cutout = Path | tuple[Photo, Instance]
"""A file, or an instance of a photograph."""

#: Split of a set -> the parts whose pictures and whose recordings it uses.
SPLITS = {
    "train": ("train", "train"),
    "val": ("train", "train"),
    "test": ("heldout", "train"),
    "wild": ("heldout", "heldout"),
}

SILENCE = (False,) * CLIP_SECONDS

_KINDS = {"shown": 0.8, "off screen": 0.12, "ambience": 0.05, "silent": 0.03}
_PHOTO_SHARE = 0.6  # where a class has photographs and cut-outs
_OVER_PERSON_SHARE = 0.5
_BACKGROUND_SHARE = 0.5  # of what is pasted elsewhere: before a photograph without classes
_GUEST_COUNTS = {0: 0.55, 1: 0.33, 2: 0.12}
_GUEST_SOUNDS = 0.35
_NEIGHBOUR_SOUNDS = 0.25
_PERSON_SOUNDS = 0.1  # beside what leads the clip, such as an instrument
_MOST_SOUNDING = 3
_THROUGHOUT_SHARE = 0.5
_BESIDE_SHARE = 0.12  # of the clips that show what sounds: one more sound comes from off screen
_BED_SHARE = 0.25
_NOISE_SHARE = 0.5
_FEW_PICTURES = 8
_LEAST_LEADER = 0.015
_LEAST_PERSON = 0.04
_LEAST_CUT = 0.03
_SOLO_SHARE = 0.3
_TRIES = 200


@dataclass(frozen=True)
class Thing:
    """One object of a clip.

    Attributes:
        name: of its class.
        sounding: one flag a second.
        instance: its place in the clip's photograph; None for what is pasted.
        cutout: what is pasted.
        over: the person before whom it is pasted.
    """

    name: str
    sounding: tuple[bool, ...] = SILENCE
    instance: Instance | None = None
    cutout: Cutout | None = None
    over: Instance | None = None


@dataclass(frozen=True)
class Voice:
    """One sound of a clip.

    Attributes:
        name: of the class that is heard; "" for ambience.
        options: recordings of the same kind, the first one preferred.
        sounding: one flag a second.
        gain_db: at most 0.
    """

    name: str
    options: tuple[Path, ...]
    sounding: tuple[bool, ...]
    gain_db: float


@dataclass(frozen=True)
class Plan:
    """Contents of a clip: things in the order of their ids, later ones lie in front.

    Attributes:
        photo: what fills the frame.
        things: annotated and pasted objects.
        voices: all sounds.
        leader: class that the frame should show well; "" where none must be.
        noise_db: level of noise below full scale; None for none.
        gain_db: of the whole sound.
    """

    photo: Photo
    things: tuple[Thing, ...]
    voices: tuple[Voice, ...]
    leader: str
    noise_db: float | None
    gain_db: float


class Planner:
    """Draws plans for one split.

    Args:
        sources: all files.
        split: one of :data:`SPLITS`.

    Raises:
        ValueError: the split's parts have no photograph, or no class that is heard.
    """

    def __init__(self, sources: Sources, split: str) -> None:
        pictures, sounds = SPLITS[split]
        self._classes = sources.classes
        self._photos = sources.photos[pictures]
        self._recordings = sources.sounds[sounds]
        self._ambience = sources.ambience[sounds]
        self._heard = [each for name, each in self._classes.items() if self._recordings[name]]
        if not self._photos or not self._heard:
            raise ValueError(
                f"the split {split} needs photographs of the part {pictures} and recordings of the "
                f"part {sounds}: give more files, or ask for no clip of it"
            )
        self._with_people = [photo for photo in self._photos if self._people(photo)]
        self._plain = [photo for photo in self._photos if not photo.instances]
        self._showing = self._list_photos()
        self._cutouts = self._list_cutouts(sources.cutouts[pictures])
        weights = np.array([each.weight * self._known(each.name) for each in self._heard])
        self._shares = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> Plan:
        """Returns the contents of a clip."""
        leader = self._heard[int(rng.choice(len(self._heard), p=self._shares))]
        kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
        if kind == "shown" and (self._showing[leader.name] or self._cutouts[leader.name]):
            return self._draw_shown(leader, rng)
        hidden = [leader] if kind in ("shown", "off screen") else []
        photo = self._photo_without(hidden, rng.random() < 0.3, rng)
        things = [*self._neighbours(photo, {}, rng), *self._guests(photo, hidden, rng)]
        voices = [self._voice(each.name, _schedules(1, rng)[0], rng) for each in hidden]
        if kind == "ambience":
            voices += self._bed(rng.uniform(-12, 0), rng)
        return self._finish(photo, things, voices, "", kind != "silent", rng)

    def _draw_shown(self, leader: SceneClass, rng: np.random.Generator) -> Plan:
        inside, cuts = self._showing[leader.name], self._cutouts[leader.name]
        pasted: list[Thing] = []
        if inside and (not cuts or rng.random() < _PHOTO_SHARE):
            photo = _choose(inside, rng)
        else:
            held = leader.group == "music" and rng.random() < _OVER_PERSON_SHARE
            if held and self._with_people:
                photo = _choose(self._with_people, rng)
                over = _choose(self._people(photo), rng)
            else:
                photo = self._photo_without([leader], rng.random() < _BACKGROUND_SHARE, rng)
                over = None
            pasted.append(Thing(leader.name, cutout=_choose(cuts, rng), over=over))
        guests = self._guests(photo, [leader], rng)
        # The leader sounds; so does a part of what else is shown, of each likeness one.
        names = [guest.name for guest in guests if rng.random() < _GUEST_SOUNDS]
        for name in sorted({each.name for each in photo.instances} - {leader.name}):
            human = self._classes[name].group == "human"
            share = _PERSON_SOUNDS if human else _NEIGHBOUR_SOUNDS
            if photo.share(name) >= _LEAST_LEADER and rng.random() < share:
                names.append(name)
        heard = [leader]
        for each in (self._classes[name] for name in names if self._recordings[name]):
            if len(heard) < _MOST_SOUNDING and not _resembles_one(each, heard):
                heard.append(each)
        schedules = dict(zip([e.name for e in heard], _schedules(len(heard), rng), strict=True))
        things = self._neighbours(photo, schedules, rng)
        pasted += guests
        for i in rng.permutation(len(pasted)):
            things.append(replace(pasted[i], sounding=schedules.get(pasted[i].name, SILENCE)))
        voices = [self._voice(name, schedule, rng) for name, schedule in schedules.items()]
        if rng.random() < _BESIDE_SHARE:
            shown = [self._classes[each.name] for each in things]
            absent = [each for each in self._heard if not _resembles_one(each, shown)]
            if absent:
                name = _choose(absent, rng).name
                voices.append(self._voice(name, _schedules(1, rng)[0], rng, -12))
        return self._finish(photo, things, voices, leader.name, True, rng)

    def _finish(
        self,
        photo: Photo,
        things: Sequence[Thing],
        voices: list[Voice],
        leader: str,
        noisy: bool,
        rng: np.random.Generator,
    ) -> Plan:
        if noisy and rng.random() < _BED_SHARE:
            voices += self._bed(rng.uniform(-28, -10), rng)
        noise_db = float(rng.uniform(-75, -35)) if noisy and rng.random() < _NOISE_SHARE else None
        gain_db = float(rng.uniform(-18, 0))
        return Plan(photo, tuple(things), tuple(voices), leader, noise_db, gain_db)

    def _people(self, photo: Photo) -> list[Instance]:
        """Those that are large enough to hold something."""
        large = [e for e in photo.instances if e.share >= _LEAST_PERSON and not e.crowd]
        return [each for each in large if self._classes[each.name].group == "human"]

    def _list_photos(self) -> dict[str, list[Photo]]:
        """Photographs by a class that they show well, or else at all."""
        shown: dict[str, list[Photo]] = {name: [] for name in self._classes}
        for photo in self._photos:
            for name in {each.name for each in photo.instances}:
                shown[name].append(photo)
        return {
            name: [photo for photo in photos if photo.share(name) >= _LEAST_LEADER] or photos
            for name, photos in shown.items()
        }

    def _list_cutouts(self, files: Mapping[str, Sequence[Path]]) -> dict[str, list[Cutout]]:
        """Cut-outs by class: files, and whole instances of photographs (no people)."""
        found: dict[str, list[Cutout]] = {name: list(files.get(name, ())) for name in self._classes}
        for photo in self._photos:
            for each in photo.instances:
                left, top, width, height = each.box
                whole = min(left, top, 1 - left - width, 1 - top - height) > 0.01
                human = self._classes[each.name].group == "human"
                if whole and not each.crowd and not human and each.share >= _LEAST_CUT:
                    found[each.name].append((photo, each))
        return found

    def _known(self, name: str) -> float:
        """1 for a class with enough pictures; less, lest the same few return all the time."""
        pictures = len(self._showing[name]) + len(self._cutouts[name])
        return max(0.1, min(1.0, pictures / _FEW_PICTURES)) ** 0.5

    def _photo_without(
        self, absent: Sequence[SceneClass], plain: bool, rng: np.random.Generator
    ) -> Photo:
        """A photograph that shows nothing like some classes; ``plain``: nor any other."""
        pool = self._plain if plain and self._plain else self._photos
        for _ in range(_TRIES):
            photo = _choose(pool, rng)
            if not any(_resembles_one(each, self._shown(photo)) for each in absent):
                break
        return photo

    def _shown(self, photo: Photo) -> list[SceneClass]:
        return [self._classes[each.name] for each in photo.instances]

    def _guests(
        self, photo: Photo, taken: Sequence[SceneClass], rng: np.random.Generator
    ) -> list[Thing]:
        """Cut-outs of other classes, of which it is not yet said whether they sound."""
        seen = [*taken, *self._shown(photo)]
        guests: list[Thing] = []
        for _ in range(int(rng.choice(list(_GUEST_COUNTS), p=list(_GUEST_COUNTS.values())))):
            fitting = [
                each
                for each in self._classes.values()
                if self._cutouts[each.name] and not _resembles_one(each, seen)
            ]
            if fitting:
                guest, people = _choose(fitting, rng), self._people(photo)
                held = guest.group == "music" and people and rng.random() < _OVER_PERSON_SHARE
                over = _choose(people, rng) if held else None
                cutout = _choose(self._cutouts[guest.name], rng)
                guests.append(Thing(guest.name, cutout=cutout, over=over))
                seen.append(guest)
        return guests

    def _neighbours(
        self, photo: Photo, schedules: Mapping[str, tuple[bool, ...]], rng: np.random.Generator
    ) -> list[Thing]:
        """The annotated objects of a photograph; of a class that is heard all sound, of people
        those in front, or the largest alone."""
        least = dict.fromkeys(schedules, 0.0)
        for name in schedules:
            if self._classes[name].group == "human":
                largest = max((e.share for e in photo.instances if e.name == name), default=0.0)
                least[name] = largest * (1.0 if rng.random() < _SOLO_SHARE else 0.3)
        things = []
        for each in photo.instances:
            sounds = each.share >= least.get(each.name, 2.0)
            things.append(Thing(each.name, schedules[each.name] if sounds else SILENCE, each))
        return things

    def _voice(
        self, name: str, sounding: tuple[bool, ...], rng: np.random.Generator, gain_db: float = 0
    ) -> Voice:
        folders = self._recordings[name]
        shares = np.sqrt([len(files) for files in folders])
        files = folders[int(rng.choice(len(folders), p=shares / shares.sum()))]
        return Voice(name, _some(files, rng), sounding, gain_db + float(rng.uniform(-10, 0)))

    def _bed(self, gain_db: float, rng: np.random.Generator) -> list[Voice]:
        """Ambience throughout the clip; empty where there are no recordings of any."""
        options = _some(self._ambience, rng)
        return [Voice("", options, (True,) * CLIP_SECONDS, gain_db)] if options else []


def _resembles_one(each: SceneClass, others: Sequence[SceneClass]) -> bool:
    return any(each.resembles(other) for other in others)


def _schedules(count: int, rng: np.random.Generator) -> list[tuple[bool, ...]]:
    drawn = draw_schedules(count, CLIP_SECONDS, rng)
    if rng.random() < _THROUGHOUT_SHARE:
        drawn[:] = True
    return [tuple(bool(flag) for flag in schedule) for schedule in drawn]


def _choose(options: Sequence[_Option], rng: np.random.Generator) -> _Option:
    return options[int(rng.integers(len(options)))]


def _some(files: Sequence[Path], rng: np.random.Generator) -> tuple[Path, ...]:
    """Up to eight files in random order: a recording that is silent or broken is passed over."""
    return tuple(files[i] for i in rng.permutation(len(files))[:8])
