"""Examples: drawn ones always, those of the demo set where it is composed."""

import json

import pytest

from transavs.data.demo.drawn import make_drawn_assets
from transavs.tools.web_page import examples
from transavs.tools.web_page.examples import draw_examples, find_examples
from transavs.video import FrameFolder


@pytest.fixture(autouse=True, scope="module")
def assets_once():
    """Drawing the shapes and their timbres takes seconds."""
    assets = make_drawn_assets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "make_drawn_assets", lambda: assets)
        yield


def test_drawn_examples(tmp_path):
    found = draw_examples(tmp_path, 2)
    assert [each.title.partition(":")[0] for each in found] == ["drawn 1", "drawn 2"]
    for each in found:
        assert each.drawn and each.names and all(name in each.title for name in each.names)
        film = FrameFolder(each.frames, each.sound)
        assert film.duration == 5 and film.sound().window(0, 80_000).abs().max() > 0.05


def test_clips_of_the_demo_set_come_first(tmp_path, demo_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(demo_root))
    folder = demo_root / "transavs_demo"
    (folder / "demo.json").write_text(json.dumps({"source": "real"}))
    found = find_examples(tmp_path)
    own = [each for each in found if not each.drawn]
    assert own and len(found) == len(own) + 4 and found[: len(own)] == own
    for each in own:
        assert each.title.startswith("demo set, unseen 1") or "test 1" in each.title
        assert folder in each.sound.parents
        assert FrameFolder(each.frames, each.sound).has_sound
    # Never a clip that models were trained on.
    described = json.loads((folder / "Multi-sources/ms3_data/objects.json").read_text())
    splits = {described[each.frames.name]["split"] for each in own}
    assert splits <= {"unseen", "test"}


@pytest.mark.parametrize("manifest", ["{", '{"source": "real"}', '{"source": "drawn"}'])
def test_a_demo_set_that_cannot_be_used(tmp_path, monkeypatch, manifest):
    root = tmp_path / "data"
    (root / "transavs_demo").mkdir(parents=True)
    (root / "transavs_demo" / "demo.json").write_text(manifest)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    assert all(each.drawn for each in find_examples(tmp_path / "drawn"))
