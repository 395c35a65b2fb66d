"""The gate: cookies, files for their owner alone, and no route that the page does not need."""

import asyncio

import pytest

pytest.importorskip("starlette")

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from transavs.tools.web_page.gate import (
    COOKIE,
    MOST_LARGE_UPLOADS,
    Gate,
    safe_name,
    session_key,
)
from transavs.tools.web_page.sessions import Sessions

LIMIT = 100_000
ADDRESS = "http://127.0.0.1"


async def behind(scope, receive, send):
    """What stands for Gradio."""
    await PlainTextResponse(f"behind {scope['path']}")(scope, receive, send)


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions", 600.0)


@pytest.fixture
def browser(sessions):
    """A function that makes browsers, which have loaded the page."""

    def make():
        client = TestClient(Gate(behind, sessions, LIMIT, ("127.0.0.1",)), base_url=ADDRESS)
        assert client.get("/").status_code == 200
        return client

    return make


def session_of(sessions, client):
    return sessions.find(client.cookies[COOKIE])


def upload(client, name="film.mp4", content=b"film"):
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def test_each_browser_gets_a_cookie_once(browser, sessions):
    client = browser()
    key = client.cookies[COOKIE]
    answer = client.get("/")
    assert "set-cookie" not in answer.headers and client.cookies[COOKIE] == key
    fresh = TestClient(Gate(behind, sessions, LIMIT, None)).get("/")
    cookie = fresh.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert key not in cookie


def test_a_cookie_of_ones_own_making_is_none(sessions):
    client = TestClient(Gate(behind, sessions, LIMIT, None), cookies={COOKIE: "mine"})
    assert "set-cookie" in client.get("/").headers
    assert sessions.find("mine") is None


def test_uploads_go_into_the_sessions_folder(browser, sessions):
    one, two = browser(), browser()
    # The same film of two users, in two places.
    paths = [upload(client).json()[0] for client in (one, two)]
    assert paths[0] != paths[1]
    assert session_of(sessions, one).owns(paths[0])
    assert not session_of(sessions, one).owns(paths[1])
    assert session_of(sessions, two).owns(paths[1])


def test_names_of_uploads_stay_in_their_folder(browser, sessions):
    client = browser()
    (path,) = upload(client, "../../etc/<b>film</b>.mp4").json()
    assert session_of(sessions, client).owns(path) and path.endswith("/b_.mp4")
    assert safe_name("Kühe auf der Wiese.mp4") == "Kühe_auf_der_Wiese.mp4"
    assert safe_name("..") == "file" and safe_name("a/b\\.hidden") == "hidden"
    assert len(safe_name("x" * 500 + ".mp4")) == 104
    # File systems count bytes.
    long = safe_name("\u6f22" * 90 + ".mp4")
    assert long == "\u6f22" * 60 + ".mp4"
    assert upload(client, "\u6f22" * 90 + ".mp4").status_code == 200


