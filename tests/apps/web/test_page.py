"""The page: its command line, its examples, what it makes and what it refuses."""

import html
import json
import re
import socket
import sys
import zipfile
from types import SimpleNamespace

import films
import listening_model
import numpy as np
import pytest
import soundfile
from films import write_film
from PIL import Image
from pycocotools import mask as coco_mask

pytest.importorskip("gradio")

from transavs.apps.web import build_parser, examples, main
from transavs.apps.web import page as page_module
from transavs.apps.web.examples import Example, find_examples
from transavs.apps.web.guard import COOKIE, Visitors
from transavs.apps.web.marking import RESULT_FILES
from transavs.apps.web.page import ITS_OWN, MY_FILE, NOTHING, Page
from transavs.data.demo.drawn import make_drawn_assets
from transavs.engine.predictor import VideoPredictor
from transavs.video import FilmFile, FrameFolder

SIDE = listening_model.SIZE[0]
TITLE = "drawn 1: disc"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--weights", "model.pth"), "--weights"),
        (("--port", "70000"), "--port"),
        (("--max-seconds", "0"), "--max-seconds"),
        (("--max-megabytes", "-1"), "--max-megabytes"),
        (("--max-megabytes", "inf"), "--max-megabytes"),
        (("--keep-minutes", "nan"), "--keep-minutes"),
        (("--at-once", "0"), "--at-once"),
        (("--longest-side", "0"), "--longest-side"),
        (("--host", "203.0.113.7"), "203.0.113.7"),
    ],
)
def test_options_that_are_mistakes(capsys, options, named):
    assert main(options) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("listening", [True, False])
def test_a_port_that_is_taken(capsys, listening):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        assert main(["--port", str(other.getsockname()[1])]) == 2
    assert "another --port" in capsys.readouterr().err


def test_without_gradio(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main([]) == 2
    assert 'pip install "transavs[web]"' in capsys.readouterr().err


def test_there_is_no_way_to_share():
    arguments = vars(build_parser().parse_args([]))
    assert arguments["host"] == "127.0.0.1" and "share" not in arguments
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--share"])


@pytest.fixture(scope="module")
def assets():
    """Drawing the shapes and their timbres takes seconds."""
    assets = make_drawn_assets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "make_drawn_assets", lambda: assets)
        yield


def test_examples_of_the_demo_set_come_first(assets, tmp_path, demo_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(demo_root))
    folder = demo_root / "transavs_demo"
    (folder / "demo.json").write_text(json.dumps({"source": "real"}))
    found = find_examples(tmp_path, count=2)
    own, drawn = found[:-2], found[-2:]
    assert own and [each.title.partition(":")[0] for each in drawn] == ["drawn 1", "drawn 2"]
    # Never a clip that models were trained on.
    described = json.loads((folder / "Multi-sources/ms3_data/objects.json").read_text())
    assert {described[each.frames.name]["split"] for each in own} <= {"unseen", "test"}
    assert all(folder in each.audio.parents for each in own)
    for each in found:
        video = FrameFolder(each.frames, each.audio)
        assert video.has_sound and video.sound().window(0, 80_000).abs().max() > 0.05


@pytest.mark.parametrize("manifest", ["{", '{"source": "real"}', '{"source": "drawn"}'])
def test_a_demo_set_that_cannot_be_used(assets, tmp_path, monkeypatch, manifest):
    root = tmp_path / "data"
    (root / "transavs_demo").mkdir(parents=True)
    (root / "transavs_demo" / "demo.json").write_text(manifest)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    assert [each.title[:7] for each in find_examples(tmp_path / "new", 1)] == ["drawn 1"]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return VideoPredictor(listening_model.write_config(folder), folder / "model.pth", "cpu")


@pytest.fixture
def visitors(tmp_path):
    return Visitors(tmp_path / "visitors", 600.0, 1_000_000)


