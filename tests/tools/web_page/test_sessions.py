"""Sessions: files belong to one browser, and go away."""

import pytest

from transavs.tools.web_page.sessions import Sessions


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(tmp_path, clock):
    return Sessions(tmp_path / "sessions", 600.0, clock)


def upload(session, name="film.mp4"):
    path = session.new_upload() / name
    path.write_bytes(b"film")
    return path


def test_keys_are_secret_and_files_apart(sessions):
    one, two = sessions.start(), sessions.start()
    assert one.key != two.key and len(one.key) >= 32
    assert sessions.find(one.key) is one
    assert sessions.find("nothing") is sessions.find(None) is sessions.find("") is None
    path = upload(one)
    assert one.owns(path) and not two.owns(path)
    # Nor may a link or a path through the folder lead elsewhere.
    assert not two.owns(two.new_upload() / ".." / ".." / ".." / path.relative_to(sessions.root))
    link = two.new_upload() / "film.mp4"
    link.symlink_to(path)
    assert not two.owns(link)


def test_results_are_found_by_their_owner_only(sessions):
    one, two = sessions.start(), sessions.start()
    folder = one.new_result()
    (folder / "film.mp4").write_bytes(b"film")
    (folder / "secret.txt").write_bytes(b"words")
    assert one.result_file(folder.name, "film.mp4") == folder / "film.mp4"
    assert two.result_file(folder.name, "film.mp4") is None
    assert one.result_file(folder.name, "secret.txt") is None
    assert one.result_file(folder.name, "masks.zip") is None
    assert one.result_file("..", "film.mp4") is None


def test_old_files_make_room(sessions):
    session = sessions.start()
    uploads = [upload(session) for _ in range(6)]
    assert [session.owns(path) for path in uploads] == [False] * 2 + [True] * 4
    results = [session.new_result() for _ in range(4)]
    assert [path.exists() for path in results] == [False, True, True, True]


def test_idle_sessions_end(sessions, clock):
    idle, busy = sessions.start(), sessions.start()
    upload(idle), upload(busy)
    clock.now = 599.0
    assert sessions.find(busy.key) is busy and sessions.sweep() == 0
    clock.now = 600.0
    assert sessions.sweep() == 1
    assert idle.closed and not idle.folder.exists() and sessions.find(idle.key) is None
    assert not busy.closed and busy.folder.exists()


def test_a_closed_page_takes_its_files_with_it(sessions, clock):
    session = sessions.start()
    session.pages |= {"a", "b"}
    sessions.close_page(session, "a")
    clock.now = 120.0
    assert sessions.sweep() == 0
    sessions.find(session.key)
    sessions.close_page(session, "b")
    clock.now = 179.0
    assert sessions.sweep() == 0
    clock.now = 181.0
    assert sessions.sweep() == 1
    # A page that is loaded anew closes and is seen again.
    session = sessions.start()
    sessions.close_page(session, "c")
    sessions.find(session.key)
    clock.now = 300.0
    assert sessions.sweep() == 0


def test_too_many_sessions(sessions, clock, monkeypatch):
    monkeypatch.setattr("transavs.tools.web_page.sessions._MOST_SESSIONS", 2)
    first = sessions.start()
    clock.now = 1.0
    second = sessions.start()
    third = sessions.start()
    assert first.closed and not second.closed and not third.closed


def test_the_end(sessions):
    session = sessions.start()
    upload(session)
    sessions.end_all()
    assert session.closed and not session.folder.exists()
    with pytest.raises(FileNotFoundError, match="load it anew"):
        session.new_upload()
