"""Marking: the film, its timeline and its masks say the same."""

import json
import zipfile

import films
import listening_model
import numpy as np
import pytest
from films import write_film
from PIL import Image
from pycocotools import mask as coco_mask

from transavs.engine.predictor import VideoPredictor
from transavs.tools.film_overlay import OverlayOptions
from transavs.tools.web_page.marking import mark_film
from transavs.video import FilmFile

SIDE = listening_model.SIZE[0]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return VideoPredictor(listening_model.write_config(folder), folder / "model.pth", "cpu")


@pytest.fixture
def film(tmp_path):
    path = write_film(
        tmp_path / "film.mp4",
        3.0,
        picture=lambda _: np.zeros((SIDE, SIDE, 3), np.uint8),
        voices=(lambda seconds: np.where(seconds < 1, films.tone(440)(seconds), 0.0),),
    )
    return FilmFile(path)


def test_everything_is_written_and_agrees(predictor, film, tmp_path):
    folder = tmp_path / "result"
    folder.mkdir()
    done = []
    marked = mark_film(predictor, film, "own", OverlayOptions(end=2.0), folder, done.append)
    assert {file.name for file in folder.iterdir()} == {
        "film.mp4",
        "timeline.png",
        "masks.zip",
        "masks.json",
    }
    assert marked.summary.moments == 2 and marked.summary.marked == 0.5
    assert marked.area == pytest.approx(listening_model.MARKED_SHARE / 2)
    assert done[-1] == pytest.approx(2.0)
    assert FilmFile(folder / "film.mp4").duration == pytest.approx(2.0, abs=0.05)
    with zipfile.ZipFile(folder / "masks.zip") as archive:
        names = archive.namelist()
        masks = [np.array(Image.open(archive.open(name))) > 0 for name in names]
    assert names == ["masks/000000500.png", "masks/000001500.png"]
    assert [int(mask.sum()) for mask in masks] == [listening_model.MARKED_PIXELS, 0]
    (entry,) = json.loads((folder / "masks.json").read_text())
    assert (coco_mask.decode(entry["segmentation"]).astype(bool) == masks[0]).all()
    timeline = np.array(Image.open(folder / "timeline.png")).astype(int)
    width = timeline.shape[1]
    sound = timeline[120:248].sum(2).max(0)
    assert (sound[: width // 2] > 300).mean() > 0.95 > 0.1 > (sound[width // 2 :] > 300).mean()
    # Pink in the first picture alone.
    pink = (timeline[:120, :, 0] - timeline[:120, :, 1]) > 60
    assert pink[:, : width // 2].sum() > 100 and not pink[:, width // 2 :].any()


def test_another_sound_and_a_threshold(predictor, film, tmp_path):
    silent, other = tmp_path / "silent", tmp_path / "other"
    silent.mkdir(), other.mkdir()
    assert mark_film(predictor, film, "silence", OverlayOptions(), silent).area == 0
    lent = write_film(tmp_path / "lent.mp4", 3.0, voices=(films.tone(300),))
    assert mark_film(predictor, film, lent, OverlayOptions(), other).summary.marked == 1.0
    low = mark_film(predictor, film, lent, OverlayOptions(threshold=0.0005), other).area
    assert low > listening_model.MARKED_SHARE


def test_it_can_be_stopped(predictor, film, tmp_path):
    folder = tmp_path / "result"
    folder.mkdir()
    marked = mark_film(predictor, film, "own", OverlayOptions(), folder, None, lambda: True)
    assert marked.summary.stopped and marked.summary.frames == 0
