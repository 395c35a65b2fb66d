"""The guard: folders of visitors, files for their owner alone, and bounded, expected requests."""

import asyncio
import json
import os
import time

import pytest

pytest.importorskip("gradio")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from transavs.apps.web import guard
from transavs.apps.web.guard import COOKIE, MOST_LARGE_UPLOADS, UPLOAD, Guard, Visitors, check_files

LIMIT = 100_000
ADDRESS = "http://127.0.0.1"
JOIN = "/gradio_api/queue/join"


async def behind(scope, receive, send):
    """What stands for Gradio: tells the path, and the body if there is one."""
    body = (await receive()).get("body", b"")
    await PlainTextResponse(body or f"behind {scope['path']}")(scope, receive, send)


@pytest.fixture
def visitors(tmp_path):
    return Visitors(tmp_path / "visitors", 600.0, LIMIT)


@pytest.fixture
def guarded(visitors):
    """A function that returns the guarded application."""

    def make(hosts=("127.0.0.1", "::1")):
        routes = [
            Route(UPLOAD, visitors.upload, methods=["POST"]),
            Route("/results/{result}/{name}", visitors.result),
            Mount("/", behind),
        ]
        return Guard(Starlette(routes=routes), visitors, hosts)

    return make


@pytest.fixture
def browser(guarded):
    """A function that makes browsers, which have loaded the page."""

    def make():
        client = TestClient(guarded(), base_url=ADDRESS)
        assert client.get("/").status_code == 200
        return client

    return make


def upload(client, name="video.mp4", content=b"video"):
    return client.post(UPLOAD, files={"files": (name, content)})