@pytest.fixture
def page(predictor, visitors, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for second in range(2):
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(frames / f"{second}.png")
    audio = tmp_path / "audio.wav"
    soundfile.write(audio, films.tone(440)(np.arange(32_000) / 16_000), 16_000)
    return Page(predictor, visitors, [Example(TITLE, frames, audio)], max_seconds=3.0)


class Visitor:
    """Somebody with a browser, who has what was shown before."""

    def __init__(self, page, visitors):
        self.page, self.before = page, {}
        key, self.folder = visitors.start()
        starlette = SimpleNamespace(cookies={COOKIE: key})
        self.request = SimpleNamespace(request=starlette, session_hash="abc")

    def ask(self, clip=MY_FILE, video=None, audio=ITS_OWN, lent=None, **wishes):
        wish = {"view": "mask", "own_rule": True, "threshold": 0.5} | wishes
        lent, video = (None if path is None else str(path) for path in (lent, video))
        shown, self.before = self.page.answer(
            *(clip, video, audio, lent, *wish.values(), self.before),
            request=self.request,
            progress=lambda *arguments, **options: None,
        )
        return shown

    def told(self, *args, **wishes):
        (text,) = re.findall(r'role="alert">(.*?)</p>', self.ask(*args, **wishes))
        return html.unescape(text)

    def upload(self, name="video.mp4", seconds=1.0, **options):
        folder = self.page.visitors.new_folder(self.folder, "uploads")
        return write_film(folder / name, seconds, **options)


@pytest.fixture
def visitor(page, visitors):
    return Visitor(page, visitors)


def test_an_example_with_every_audio(page, visitor):
    own = visitor.ask(TITLE)
    assert (
        f"{TITLE}; audio: the video's own; view: mask" in html.unescape(own)
        and "100% of them have a mask" in own
    )
    silent = visitor.ask(TITLE, audio=NOTHING)
    assert " 0% of them" in silent.split("Before:")[0] and "own; view" in silent
    swapped = visitor.ask(TITLE, audio=f"of {TITLE}")
    assert swapped.count('class="transavs-result"') == 2 and "own; view" not in swapped
    # Every address on the page is there.
    addresses = set(re.findall(r"/(results/\w+/[\w.]+)", swapped))
    assert len(addresses) == 2 * len(RESULT_FILES)
    assert all((visitor.folder / address).is_file() for address in addresses)


def test_every_file_says_the_same(visitor):
    video = visitor.upload(
        seconds=3.0,
        picture=lambda _: np.zeros((SIDE, SIDE, 3), np.uint8),
        voices=(lambda seconds: np.where(seconds < 1, films.tone(440)(seconds), 0.0),),
    )
    shown = visitor.ask(video=video)
    assert "3.0 s, 3 frames shown to the model: 33% of them have a mask" in shown
    assert f"{listening_model.MARKED_SHARE / 3:.1%} of the frame" in shown
    (folder,) = (visitor.folder / "results").iterdir()
    assert {file.name for file in folder.iterdir()} == set(RESULT_FILES)
    assert FilmFile(folder / "video.mp4").duration == pytest.approx(3.0, abs=0.05)
    with zipfile.ZipFile(folder / "masks.zip") as archive:
        names = archive.namelist()
        masks = [np.array(Image.open(archive.open(name))) for name in names]
    assert names == [f"masks/00000{second}500.png" for second in range(3)]
    assert [set(np.unique(mask)) for mask in masks] == [{0, 255}, {0}, {0}]
    (entry,) = json.loads((folder / "masks.json").read_text())
    assert (coco_mask.decode(entry["segmentation"]) * 255 == masks[0]).all()
    timeline = np.array(Image.open(folder / "timeline.png")).astype(int)
    third = timeline.shape[1] // 3
    heard = timeline[120:248].sum(2).max(0) > 300
    assert heard[:third].mean() > 0.95 > 0.1 > heard[third + 5 :].mean()
    pink = (timeline[:120, :, 0] - timeline[:120, :, 1]) > 60
    assert pink[:, :third].sum() > 100 and not pink[:, third:].any()


def test_a_threshold(visitor):
    low = visitor.ask(TITLE, own_rule=False, threshold=0.0005)
    assert "threshold 0.0005" in low and f"{listening_model.MARKED_SHARE:.1%}" not in low


def test_another_visitors_file_is_refused(page, visitors):
    anna, bert = Visitor(page, visitors), Visitor(page, visitors)
    path, own = anna.upload(), bert.upload()
    assert "1 frames" in anna.ask(video=path)
    for foreign in (path, "/etc/passwd", path.parent, "http://127.0.0.1/video.mp4"):
        assert "your video is not here any more" in bert.told(video=foreign)
        assert "your audio is not here" in bert.told(video=own, audio=MY_FILE, lent=foreign)


def test_mistakes_are_told_in_a_line(visitor):
    assert "with your video" in visitor.told()
    path = visitor.upload()
    assert "with your audio" in visitor.told(video=path, audio=MY_FILE)
    assert "drawn 9" in visitor.told("drawn 9")
    assert "threshold" in visitor.told(video=path, view="objects", own_rule=False)
    long = visitor.upload("long.mp4", seconds=4.0)
    assert "long.mp4 lasts 4.0 s: this page takes up to 3 s" in visitor.told(video=long)
    mute = visitor.upload("mute.mp4", voices=())
    text = visitor.told(video=path, audio=MY_FILE, lent=mute)
    assert "mute.mp4" in text and "/" not in text


def test_words_are_no_video(visitor):
    path = visitor.upload("words_&_more.mp4")
    path.write_text("These are words.\n" * 100)
    text = visitor.told(video=path)
    assert "words_&_more.mp4" in text and "/" not in text
    shown = visitor.ask(video=path)
    assert "words_&amp;_more.mp4" in shown and visitor.folder.name not in shown


def test_a_failure_keeps_what_was_there(visitor, monkeypatch, caplog):
    visitor.ask(TITLE)

    def fail(*arguments):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(page_module, "mark_video", fail)
    for _ in range(3):
        shown = visitor.ask(TITLE)
    assert "Something went wrong" in shown and "a mistake of ours" in caplog.text
    assert "a mistake of ours" not in shown
    (folder,) = (visitor.folder / "results").iterdir()
    assert f"/results/{folder.name}/video.mp4" in shown


def test_without_a_cookie(visitor):
    visitor.request.request.cookies = {COOKIE: "mine"}
    assert "needs its cookie" in visitor.told(TITLE)


def test_files_can_be_deleted(page, visitor):
    visitor.ask(video=visitor.upload())
    *_, text, visitor.before = page.delete(visitor.request)
    assert "deleted" in text and not list(visitor.folder.iterdir())
    assert visitor.ask(TITLE).count('class="transavs-result"') == 1


def test_work_for_a_visitor_who_is_gone_stops(visitors, visitor, monkeypatch):
    original = page_module.mark_video
    done = []

    def leave_and_mark(*arguments):
        visitors.sweep(keep_seconds=-1)
        *rest, progress, should_stop = arguments
        return original(*rest, done.append, should_stop)

    monkeypatch.setattr(page_module, "mark_video", leave_and_mark)
    assert "deleted before this was done" in visitor.told(TITLE)
    assert not visitor.folder.exists() and not done

    def mark_and_leave(*arguments):
        original(*arguments)
        visitors.sweep(keep_seconds=-1)
        return original(*arguments)

    monkeypatch.setattr(page_module, "mark_video", mark_and_leave)
    other = Visitor(visitor.page, visitors)
    assert "deleted before this was done" in other.told(TITLE)
    assert not other.folder.exists()


def test_open_and_closed_pages_are_noted(page, visitors, visitor):
    page.open_page(visitor.request)
    assert visitors._pages[visitor.folder] == {"abc"}
    page.close_page(visitor.request)
    assert not visitors._pages[visitor.folder]


@pytest.mark.parametrize(
    ("classes", "said"), [((), "Nothing tells which"), (("dog", "cow"), "**dog, cow**")]
)
def test_what_the_model_knows_is_said(page, predictor, monkeypatch, classes, said):
    monkeypatch.setattr(predictor, "known_classes", classes)
    config = page.build(at_once=1).get_config_file()
    text = [each["props"].get("value", "") for each in config["components"]]
    assert any(said in str(each) for each in text)
