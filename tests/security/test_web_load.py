"""Fifty uploads at once: each gets an answer, nothing is left, and the page lives on."""

import asyncio
import json
import os
import resource
import tempfile
import time

import films
import listening_model
import numpy as np
import pytest
from films import write_film

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

from web_servers import serve_page  # noqa: E402

SIDE = listening_model.SIZE[0]
MOST_BYTES = 1_000_000
PATIENCE_SECONDS = 120
KINDS = ("good", "large", "large without length", "long", "no film", "broken off")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        with serve_page(tmp_path_factory.mktemp("web"), max_seconds=2) as server:
            server.temporary = temporary
            yield server


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """What is uploaded, by kind."""
    folder = tmp_path_factory.mktemp("films")

    def film(name, seconds):
        def black(_):
            return np.zeros((SIDE, SIDE, 3), np.uint8)

        path = folder / name
        write_film(path, seconds=seconds, picture=black, voices=(films.tone(440),))
        return path.read_bytes()

    good = film("good.mp4", 1.0)
    return {
        "good": good,
        "large": good + bytes(3 * MOST_BYTES),
        "large without length": good + bytes(3 * MOST_BYTES),
        "long": film("long.mp4", 4.0),
        "no film": b"words, and no film " * 1000,
        "broken off": good,
    }


class Browser:
    """What a browser does, without showing anything."""

    def __init__(self, server, number):
        self.server, self.name = server, f"page{number}"
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS
        )

    async def open(self):
        assert (await self.client.get("/")).status_code == 200

    async def upload(self, kind, content):
        """Status and text of the answer to an upload."""
        form = httpx.Request("POST", "http://a", files={"files": (f"<b>{kind}.mp4", content)})
        body = form.read()
        headers = {"content-type": form.headers["content-type"]}

        async def parts():
            for first in range(0, len(body), 1 << 16):
                yield body[first : first + (1 << 16)]

        whole = body if kind != "large without length" else parts()
        answer = await self.client.post("/gradio_api/upload", content=whole, headers=headers)
        return answer.status_code, answer.text

    async def break_off(self, content):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        cookies = "; ".join(f"{key}={value}" for key, value in self.client.cookies.items())
        writer.write(
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\n"
            f"Cookie: {cookies}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n')
        writer.write(content[: len(content) // 2])
        await writer.drain()
        writer.close()

    async def mark(self, path):
        """What the page shows in answer to the button, or status and text of a refusal."""
        config = (await self.client.get("/config")).json()
        (call,) = (each for each in config["dependencies"] if len(each["inputs"]) == 8)
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        data = ["a file of mine", file, "the video's own", None, "overlay", True, 0.5, None]
        data[4] = next(
            each["props"]["value"]
            for each in config["components"]
            if each["props"].get("elem_id") == "view"
        )
        joined = await self.client.post(
            "/gradio_api/queue/join",
            json={"data": data, "fn_index": call["id"], "session_hash": self.name},
        )
        if joined.status_code != 200:
            return joined.status_code, joined.text
        address = f"/gradio_api/queue/data?session_hash={self.name}"
        async with self.client.stream("GET", address) as answer:
            async for line in answer.aiter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    return 200, str(message["output"].get("data", message["output"]))
        raise AssertionError("the page said nothing")

    async def use(self, kind, content):
        """The last answer of a visit."""
        await self.open()
        if kind == "broken off":
            await self.break_off(content)
            return None
        status, text = await self.upload(kind, content)
        if status != 200:
            return status, text
        return await self.mark(json.loads(text)[0])


def memory_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_fifty_uploads_at_once(server, bodies):
    async def visit_alone(number):
        browser = Browser(server, number)
        async with browser.client:
            return await browser.use("good", bodies["good"])

    async def visit_together():
        browsers = [Browser(server, number) for number in range(50)]
        kinds = [KINDS[number % len(KINDS)] for number in range(50)]
        visits = (
            browser.use(kind, bodies[kind]) for browser, kind in zip(browsers, kinds, strict=True)
        )
        answers = await asyncio.gather(*visits)
        for browser in browsers:
            await browser.client.aclose()
        return list(zip(kinds, answers, strict=True))

    # Also what is loaded when it is first needed.
    status, text = asyncio.run(visit_alone("before"))
    assert status == 200 and "transavs-result" in text
    files, memory = open_files(), memory_bytes()
    answers = asyncio.run(visit_together())

    busy = 0
    for kind, answer in answers:
        if kind.startswith("large"):
            assert answer[0] == 413
        elif kind == "broken off":
            assert answer is None
        elif answer[0] == 503:
            busy += 1
            assert "Queue is full" in answer[1] or "try again" in answer[1]
        else:
            expected = {
                "good": "transavs-result",
                "long": "this page takes up to 2 s",
                "no film": "no film.mp4 as a",
            }[kind]
            assert answer[0] == 200 and expected in answer[1]
        assert answer is None or "<b>" + kind not in answer[1]
    # The queue holds sixteen of the 26 that ask, besides the two that are marked.
    assert busy < len(answers) - 16
    # Names of temporary files, and descriptors, are gone; memory holds no film (75 MB were sent).
    assert not [path for path in server.temporary.rglob("*") if path.is_file()]
    until = time.monotonic() + PATIENCE_SECONDS
    while open_files() > files + 4:
        assert time.monotonic() < until, "connections or files stay open"
        time.sleep(0.05)
    assert memory_bytes() - memory < 5e8
    # Of each session the uploads it may keep, and results: nothing else.
    assert server.visitors.kept_bytes() < 50 * MOST_BYTES
    status, text = asyncio.run(visit_alone("after"))
    assert status == 200 and "transavs-result" in text
