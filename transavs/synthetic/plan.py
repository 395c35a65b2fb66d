"""Decides what a clip shows and lets hear, without decoding a file.

A clip has a class that leads it, drawn by the weights, so that rare classes are heard about as often
as common ones. Mostly the class is shown: in a photograph that is annotated with it, or as a cut-out
in front of another photograph, an instrument half of the time over a person. Other clips let it be
heard from off screen, hear only what is no class, or hear nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from transavs.data.demo.casting import CLIP_SECONDS, draw_schedules
from transavs.synthetic.sources import Instance, Photo, SceneClass, Sources

_Option = TypeVar("_Option")

#: Split of a set -> the parts whose pictures and whose recordings it uses.
SPLITS = {
    "train": ("train", "train"),
    "val": ("train", "train"),
    "test": ("heldout", "train"),
    "wild": ("heldout", "heldout"),
}

SILENCE = (False,) * CLIP_SECONDS

_KINDS = {"shown": 0.76, "off screen": 0.14, "ambience": 0.06, "silent": 0.04}
_PHOTO_SHARE = 0.6  # where a class has photographs and cut-outs
_OVER_PERSON_SHARE = 0.5
_BACKGROUND_SHARE = 0.5  # of what is pasted elsewhere: before a photograph without classes
_GUEST_COUNTS = {0: 0.55, 1: 0.33, 2: 0.12}
_GUEST_SOUNDS = 0.35
_NEIGHBOUR_SOUNDS = {"human": 0.1}
_OTHER_NEIGHBOUR_SOUNDS = 0.25
_MOST_SOUNDING = 3
_THROUGHOUT_SHARE = 0.35
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
        instance: its place in the clip's photograph; None for what is pasted.
        cutout: what is pasted: a file, or an instance of another photograph.
        over: the person before whom it is pasted.
        sounding: one flag a second.
    """

    name: str
    sounding: tuple[bool, ...] = SILENCE
    instance: Instance | None = None
    cutout: Path | tuple[Photo, Instance] | None = None
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
        self._pictures, self._sounds = SPLITS[split]
        self._sources = sources
        self._photos = sources.photos[self._pictures]
        self._recordings = sources.sounds[self._sounds]
        self._cutouts = self._list_cutouts()
        self._showing = {name: self._photos_of(name) for name in sources.classes}
        self._plain = [photo for photo in self._photos if not photo.instances]
        self._with_people = [photo for photo in self._photos if self._people(photo)]
        self._heard = [each for name, each in sources.classes.items() if self._recordings[name]]
        if not self._photos or not self._heard:
            raise ValueError(
                f"the split {split} needs photographs of the part {self._pictures} and recordings "
                f"of the part {self._sounds}: give more files, or ask for no clip of it"
            )
        weights = np.array([each.weight * self._known(each) for each in self._heard])
        self._shares = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> Plan:
        """Returns the contents of a clip."""
        leader = self._heard[int(rng.choice(len(self._heard), p=self._shares))]
        kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
        if kind == "shown" and (self._showing[leader.name] or self._cutouts[leader.name]):
            return self._draw_shown(leader, rng)
        hidden = leader if kind in ("shown", "off screen") else None
        photo = self._photo_without(hidden, rng.random() < 0.3, rng)
        things = [*self._neighbours(photo, rng, {}), *self._guests(photo, [hidden], rng)]
        voices = []
        if hidden is not None:
            voices.append(self._voice(hidden.name, _schedules(1, rng)[0], rng))
        elif kind == "ambience" and self._sources.ambience[self._sounds]:
            voices.append(self._ambience(rng.uniform(-12, 0), rng))
        return self._finish(photo, things, voices, "", kind != "silent", rng)

    def _draw_shown(self, leader: SceneClass, rng: np.random.Generator) -> Plan:
        inside = self._showing[leader.name]
        pasted: list[Thing] = []
        cuts = self._cutouts[leader.name]
        if inside and (not cuts or rng.random() < _PHOTO_SHARE):
            photo = _choose(inside, rng)
        else:
            photo, over = self._place_for(leader, rng)
            pasted.append(Thing(leader.name, cutout=_choose(cuts, rng), over=over))
        guests = self._guests(photo, [leader], rng)
        # What the picture shows, whether it sounds or not; then who sounds.
        names = {leader.name}
        for guest in guests:
            if rng.random() < _GUEST_SOUNDS:
                names.add(guest.name)
        for name in {each.name for each in photo.instances} - names:
            share = _NEIGHBOUR_SOUNDS.get(self._class(name).group, _OTHER_NEIGHBOUR_SOUNDS)
            if photo.share(name) >= _LEAST_LEADER and rng.random() < share:
                names.add(name)
        heard = [
            leader.name,
            *sorted(each for each in names - {leader.name} if self._recordings[each]),
        ]
        heard = _without_likeness([self._class(each) for each in heard])[:_MOST_SOUNDING]
        schedules = dict(zip(heard, _schedules(len(heard), rng), strict=True))
        things = self._neighbours(photo, rng, schedules)
        pasted += guests
        for i in rng.permutation(len(pasted)):
            sounding = schedules.get(pasted[i].name, SILENCE)
            things.append(replace(pasted[i], sounding=sounding))
        voices = [self._voice(name, schedule, rng) for name, schedule in schedules.items()]
        if rng.random() < _BESIDE_SHARE:
            shown = [self._class(name) for name in {each.name for each in things}]
            absent = [
                each for each in self._heard if not any(each.resembles(other) for other in shown)
            ]
            if absent:
                beside = _choose(absent, rng)
                voices.append(self._voice(beside.name, _schedules(1, rng)[0], rng, -12))
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
        if noisy and self._sources.ambience[self._sounds] and rng.random() < _BED_SHARE:
            voices.append(self._ambience(rng.uniform(-28, -10), rng))
        noise_db = float(rng.uniform(-75, -35)) if noisy and rng.random() < _NOISE_SHARE else None
        gain_db = float(rng.uniform(-18, 0))
        return Plan(photo, tuple(things), tuple(voices), leader, noise_db, gain_db)

    def _list_cutouts(self) -> dict[str, list[Path | tuple[Photo, Instance]]]:
        """Cut-outs by class: files, and whole instances of photographs (no people)."""
        found: dict[str, list[Path | tuple[Photo, Instance]]] = {
            name: list(self._sources.cutouts[self._pictures].get(name, ()))
            for name in self._sources.classes
        }
        for photo in self._photos:
            for each in photo.instances:
                left, top, width, height = each.box
                whole = min(left, top, 1 - left - width, 1 - top - height) > 0.01
                human = self._class(each.name).group == "human"
                if whole and not each.crowd and not human and each.share >= _LEAST_CUT:
                    found[each.name].append((photo, each))
        return found

    def _class(self, name: str) -> SceneClass:
        return self._sources.classes[name]

    def _known(self, each: SceneClass) -> float:
        """1 for a class with enough pictures; less, lest the same few return all the time."""
        pictures = len(self._showing[each.name]) + len(self._cutouts[each.name])
        return max(0.1, min(1.0, pictures / _FEW_PICTURES)) ** 0.5

    def _photo_without(
        self, absent: SceneClass | None, plain: bool, rng: np.random.Generator
    ) -> Photo:
        """A photograph that shows nothing like a class; ``plain``: nor any other."""
        pool = self._plain if plain and self._plain else self._photos
        for _ in range(_TRIES):
            photo = _choose(pool, rng)
            if absent is None or not self._shows(photo, absent):
                break
        return photo

    def _photos_of(self, name: str) -> list[Photo]:
        """Photographs that show a class well, or else at all."""
        shares = [(photo, photo.share(name)) for photo in self._photos]
        large = [photo for photo, share in shares if share >= _LEAST_LEADER]
        return large or [photo for photo, share in shares if share > 0]

    def _shows(self, photo: Photo, like: SceneClass) -> bool:
        return any(self._class(each.name).resembles(like) for each in photo.instances)

    def _place_for(
        self, pasted: SceneClass, rng: np.random.Generator
    ) -> tuple[Photo, Instance | None]:
        """A photograph to paste a class into, and the person before whom, or None."""
        if pasted.group == "music" and rng.random() < _OVER_PERSON_SHARE:
            if self._with_people:
                photo = _choose(self._with_people, rng)
                return photo, _choose(self._people(photo), rng)
        return self._photo_without(pasted, rng.random() < _BACKGROUND_SHARE, rng), None

    def _people(self, photo: Photo) -> list[Instance]:
        return [
            each
            for each in photo.instances
            if self._class(each.name).group == "human"
            and each.share >= _LEAST_PERSON
            and not each.crowd
        ]

    def _guests(
        self, photo: Photo, taken: Sequence[SceneClass | None], rng: np.random.Generator
    ) -> list[Thing]:
        """Cut-outs of other classes, of which it is not yet said whether they sound."""
        count = int(rng.choice(list(_GUEST_COUNTS), p=list(_GUEST_COUNTS.values())))
        seen = [each for each in taken if each is not None]
        guests: list[Thing] = []
        for _ in range(count):
            fitting = [
                each
                for each in self._sources.classes.values()
                if self._cutouts[each.name]
                and not self._shows(photo, each)
                and not any(each.resembles(other) for other in seen)
            ]
            if not fitting:
                break
            guest = _choose(fitting, rng)
            seen.append(guest)
            people = self._people(photo)
            held = guest.group == "music" and people and rng.random() < _OVER_PERSON_SHARE
            over = _choose(people, rng) if held else None
            cut = _choose(self._cutouts[guest.name], rng)
            guests.append(Thing(guest.name, cutout=cut, over=over))
        return guests

    def _neighbours(
        self, photo: Photo, rng: np.random.Generator, schedules: dict[str, tuple[bool, ...]]
    ) -> list[Thing]:
        """The annotated objects of a photograph; of a class that is heard all sound, of people
        those in front, or the largest alone."""
        least = dict.fromkeys(schedules, 0.0)
        for name in schedules:
            if self._class(name).group == "human":
                largest = max((e.share for e in photo.instances if e.name == name), default=0.0)
                least[name] = largest * (1.0 if rng.random() < _SOLO_SHARE else 0.3)
        return [
            Thing(
                each.name,
                schedules[each.name] if each.share >= least.get(each.name, 2.0) else SILENCE,
                instance=each,
            )
            for each in photo.instances
        ]

    def _voice(
        self, name: str, sounding: tuple[bool, ...], rng: np.random.Generator, gain_db: float = 0
    ) -> Voice:
        folders = self._recordings[name]
        shares = np.sqrt([len(files) for files in folders])
        files = folders[int(rng.choice(len(folders), p=shares / shares.sum()))]
        return Voice(name, _some(files, rng), sounding, gain_db + float(rng.uniform(-10, 0)))

    def _ambience(self, gain_db: float, rng: np.random.Generator) -> Voice:
        options = _some(self._sources.ambience[self._sounds], rng)
        return Voice("", options, (True,) * CLIP_SECONDS, gain_db)


def _without_likeness(classes: Sequence[SceneClass]) -> list[str]:
    """The names of those that resemble no earlier one."""
    kept: list[SceneClass] = []
    for each in classes:
        if not any(each.resembles(other) for other in kept):
            kept.append(each)
    return [each.name for each in kept]


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
