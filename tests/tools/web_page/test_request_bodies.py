"""Bodies of requests: no file but the browser's own is named to Gradio."""

import json

import pytest

pytest.importorskip("starlette")

from transavs.tools.web_page.request_bodies import with_own_files
from transavs.tools.web_page.sessions import Sessions


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions", 600.0)


def named(path, session):
    """The path that is left of one in a request."""
    body = {"data": ["clip", {"path": path, "meta": {"_type": "gradio.FileData"}}, None, 0.5]}
    clip, file, nothing, number = json.loads(
        with_own_files(json.dumps(body).encode(), session, "gone")
    )["data"]
    assert (clip, nothing, number) == ("clip", None, 0.5)
    assert file["meta"] == {"_type": "gradio.FileData"}
    return file["path"]


def test_ones_own_uploads_pass(sessions):
    session = sessions.start()
    path = session.new_upload() / "film.mp4"
    # Deleted or not: the page tells the difference.
    assert named(str(path), session) == str(path)


def test_other_files_are_gone(sessions):
    one, two = sessions.start(), sessions.start()
    foreign = str(one.new_upload() / "film.mp4")
    result = str(two.new_result() / "film.mp4")
    around = f"{two.new_upload()}/../../../../film.mp4"
    others = (foreign, result, around, "/etc/passwd", "/dev/zero", "", ".", "a\0b", 5, None)
    for path in (*others, "http://example.org/film.mp4"):
        assert named(path, two) == "gone", path
    assert named(foreign, None) == "gone"


def test_files_hide_nowhere(sessions):
    body = json.dumps({"event_data": [{"path": {"path": "/etc/passwd"}}], "a": {"path": "/b"}})
    for key in ("path", "\\u0070ath"):
        text = body.replace('"path"', f'"{key}"')
        assert json.loads(with_own_files(text.encode(), sessions.start(), "gone")) == {
            "event_data": [{"path": "gone"}],
            "a": {"path": "gone"},
        }


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xff", b"[" * 100_000])
def test_what_is_no_json(body):
    with pytest.raises(ValueError):
        with_own_files(body, None, "gone")