def ask(application, path, messages, **headers):
    """Status and body of the answer to a POST whose messages come one by one, then nothing."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    sent = []

    async def receive():
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    return (sent[0]["status"], sent[1]["body"]) if sent else None


def form_headers(key):
    return {"cookie": f"{COOKIE}={key}", "content-type": "multipart/form-data; boundary=x"}


PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'


def test_each_browser_gets_a_cookie_once(guarded, browser, visitors):
    client = browser()
    key = client.cookies[COOKIE]
    assert "set-cookie" not in client.get("/").headers and client.cookies[COOKIE] == key
    cookie = browser().get("/", headers={"cookie": ""}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert key not in cookie and len(key) >= 32
    # One's own making is none.
    for made in ("mine", "", "..", "a=b; c", key.upper()):
        assert visitors.find({COOKIE: made}) is None
    own = TestClient(guarded(None), cookies={COOKIE: "mine"})
    assert "set-cookie" in own.get("/").headers and own.get("/config").status_code == 200


def test_uploads_lie_apart_and_their_paths_tell_no_secret(browser, visitors):
    one, two = browser(), browser()
    # The same video of two visitors, in two places.
    paths = [upload(client).json()[0] for client in (one, two)]
    folders = [visitors.find(client.cookies) for client in (one, two)]
    owned = [[visitors.owns(folder, path) for path in paths] for folder in folders]
    assert owned == [[True, False], [False, True]]
    assert one.cookies[COOKIE] not in paths[0]
    # Nor may a link or a path through the folder lead elsewhere.
    around = f"{folders[1]}/uploads/../../{folders[0].name}/uploads/a"
    link = visitors.new_folder(folders[1], "uploads") / "video.mp4"
    link.symlink_to(paths[0])
    for path in (around, str(link), "/etc/passwd", "", ".", "a\0b", "x" * 5000, None, 5):
        assert not visitors.owns(folders[1], path), path
    assert not visitors.owns(None, paths[0])


@pytest.mark.parametrize(
    "name", ["../../etc/a.mp4", "..", ".hidden", "a/b\\c.mp4", "漢" * 300 + ".mp4", "x" * 500, "\n"]
)
def test_names_of_uploads_stay_in_their_folder(browser, visitors, name):
    client = browser()
    answer = upload(client, name)
    there = [path for path in visitors.root.rglob("*") if path.is_file()]
    if answer.status_code == 200:
        assert visitors.owns(visitors.find(client.cookies), answer.json()[0])
        assert [str(path) for path in there] == answer.json()
    else:
        assert answer.status_code == 400 and not there


def test_uploads_that_are_refused(guarded, browser, visitors):
    client = browser()
    headers = {"content-type": "multipart/form-data; boundary=x"}

    def parts():  # Without a stated length as well.
        yield PART
        for _ in range(20):
            yield bytes(10_000)
        yield b"\r\n--x--\r\n"

    def many_words():  # Neither is what is no file.
        yield b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        yield from (bytes(10_000) for _ in range(20))

    two = [("files", ("a.mp4", b"a")), ("files", ("b.mp4", b"b"))]
    for status, answer in (
        (413, upload(client, content=bytes(LIMIT + 10))),
        (413, upload(client, content=bytes(10 * LIMIT))),
        (413, client.post(UPLOAD, content=parts(), headers=headers)),
        (413, client.post(UPLOAD, content=many_words(), headers=headers)),
        (400, client.post(UPLOAD, data={"files": "words"})),
        (400, client.post(UPLOAD, files={"other": ("a", b"words")})),
        (400, client.post(UPLOAD, files=two)),
        (400, client.post(UPLOAD, content=b"words", headers=headers)),
        (403, upload(TestClient(guarded(None), base_url=ADDRESS))),
    ):
        assert answer.status_code == status, answer.text
    assert not [path for path in visitors.root.rglob("*") if path.is_file()]
    assert upload(client, content=bytes(LIMIT)).status_code == 200


@pytest.mark.parametrize("path", [UPLOAD, JOIN])
def test_a_request_that_breaks_off(guarded, visitors, path):
    key, folder = visitors.start()
    messages = [
        {"type": "http.request", "body": PART + b"video", "more_body": True},
        {"type": "http.disconnect"},
    ]
    # No traceback: people close pages.
    ask(guarded(None), path, messages, **form_headers(key))
    assert not messages and not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", [UPLOAD, JOIN])
def test_a_request_that_stands_still(guarded, visitors, monkeypatch, path):
    monkeypatch.setattr(guard, "_PATIENCE_SECONDS", 0.01)
    key, folder = visitors.start()
    messages = [{"type": "http.request", "body": PART + b"video", "more_body": True}]
    status, body = ask(guarded(None), path, messages, **form_headers(key))
    assert status == 408 and b"stood still" in body
    # What it brought, and what it had announced, is free again.
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert visitors._coming_bytes == 0


def test_all_visitors_share_the_room(browser, visitors):
    """Each keeps four uploads; a thousand visitors would fill any disk."""
    answers = []
    for _ in range(MOST_LARGE_UPLOADS // 4 + 1):
        client = browser()
        answers += [upload(client, content=bytes(LIMIT - 1000)) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert "try again" in answers[-1].text and answers[-1].headers["retry-after"]
    assert visitors.kept_bytes() <= MOST_LARGE_UPLOADS * LIMIT
    visitors.sweep(keep_seconds=-1)
    assert visitors.kept_bytes() == 0
    # What others have announced counts.
    visitors._coming_bytes = (MOST_LARGE_UPLOADS - 1) * LIMIT + 1
    client = browser()
    assert upload(client, content=bytes(LIMIT)).status_code == 503
    visitors._coming_bytes = 0
    assert upload(client, content=bytes(LIMIT)).status_code == 200


def test_no_room_for_an_upload(browser, visitors, monkeypatch):
    async def fail(*arguments):
        raise OSError(28, "No space left on device")

    client = browser()
    monkeypatch.setattr(guard, "upload_fn", fail)
    answer = upload(client)
    assert answer.status_code == 507 and "No space left on device" in answer.text


def test_results_are_served_to_their_owner_alone(browser, visitors):
    one, two = browser(), browser()
    folder = visitors.new_folder(visitors.find(one.cookies), "results")
    for name in ("video.mp4", "secret.txt"):
        (folder / name).write_bytes(bytes(range(100)))
    address = f"/results/{folder.name}/video.mp4"
    answer = one.get(address)
    assert answer.content == bytes(range(100)) and "no-store" in answer.headers["cache-control"]
    part = one.get(address, headers={"range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == bytes(range(10, 20))
    assert one.get(f"/results/{folder.name}/secret.txt").status_code == 404
    assert one.get(f"/results/{folder.name}/masks.zip").status_code == 404
    foreign, missing = two.get(address), two.get(f"/results/{'0' * 32}/video.mp4")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.content == missing.content
    two.cookies.clear()
    assert two.get(address).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/run/predict",
        "/gradio_api/stream/a/b/1/playlist-file",
        "/gradio_api/runs",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/monitoring",
        "/login",
        "/docs",
        "/openapi.json",
        "/results/../../etc/passwd",
        "/results/%2e%2e/%2e%2e/etc/passwd",
        "/config/../gradio_api/file=/etc/passwd",
    ],
)
def test_there_is_nothing_else(browser, path):
    client = browser()
    assert client.get(path).status_code == 404
    assert client.post(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", JOIN])
def test_the_page_itself_passes(browser, path):
    answer = browser().get(path)
    assert answer.text == f"behind {path}"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_requests_of_foreign_pages(guarded, browser):
    client = browser()
    for headers in (
        {"host": "elsewhere.example"},
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        *({"host": half} for half in ("[", "[::1", "")),
        *({"origin": f"http://{half}"} for half in ("[", "[::1")),
    ):
        assert client.get("/", headers=headers).status_code == 403, headers
    assert client.get("/", headers={"origin": ADDRESS}).status_code == 200
    assert client.get("/", headers={"host": "[::1]:7860"}).status_code == 200
    anywhere = TestClient(guarded(None), base_url="http://lab.example")
    assert anywhere.get("/").status_code == 200


def test_bodies_are_limited_json(browser):
    client = browser()
    assert client.post(JOIN, content=bytes(2_000_000)).status_code == 413
    parts = (b" " * 600_000 for _ in range(2))
    assert client.post(JOIN, content=parts).status_code == 413
    for body in (b"", b"{", b"\xff\xff", b"[" * 100_000, b'{"path": '):
        assert client.post(JOIN, content=body).status_code == 400


def test_requests_name_own_files_alone(browser, visitors):
    client, other = browser(), browser()
    (own,), (foreign,) = upload(client).json(), upload(other).json()
    folder = visitors.find(client.cookies)
    body = {"data": ["clip", {"path": own, "meta": {"_type": "gradio.FileData"}}, None, 0.5]}
    assert client.post(JOIN, json=body).json() == body
    # Deleted or not: the page tells the difference.
    os.remove(own)
    assert client.post(JOIN, json=body).status_code == 200
    result = str(visitors.new_folder(folder, "results") / "video.mp4")
    for path in (
        *(
            foreign,
            result,
            f"{folder}/uploads/../../a",
            "/etc/passwd",
            "/dev/zero",
            "",
            ".",
            "a\0b",
        ),
        *(5, None, [own], {"a": own}, {"path": own}, "http://example.org/video.mp4"),
    ):
        for hidden in ({"path": path}, {"event_data": [[{"path": path}]]}, [{"path": path}]):
            assert client.post(JOIN, json=hidden).status_code == 403, path
    for text in (
        '{"\\u0070ath": "/etc/passwd"}',
        json.dumps({"path": "/etc/passwd"})[:-1] + f', "path": "{own}"}}',
        f'{{"path": "{own}", "path": "/etc/passwd"}}',
    ):
        assert client.post(JOIN, content=text.encode()).status_code == 403, text
    client.cookies.clear()
    assert client.post(JOIN, json=body).status_code == 403
    with pytest.raises(guard.HTTPException):
        check_files(json.dumps(body).encode(), None)


def test_old_files_make_room(visitors):
    _, folder = visitors.start()
    made = {kind: [visitors.new_folder(folder, kind) for _ in range(6)] for kind in guard._KEPT}
    assert [path.exists() for path in made["uploads"]] == [False] * 2 + [True] * 4
    assert [path.exists() for path in made["results"]] == [False] * 3 + [True] * 3


def idle(folder, seconds):
    os.utime(folder, (time.time() - seconds,) * 2)


def test_idle_visitors_lose_their_files(visitors):
    (_, lazy), (key, busy) = visitors.start(), visitors.start()
    for folder in (lazy, busy):
        visitors.new_folder(folder, "uploads")
        idle(folder, 590)
    visitors.sweep()
    assert lazy.exists() and busy.exists()
    idle(lazy, 601), idle(busy, 601)
    assert visitors.find({COOKIE: key}) == busy
    visitors.sweep()
    assert not lazy.exists() and busy.exists()
    with pytest.raises(FileNotFoundError):
        visitors.new_folder(lazy, "uploads")


def test_a_closed_page_takes_its_files_with_it(visitors):
    def seconds_left():
        return 600 - (time.time() - folder.stat().st_mtime)

    key, folder = visitors.start()
    for page in "ab":
        visitors.note_page(folder, page, True)
    visitors.note_page(folder, "a", False)
    assert seconds_left() > 590
    visitors.note_page(folder, "b", False)
    assert 50 < seconds_left() < 61
    # A page that is loaded anew closes and is seen again.
    visitors.find({COOKIE: key})
    assert seconds_left() > 590


def test_too_many_visitors(visitors, monkeypatch):
    monkeypatch.setattr(guard, "_MOST_VISITORS", 2)
    (_, first), (_, second) = visitors.start(), visitors.start()
    idle(first, 10)
    _, third = visitors.start()
    assert [folder.exists() for folder in (first, second, third)] == [False, True, True]


def test_files_go_while_the_page_runs_and_at_its_end(visitors, monkeypatch):
    monkeypatch.setattr(guard, "_SWEEP_SECONDS", 0.01)

    async def run():
        async with visitors.lifespan(None):
            (_, lazy), (_, busy) = visitors.start(), visitors.start()
            idle(lazy, 601)
            while lazy.exists():
                await asyncio.sleep(0.01)
            assert busy.exists()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert not list(visitors.root.iterdir())
