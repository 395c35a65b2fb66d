"""What composed clips contain, and which files they may be composed of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from transavs.synthetic import CLASSES, SPLITS, read_sources
from transavs.synthetic.plan import Plan, Planner
from transavs.synthetic.scene import _choose_path, read_instance
from transavs.synthetic.sources import GROUPS, Instance, Photo, Sources, Split, read_classes

ROOT = Path(__file__).resolve().parents[2]


def sources_of(material: Path) -> Sources:
    return read_sources(
        material / "classes.yaml",
        material / "coco.json",
        material / "images",
        [material / "sounds"],
        [material / "cutouts"],
        [material / "manifest.csv"],
    )


def plans(material: Path, split: str, count: int = 400) -> list[Plan]:
    planner = Planner(sources_of(material), split)
    return [planner.draw(np.random.default_rng([3, index])) for index in range(count)]


@pytest.mark.parametrize("split", SPLITS)
def test_parts_never_mix(material, split):
    pictures, sounds = SPLITS[split]
    for plan in plans(material, split):
        shown = [plan.photo.path]
        shown += [t.cutout if isinstance(t.cutout, Path) else t.cutout[0].path
                  for t in plan.things if t.cutout is not None]  # fmt: skip
        for path in shown:
            held_out = path.name.startswith(("other_", "heldout"))
            assert held_out == (pictures == "heldout"), path
        for voice in plan.voices:
            assert all(path.stem == sounds for path in voice.options)


@pytest.fixture(scope="module")
def drawn(material):
    return plans(material, "train", 600)


class TestContents:
    def test_every_class_sounds_about_as_often(self, drawn):
        counts = Counter(
            name for plan in drawn for name in {voice.name for voice in plan.voices if voice.name}
        )
        assert set(counts) == {"person", "dog", "car", "bus", "drum", "cello", "violin"}
        assert max(counts.values()) < 3 * min(counts.values())

    def test_what_sounds_is_heard_in_the_same_seconds(self, drawn):
        for plan in drawn:
            heard = {voice.name: voice.sounding for voice in plan.voices}
            for thing in plan.things:
                assert not any(thing.sounding) or thing.sounding == heard[thing.name]

    def test_what_is_heard_is_shown_or_nothing_like_it(self, drawn):
        """A recording of a class whose likeness is in the picture, silent, could not be told from
        one of that."""
        hidden = 0
        for plan in drawn:
            shown = {thing.name for thing in plan.things if any(thing.sounding)}
            seen = {thing.name for thing in plan.things}
            for voice in plan.voices:
                if voice.name and voice.name not in shown:
                    hidden += 1
                    assert voice.name not in seen
        assert hidden > 60

    def test_all_kinds_of_clips(self, drawn):
        instruments = [
            thing
            for plan in drawn
            for thing in plan.things
            if thing.name in ("drum", "cello", "violin") and any(thing.sounding)
        ]
        held = sum(thing.over is not None for thing in instruments)
        assert 0.3 < held / len(instruments) < 0.7
        assert any(not plan.voices for plan in drawn)
        assert any([v.name for v in plan.voices] == [""] for plan in drawn)
        sounding = [{t.name for t in plan.things if any(t.sounding)} for plan in drawn]
        assert any(len(names) > 1 for names in sounding)
        silent = [{t.name for t in plan.things} - names
                  for plan, names in zip(drawn, sounding, strict=True) if names]  # fmt: skip
        assert sum(map(bool, silent)) > 100
        assert any(plan.noise_db is not None for plan in drawn)

    def test_a_player_is_mostly_silent(self, drawn):
        held = [p for p in drawn if any(t.over is not None and any(t.sounding) for t in p.things)]
        singing = [p for p in held if any(t.name == "person" and any(t.sounding) for t in p.things)]
        assert 0 < len(singing) < 0.3 * len(held)


def test_a_plan_does_not_depend_on_the_hashes_of_names(material):
    """A set that is resumed in another process must be the same."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path; from test_plan import plans\n"
        "print([[v.name for v in p.voices] for p in plans(Path(sys.argv[3]), 'train', 60)])"
    )
    here = [str(ROOT), str(Path(__file__).parent), str(material)]
    found = {
        subprocess.run(
            [sys.executable, "-c", code, *here],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{[[v.name for v in p.voices] for p in plans(material, 'train', 60)]}\n"}


def test_the_shipped_classes():
    classes, ambience = read_classes(CLASSES)
    assert len(classes) >= 30 and {"rain", "wind"} <= set(ambience)
    assert {each.group for each in classes.values()} == set(GROUPS)
    assert {"speech", "laughing", "crying_baby"} <= set(classes["person"].sounds)
    assert classes["dog"].coco == ("dog",) and classes["trumpet"].coco == ()
    assert classes["bus"].resembles(classes["car"])
    assert not classes["dog"].resembles(classes["cat"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("classes: {dog: {group: fish}}", "group"),
        ("classes: {dog: {group: animal, sound: [dog]}}", "sound"),
        ("classes: {dog: {group: animal, weight: 0}}", "weight"),
        ("classes: {dog: {group: animal, sounds: dog}}", "list of names"),
        ("classes: {dog: {group: animal}, cat: {group: animal, coco: [dog]}}", "'dog' already"),
        ("dog: {group: animal}", "classes"),
    ],
)
def test_classes_that_are_refused(tmp_path, text, named):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"mine.yaml.*{named}"):
        read_classes(path)


class TestSplit:
    def test_pieces_of_one_recording_stay_together(self):
        split = Split()
        for recording in range(40):
            names = [f"3-{recording}-{piece}-0.wav" for piece in "ABC"]
            assert len({split.part(Path("dog", name)) for name in names}) == 1

    def test_a_fifth_is_held_out(self):
        parts = [Split().part(Path(f"{number}.wav")) for number in range(1000)]
        assert 150 < parts.count("heldout") < 250

    def test_a_bad_manifest(self, tmp_path):
        path = tmp_path / "files.csv"
        path.write_text("file,split\na.wav,test\n")
        with pytest.raises(ValueError, match="files.csv.*train or heldout"):
            Split([path])


def test_crops_stay_inside(material):
    """Also where rounding makes a crop larger than its photograph by a trillionth."""
    plan = Planner(sources_of(material), "train").draw(np.random.default_rng(0))
    for number in range(4000):
        height, width = 200 + number % 200, 411
        path = _choose_path(
            plan, np.zeros((height, width), np.uint8), np.random.default_rng(number)
        )
        for left, top, right, bottom in path:
            assert 0 <= left < right <= width + 1e-6 and 0 <= top < bottom <= height + 1e-6


@pytest.mark.parametrize(
    "form",
    [
        [[1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0]],
        {"counts": [2, 4, 2], "size": [2, 4]},  # by columns
    ],
)
def test_both_forms_of_a_segmentation(form):
    pixels = read_instance(
        Photo(Path("a.jpg"), 4, 2, ()), Instance("dog", form, 0.5, (0, 0, 1, 1), False)
    )
    assert pixels.tolist() == [[False, True, True, False]] * 2