def test_uploads_that_are_refused(browser, sessions):
    client = browser()
    large = upload(client, content=bytes(LIMIT + 100_000))
    assert large.status_code == 413 and "larger than the 0.1 MB" in large.text

    # Without a stated length as well.
    def parts():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
        for _ in range(20):
            yield bytes(10_000)
        yield b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/gradio_api/upload", content=parts(), headers=headers).status_code == 413
    assert upload(client, content=bytes(LIMIT - 10)).status_code == 200
    assert client.post("/gradio_api/upload", data={"files": "words"}).status_code == 400
    two = [("files", ("a.mp4", b"a")), ("files", ("b.mp4", b"b"))]
    assert client.post("/gradio_api/upload", files=two).status_code == 400
    stranger = TestClient(Gate(behind, sessions, LIMIT, None), base_url=ADDRESS)
    assert upload(stranger).status_code == 403


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_an_upload_that_breaks_off(sessions, path):
    session = sessions.start()
    headers = {
        "cookie": f"{COOKIE}={session.key}",
        "content-type": "multipart/form-data; boundary=x",
    }
    messages = [
        {"type": "http.request", "body": b"--x\r\n", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }

    async def receive():
        return messages.pop(0)

    async def send(_):
        pass

    # No traceback: people close pages.
    asyncio.run(Gate(behind, sessions, LIMIT, None)(scope, receive, send))
    assert not messages and not list(sessions.root.rglob("*.*"))


def test_all_sessions_share_the_room(browser, sessions):
    """Each keeps four uploads; a thousand sessions would fill any disk."""
    content = bytes(LIMIT - 1000)
    answers = []
    for _ in range(MOST_LARGE_UPLOADS // 4 + 1):
        client = browser()
        answers += [upload(client, content=content) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert "try again" in answers[-1].text and answers[-1].headers["retry-after"]
    most = MOST_LARGE_UPLOADS * LIMIT
    assert most - 2 * LIMIT < sessions.kept_bytes() <= most
    session_of(sessions, client).delete_files()
    sessions.end_all()
    assert sessions.kept_bytes() == 0
    assert upload(browser(), content=content).status_code == 200


def test_an_upload_that_stands_still(sessions, monkeypatch):
    monkeypatch.setattr("transavs.tools.web_page.gate._PATIENCE_SECONDS", 0.01)
    session = sessions.start()
    headers = {
        "cookie": f"{COOKIE}={session.key}",
        "content-type": "multipart/form-data; boundary=x",
        "content-length": "1000",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/gradio_api/upload",
        "query_string": b"",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    sent = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    gate = Gate(behind, sessions, LIMIT, None)
    asyncio.run(gate(scope, receive, send))
    assert sent[0]["status"] == 408 and b"stood still" in sent[1]["body"]
    # What it had announced is free again.
    assert gate._coming_bytes == 0


def test_no_room_for_an_upload(browser, sessions, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    client = browser()
    monkeypatch.setattr("transavs.tools.web_page.gate._copy", fail)
    answer = upload(client)
    assert answer.status_code == 507 and "No space left on device" in answer.text


def test_results_are_served_to_their_owner_alone(browser, sessions):
    one, two = browser(), browser()
    folder = session_of(sessions, one).new_result()
    (folder / "film.mp4").write_bytes(bytes(range(100)))
    address = f"/results/{folder.name}/film.mp4"
    answer = one.get(address)
    assert answer.content == bytes(range(100)) and "no-store" in answer.headers["cache-control"]
    part = one.get(address, headers={"range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == bytes(range(10, 20))
    foreign, missing = two.get(address), two.get(f"/results/{'0' * 32}/film.mp4")
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
        "/monitoring",
        "/login",
        "/docs",
        "/results/../../etc/passwd",
        "/config/../gradio_api/file=/etc/passwd",
    ],
)
def test_there_is_nothing_else(browser, path):
    client = browser()
    assert client.get(path).status_code == 404
    assert client.post(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/join"])
def test_the_page_itself_passes(browser, path):
    answer = browser().get(path)
    assert answer.text == f"behind {path}"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_requests_of_foreign_pages(browser, sessions):
    client = browser()
    assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 403
    assert client.get("/", headers={"origin": "http://elsewhere.example"}).status_code == 403
    assert client.get("/", headers={"origin": ADDRESS}).status_code == 200
    for half in ("[", "[::1"):
        assert client.get("/", headers={"host": half}).status_code == 403
        assert client.get("/", headers={"origin": f"http://{half}"}).status_code == 403
    anywhere = TestClient(Gate(behind, sessions, LIMIT, None), base_url="http://lab.example")
    assert anywhere.get("/").status_code == 200


def test_bodies_are_limited(browser):
    answer = browser().post("/gradio_api/queue/join", content=bytes(2_000_000))
    assert answer.status_code == 413


def test_cookies_that_are_none():
    assert session_key("") is None and session_key("a=b; c") is None
    assert session_key(f"a=b; {COOKIE}=key") == "key"


def test_requests_name_own_files_alone(sessions):
    async def echo(scope, receive, send):
        body = (await receive())["body"]
        assert dict(scope["headers"]).get(b"content-length", b"0") == str(len(body)).encode()
        await PlainTextResponse(body or b"page")(scope, receive, send)

    client = TestClient(Gate(echo, sessions, LIMIT, None), base_url=ADDRESS)
    client.get("/")
    (own,) = upload(client).json()
    body = {"data": [{"path": own}, {"path": "/etc/passwd"}]}
    answer = client.post("/gradio_api/queue/join", json=body).json()
    assert answer == {"data": [{"path": own}, {"path": str(sessions.root / "gone")}]}
    # Without a stated length as well.
    parts = (b" " * 600_000 for _ in range(2))
    assert client.post("/gradio_api/queue/join", content=parts).status_code == 413
    answer = client.post("/gradio_api/queue/join", content=b"{")
    assert answer.status_code == 400 and answer.text.startswith("expected JSON")
