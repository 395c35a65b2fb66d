"""eval_videos: scores of a model that is known by heart, on films drawn here."""

import json
import re

import avsbench_trees
import listening_model
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

from films import tone, write_film  # noqa: E402

from transavs.tools.eval_videos import main  # noqa: E402

# ListeningModel marks the dog (value 1) of these objects whenever it hears anything.
OBJECTS = avsbench_trees.object_map(listening_model.SIZE)
DOG = 100 * listening_model.MARKED_PIXELS / listening_model.OBJECT_PIXELS


def quiet(seconds):
    return np.zeros_like(seconds)


@pytest.fixture
def labels(tmp_path):
    """A dog that barks, a guitar beside its player, who is marked, and a dog nobody hears."""
    (tmp_path / "films").mkdir()
    (tmp_path / "masks").mkdir()
    picture = lambda seconds: np.full((*listening_model.SIZE, 3), 90, np.uint8)  # noqa: E731
    for name, voice in (("dog", tone(400)), ("guitar", tone(600)), ("late", quiet)):
        write_film(tmp_path / "films" / f"{name}.mp4", 2.0, picture=picture, voices=(voice,))
    masks = {"dog": OBJECTS == 1, "guitar": OBJECTS == 2, "player": OBJECTS == 1}
    for name, mask in masks.items():
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    lines = [
        {"file": "dog.mp4", "seconds": 1.0, "classes": {"1": "dog"}, "mask": "dog.png"},
        {
            "file": "guitar.mp4", "seconds": 0.55, "classes": {"1": "guitar"}, "mask": "guitar.png",
            "distractors": ["person (player)"], "distractor_mask": "player.png",
        },
        {"file": "late.mp4", "seconds": 1.05, "classes": {"1": "dog"}, "mask": "dog.png"},
    ]  # fmt: skip
    table = tmp_path / "labels.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)))
    return table


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return listening_model.write_options(tmp_path_factory.mktemp("model"))


def run(labels, model, *more):
    folder = labels.parent
    words = [str(labels), "--videos", str(folder / "films"), "--output", str(folder / "out")]
    return main([*words, *model, "--device", "cpu", *more])


def test_scores_and_pictures(labels, model, capsys):
    assert run(labels, model, "--classes", "dog,cat") == 0
    results = json.loads((labels.parent / "out" / "results.json").read_text())
    everything = results["all"]
    assert everything["frames"] == 3
    assert everything["J"] == pytest.approx(DOG / 3, abs=0.01)
    assert everything["hit"] == pytest.approx(100 / 3, abs=0.01)
    assert everything["nothing_marked"] == pytest.approx(100 / 3, abs=0.01)
    assert everything["marked_in_silence"] == everything["J_in_silence"] == 0
    assert everything["J_nothing"] == 0
    share = 100 * listening_model.OBJECT_PIXELS / OBJECTS.size
    assert results["by_class"]["dog"]["J_everything"] == pytest.approx(share, abs=0.01)
    # The first hears the guitar, the guitar hears the silent film, and that one the guitar.
    others = [frame["other_sound"] for frame in results["frames"]]
    assert others == ["guitar.mp4 at 0.55 s", "late.mp4 at 1.05 s", "guitar.mp4 at 0.55 s"]
    assert everything["J_other_sound"] == pytest.approx(2 * DOG / 3, abs=0.01)
    assert everything["J_other_share"] == pytest.approx(200, abs=0.1)
    assert results["known"]["frames"] == results["by_class"]["dog"]["frames"] == 2
    players = results["players"]
    assert (players["videos"], players["frames"], players["J"]) == (1, 1, 0)
    assert players["outside"] == 100 and players["player_marked"] == pytest.approx(DOG, abs=0.01)
    assert (labels.parent / "out" / "sheet_1.png").is_file()
    printed = capsys.readouterr()
    assert "with players" in printed.out and "frames: " in printed.err


def test_mistakes_are_a_line(labels, model, capsys):
    guitar = labels.parent / "masks" / "guitar.png"
    Image.fromarray(np.ones((20, 32), np.uint8)).save(guitar)
    assert run(labels, model) == 2
    assert re.search(r"guitar.png has 32 x 20 .*guitar.mp4 32 x 32", capsys.readouterr().err)
    (labels.parent / "films" / "late.mp4").unlink()
    assert run(labels, model) == 2
    assert "late.mp4" in capsys.readouterr().err and not (labels.parent / "out").exists()
    labels.write_text("{}")
    assert run(labels, model) == 2
    assert "labels.jsonl, line 1" in capsys.readouterr().err
