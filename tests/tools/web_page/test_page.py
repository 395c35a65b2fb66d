"""The page's answers: what is refused, what is told, and to whom."""

import html
import re
from types import SimpleNamespace

import films
import listening_model
import numpy as np
import pytest
import soundfile
from films import write_film
from PIL import Image

pytest.importorskip("gradio")

from transavs.engine.predictor import VideoPredictor
from transavs.tools.web_page import page as page_module
from transavs.tools.web_page.examples import Example
from transavs.tools.web_page.gate import COOKIE
from transavs.tools.web_page.page import ITS_OWN, MY_FILE, NOTHING, Limits, Page
from transavs.tools.web_page.sessions import Sessions

SIDE = listening_model.SIZE[0]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return VideoPredictor(listening_model.write_config(folder), folder / "model.pth", "cpu")


@pytest.fixture
def example(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for second in range(2):
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(frames / f"{second}.png")
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, films.tone(440)(np.arange(32_000) / 16_000), 16_000)
    return Example("drawn 1: disc", ("disc",), frames, sound, drawn=True)


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions", 600.0)


@pytest.fixture
def page(predictor, sessions, example):
    return Page(predictor, sessions, [example], Limits(seconds=3.0))


def request_of(session):
    return SimpleNamespace(headers={"cookie": f"{COOKIE}={session.key}"}, session_hash="abc")


def answer(page, session, clip=MY_FILE, film=None, sound=ITS_OWN, lent=None, **wishes):
    wish = {"view": "mask", "own_rule": True, "threshold": 0.5} | wishes
    lent, film = (None if path is None else str(path) for path in (lent, film))
    return page.answer(
        clip,
        film,
        sound,
        lent,
        **wish,
        request=request_of(session),
        progress=lambda *arguments, **options: None,
    )


def alert(markup):
    (text,) = re.findall(r'role="alert">(.*?)</p>', markup)
    return html.unescape(text)


def uploaded(session, name="film.mp4", seconds=1.0, **options):
    return write_film(session.new_upload() / name, seconds, **options)


def test_an_example_with_every_sound(page, sessions, example):
    session = sessions.start()
    own = answer(page, session, example.title)
    assert "with its own sound" in own and "100 % of them have a mask" in own
    silent = answer(page, session, example.title, sound=NOTHING)
    assert "0 % of them" in silent.split("Before:")[0] and "with its own sound" in silent
    swapped = answer(page, session, example.title, sound=f"of {example.title}")
    assert swapped.count('class="transavs-result"') == 2 and "own sound" not in swapped
    # Every address on the page is there for its owner.
    for result, name in re.findall(r"/results/(\w+)/([\w.]+)", swapped):
        assert session.result_file(result, name) is not None


def test_another_users_file_is_refused(page, sessions):
    anna, bert = sessions.start(), sessions.start()
    path = uploaded(anna)
    assert "1 moments" in answer(page, anna, film=path)
    assert alert(answer(page, bert, film=path)) == (
        "your film is not here any more: upload it anew"
    )
    assert "not here any more" in alert(answer(page, anna, film="/etc/passwd"))
    own = uploaded(bert)
    assert "your sound is not here" in alert(answer(page, bert, film=own, sound=MY_FILE, lent=path))


def test_mistakes_are_told_in_a_line(page, sessions, example):
    session = sessions.start()
    assert alert(answer(page, session)) == "choose a film of yours first"
    path = uploaded(session)
    assert alert(answer(page, session, film=path, sound=MY_FILE)) == "choose a sound of yours first"
    assert "there is no drawn 9" in alert(answer(page, session, "drawn 9"))
    objects = answer(page, session, film=path, view="objects", own_rule=False)
    assert "leave the threshold out" in alert(objects)
    long = uploaded(session, seconds=4.0)
    assert "lasts 4.0 s: this page takes up to 3 s" in alert(answer(page, session, film=long))
    mute = uploaded(session, voices=())
    text = alert(answer(page, session, film=path, sound=MY_FILE, lent=mute))
    assert "film.mp4" in text and "sound" in text and "/" not in text


def test_words_are_no_film(page, sessions):
    session = sessions.start()
    path = session.new_upload() / "words_&_more.mp4"
    path.write_text("These are words.\n" * 100)
    markup = answer(page, session, film=path)
    assert "words_&amp;_more.mp4" in markup and "as a film" in alert(markup)
    assert str(session.folder) not in markup and "/" not in alert(markup)


def test_a_failure_keeps_what_was_there(page, sessions, example, monkeypatch, caplog):
    session = sessions.start()
    answer(page, session, example.title)

    def fail(*arguments):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(page_module, "mark_film", fail)
    for _ in range(3):
        markup = answer(page, session, example.title)
    assert "Something went wrong" in alert(markup) and "a mistake of ours" in caplog.text
    assert "a mistake of ours" not in markup
    results = re.findall(r"/results/(\w+)/film.mp4", markup)
    assert [session.result_file(each, "film.mp4") is not None for each in results] == [True]


def test_without_a_session(page):
    stranger = SimpleNamespace(key="mine")
    assert "needs its cookie" in alert(answer(page, stranger))


def test_files_can_be_deleted(page, sessions, example):
    session = sessions.start()
    answer(page, session, film=uploaded(session))
    *_, text = page.delete(request_of(session))
    assert "are deleted" in text and not session.folder.exists()
    assert answer(page, session, example.title).count('class="transavs-result"') == 1


def test_work_for_a_page_that_is_gone_stops(page, sessions, example, monkeypatch):
    session = sessions.start()
    original = page_module.mark_film

    def close_and_mark(*arguments):
        sessions.end_all()
        return original(*arguments)

    monkeypatch.setattr(page_module, "mark_film", close_and_mark)
    assert "deleted before this was done" in alert(answer(page, session, example.title))
    assert not session.folder.exists()


def test_open_and_closed_pages_are_noted(page, sessions):
    session = sessions.start()
    page.open_page(request_of(session))
    assert session.pages == {"abc"}
    page.close_page(request_of(session))
    assert not session.pages


def test_what_the_model_knows_is_said(page, predictor, sessions, example, monkeypatch):
    assert "Nothing tells which classes" in page._introduction()
    monkeypatch.setattr(predictor, "known_classes", ("dog", "cow"))
    text = page._introduction()
    assert "**dog, cow**" in text and "knows no other" in text and "strange to it" in text
    monkeypatch.setattr(predictor, "known_classes", ("disc", "star"))
    assert "strange" not in page._introduction()
