"""What Gradio's own means leave open: the files of visitors are kept apart, and requests bounded.

Gradio serves the files of everybody to whoever knows their paths, copies the files that a request
names and fetches those that are addresses, keeps uploads that broke off, and bounds no sum. Here
the secret in a browser's cookie leads to a folder of its own, whose age says when it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gradio.route_utils import MultiPartException, upload_fn
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transavs.apps.web.marking import RESULT_FILES

COOKIE = "transavs_session"
UPLOAD = "/gradio_api/upload"
# The page's own routes, and what of Gradio it needs.
_OPEN = re.compile(
    r"/|/(?:config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(?:assets|static|svelte)/.*"
    r"|/gradio_api/(?:info|app_id|startup-events|queue/(?:join|data)|cancel|reset|heartbeat/\w+)/?"
    rf"|{UPLOAD}(?:_progress)?|/results/[0-9a-f]{{32}}/[a-z]+\.[a-z0-9]+"
)
# A browser that keeps to this calls nobody else, whatever Gradio's front end tries.
_HEADERS = {
    "content-security-policy": "default-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# All visitors together, and what is on its way, take as much as so many of the largest uploads.
MOST_LARGE_UPLOADS = 50
# Of a visitor; two results are shown, and one is in the making.
_KEPT = {"uploads": 4, "results": 3}
_MOST_VISITORS = 1000
_MOST_REQUEST_BYTES = 1_000_000
_FORM_BYTES = 1 << 16  # Beside an uploaded file there are its name and boundaries.
# A body of which nothing came for so long has broken off, whatever its connection says.
_PATIENCE_SECONDS = 60.0
_AFTER_CLOSING_SECONDS = 60.0  # A page that is loaded anew closes first.
_SWEEP_SECONDS = 20.0


class Visitors:
    """All visitors: a folder for each, whose time of change is when they were seen last.

    Args:
        root: folder of the folders; is made.
        keep_seconds: how long the files of an idle visitor are kept.
        most_bytes: the largest upload.
    """

    def __init__(self, root: Path, keep_seconds: float, most_bytes: int) -> None:
        self.root, self.keep_seconds, self.most_bytes = root, keep_seconds, most_bytes
        self._pages: defaultdict[Path, set[str]] = defaultdict(set)
        self._coming_bytes = 0.0  # What the uploads on their way have announced.
        root.mkdir(parents=True, exist_ok=True)

    def find(self, cookies: Mapping[str, str]) -> Path | None:
        """Returns the folder of a visitor, who counts as seen now, or None for a stranger."""
        folder = self._folder(cookies.get(COOKIE, ""))
        with contextlib.suppress(OSError):
            os.utime(folder)
            return folder
        return None

    def start(self) -> tuple[str, Path]:
        """Returns the secret and the folder of a new visitor; of too many, the idlest one goes."""
        known = sorted(self.root.iterdir(), key=lambda path: _stat(path).st_mtime)
        for folder in known[: -_MOST_VISITORS + 1]:
            shutil.rmtree(folder, ignore_errors=True)
        key = secrets.token_urlsafe(24)
        self._folder(key).mkdir()
        return key, self._folder(key)

    def new_folder(self, visitor: Path, kind: str) -> Path:
        """Returns a new folder for ``kind``, "uploads" or "results"; of too many, the oldest goes.

        Raises:
            FileNotFoundError: the visitor's files were deleted.
        """
        parent = visitor / kind
        parent.mkdir(exist_ok=True)
        for old in sorted(parent.iterdir())[: -_KEPT[kind] + 1]:
            shutil.rmtree(old, ignore_errors=True)
        folder = parent / f"{time.time_ns():016x}{secrets.token_hex(8)}"
        folder.mkdir()
        return folder

    @staticmethod
    def owns(visitor: Path | None, path: object) -> bool:
        """Returns whether a path lies among the visitor's uploads, still there or not."""
        try:
            found = Path(str(path)).resolve()
        except (ValueError, OSError):  # It holds a zero byte, or is endless.
            return False
        return visitor is not None and (visitor / "uploads").resolve() in found.parents

    def note_page(self, visitor: Path, page: str, opened: bool) -> None:
        """Notes that a page is open or closed: the last one takes the files with it in a minute."""
        pages = self._pages[visitor]
        (pages.add if opened else pages.discard)(page)
        if not pages:
            due = time.time() - max(0.0, self.keep_seconds - _AFTER_CLOSING_SECONDS)
            with contextlib.suppress(OSError):
                os.utime(visitor, (due, due))

    def sweep(self, keep_seconds: float | None = None) -> None:
        """Deletes the folders of visitors who were idle for longer; -1 deletes all of them."""
        limit = time.time() - (self.keep_seconds if keep_seconds is None else keep_seconds)
        for folder in list(self.root.iterdir()):
            if _stat(folder).st_mtime < limit:
                self._pages.pop(folder, None)
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Sweeps while an application runs; at its end all files go, and work for them stops."""

        async def keep_sweeping() -> None:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                await run_in_threadpool(self.sweep)

        sweeper = asyncio.create_task(keep_sweeping())
        try:
            yield
        finally:
            sweeper.cancel()
            self.sweep(keep_seconds=-1)

    def kept_bytes(self) -> int:
        """Returns how many bytes the files of all visitors take."""
        walk = os.walk(self.root)
        return sum(_stat(Path(top, name)).st_size for top, _, names in walk for name in names)

    async def upload(self, request: Request) -> Response:
        """Answers with the path of an uploaded file, as Gradio does, or says what was wrong."""
        visitor = self.find(request.cookies)
        if visitor is None:
            raise HTTPException(403, "load the page anew, with cookies")
        length = request.headers.get("content-length", "")
        announced = min(int(length) if length.isdecimal() else math.inf, self.most_bytes)
        kept = await run_in_threadpool(self.kept_bytes)
        if kept + self._coming_bytes + announced > MOST_LARGE_UPLOADS * self.most_bytes:
            text = "this page holds as many files as it can: try again in some minutes"
            raise HTTPException(503, text, {"retry-after": "300"})
        self._coming_bytes += announced
        try:
            return JSONResponse([str(await self._take(request, visitor))])
        except (MultiPartException, TypeError) as error:
            code = 413 if "maximum allowed size" in str(error) else 400
            raise HTTPException(code, str(error)) from None
        except OSError as error:  # The disk is full, or the visitor's files were deleted.
            raise HTTPException(507, f"the file could not be kept ({error.strerror})") from None
        finally:
            self._coming_bytes -= announced

    async def _take(self, request: Request, visitor: Path) -> Path:
        folder = self.new_folder(visitor, "uploads")
        try:
            files, _, _ = await upload_fn(request, folder, self.most_bytes, None)
            if len(files) != 1:
                raise HTTPException(400, "expected one file")
        except BaseException:  # Also of a browser that went away: Gradio leaves what broke off.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Path(files[0])

    async def result(self, request: Request) -> Response:
        """Serves a file of a result to the visitor whose it is."""
        visitor, name = self.find(request.cookies), request.path_params["name"]
        path = (visitor or self.root) / "results" / request.path_params["result"] / name
        # "Not there" and "not yours" must look the same.
        if visitor is None or name not in RESULT_FILES or not path.is_file():
            raise HTTPException(404, "no such file")
        return FileResponse(path, headers={"cache-control": "private, no-store"})

    def _folder(self, key: str) -> Path:
        # Paths of uploads are told to the page, which must not learn the key.
        return self.root / hashlib.sha256(key.encode(errors="replace")).hexdigest()[:32]


class Guard:
    """An ASGI application around that of the page, which checks every request.

    Args:
        app: the page's.
        visitors: all visitors.
        hosts: names by which the page may be asked for (another one stems from a foreign page that
            had its name point here); None allows all.
    """

    def __init__(self, app: ASGIApp, visitors: Visitors, hosts: tuple[str, ...] | None) -> None:
        self._app, self.visitors, self._hosts = app, visitors, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        request = Request(scope)
        key = ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if key:
                    cookie = f"{COOKIE}={key}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append("set-cookie", cookie)
            await send(message)

        try:
            receive = _bounded(receive, self._check(request), _PATIENCE_SECONDS)
            visitor = self.visitors.find(request.cookies)
            if visitor is None and scope["path"] == "/":
                key, visitor = self.visitors.start()
            if request.method not in ("GET", "HEAD") and scope["path"] != UPLOAD:
                body = await Request(scope, receive).body()
                check_files(body, visitor)
                receive = _after(body, receive)
            await self._app(scope, receive, send_with_headers)
        except HTTPException as error:
            refusal = JSONResponse({"detail": error.detail}, error.status_code)
            await refusal(scope, receive, send_with_headers)
        except (ClientDisconnect, asyncio.CancelledError):
            pass  # People close pages, and the server ends although some are open.

    def _check(self, request: Request) -> int:
        """Returns how many bytes a request may have; raises HTTPException for a refused one."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        try:
            known = self._hosts is None or urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:  # Half of an IPv6 address.
            known = False
        if not known or (origin is not None and origin.partition("://")[2] != host):
            raise HTTPException(403, "not from here")
        path = request.scope["path"]
        if not _OPEN.fullmatch(path):
            raise HTTPException(404, "no such page")
        return self.visitors.most_bytes if path == UPLOAD else _MOST_REQUEST_BYTES


