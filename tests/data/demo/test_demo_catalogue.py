"""What the demo set may use, and what only ``unseen`` may use."""

from __future__ import annotations

import pytest

from transavs.data.demo import catalogue


def test_default_classes() -> None:
    names = [each.name for each in catalogue.DEFAULT_CLASSES]
    assert names[:5] == ["dog", "cow", "horse", "duck", "songbird"]
    assert names[5:] == ["cymbal", "acoustic guitar", "violin"]
    held_out = [each.name for each in catalogue.DEFAULT_CLASSES if each.held_out is not None]
    assert held_out == ["dog", "cow", "horse", "duck", "songbird"]


def test_held_out_recordings_are_used_by_nothing_else() -> None:
    classes = catalogue.CLASS_SETS["all"]
    training = {reference for each in classes for reference in each.recordings}
    held_out = [each.held_out for each in classes if each.held_out is not None]
    assert len(set(held_out)) == len(held_out)
    assert not training & set(held_out)


def test_every_file_belongs_to_one_class() -> None:
    classes = catalogue.CLASS_SETS["all"]
    files = [file for each in classes for file in (*each.pictures, *each.recordings)]
    assert len(set(files)) == len(files)
    assert not set(files) & set(catalogue.SILENT_PICTURES)
    categories = {each.category for each in classes}
    assert len(categories) == len({each.name for each in classes}) == len(classes)
    assert {each.group for each in classes} == {"animal", "music", "vehicle"}


def test_no_speech_no_mirrored_copies_no_drawings() -> None:
    for reference in catalogue.file_references(catalogue.CLASS_SETS["all"]):
        assert "_desc" not in reference and "_mirror" not in reference
        assert reference.endswith((".png", ".ogg", ".jpg", ".webp"))
    assert "bg:sheep.jpg" not in catalogue.BACKGROUNDS
    assert set(catalogue.ATTRIBUTIONS) <= set(catalogue.BACKGROUNDS)


def test_a_fifth_of_the_backgrounds_is_held_out() -> None:
    count = len(catalogue.BACKGROUNDS)
    held_out = sum(map(catalogue.is_held_out_background, range(count)))
    assert count == 67 and held_out == 13


def test_classes_named() -> None:
    assert catalogue.classes_named("default") == catalogue.DEFAULT_CLASSES
    assert len(catalogue.classes_named("all")) > 30
    picked = catalogue.classes_named("violin, sea lion")
    assert [each.name for each in picked] == ["violin", "sea lion"]
    with pytest.raises(ValueError, match=r"unknown demo classes \['unicorn'\]"):
        catalogue.classes_named("dog,unicorn")
    for selection in ("dog", "dog,dog"):
        with pytest.raises(ValueError, match="at least two different"):
            catalogue.classes_named(selection)