def check_files(body: bytes, visitor: Path | None) -> None:
    """Raises HTTPException for JSON that names other files than uploads of the visitor."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        # Pairs, not a dict: a name may stand there twice.
        if not all(Visitors.owns(visitor, value) for name, value in pairs if name == "path"):
            raise HTTPException(403, "this file is not here: load the page anew, with cookies")

    try:
        json.loads(body, object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"expected JSON ({error})") from None


def _bounded(receive: Receive, most_bytes: int, seconds: float) -> Receive:
    """A ``receive`` that raises HTTPException where a body is too large, or nothing more comes."""
    taken, ended = 0, False

    async def receive_bounded() -> Message:
        nonlocal taken, ended
        try:
            message = await asyncio.wait_for(receive(), None if ended else seconds)
        except asyncio.TimeoutError:
            raise HTTPException(408, "the request stood still for too long") from None
        taken += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if taken > most_bytes + _FORM_BYTES:
            megabytes = most_bytes / 1e6
            raise HTTPException(413, f"this is larger than the {megabytes:g} MB that are taken")
        return message

    return receive_bounded


def _after(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body which was read already, and then what comes."""
    read = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return read.pop() if read else await receive()

    return receive_again


def _stat(path: Path) -> os.stat_result:
    """What the system says about a path; zeros if it is gone."""
    with contextlib.suppress(OSError):
        return path.stat()
    return os.stat_result([0] * 10)
