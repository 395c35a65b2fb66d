"""The gate before Gradio: who asks, what may be asked for, and files for their owner alone.

Gradio keeps the files of all users in one folder and serves them to whoever knows their paths; it
also fetches addresses for its callers. None of that is let through: uploads go into the folder of
the browser's session, results are served from there, requests may name no other files, and the
routes that the page does not need do not exist.
"""

from __future__ import annotations

import re
import shutil
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transavs.tools.web_page.request_bodies import (
    TooLargeError,
    TooSlowError,
    in_time,
    limited,
    replayed,
    with_own_files,
)
from transavs.tools.web_page.sessions import Session, Sessions

COOKIE = "transavs_session"
# What of Gradio the page needs.
_OPEN = re.compile(
    r"/|/(?:config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(?:assets|static|svelte)/.*"
    r"|/gradio_api/(?:info|app_id|startup-events|queue/(?:join|data)|cancel|reset|heartbeat/\w+)/?"
)
_UPLOAD, _UPLOAD_PROGRESS = "/gradio_api/upload", "/gradio_api/upload_progress"
# What the front end expects there when nothing more will come.
_DONE = 'data: {"msg": "done"}\n\n'
_RESULT = re.compile(r"/results/([0-9a-f]+)/([a-z]+\.[a-z0-9]+)")
# The page itself and nothing else: a browser that keeps to this calls nobody, whatever Gradio's
# front end tries.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# Beside the file there are a name and boundaries.
_FORM_BYTES = 1 << 16
_MOST_REQUEST_BYTES = 1 << 20
# All sessions together, and what is on its way, take as much as so many of the largest uploads.
MOST_LARGE_UPLOADS = 50
# An upload of which nothing came for so long has broken off, whatever its connection says.
_PATIENCE_SECONDS = 60.0
_MOST_NAME_CHARACTERS = 100
# File systems count bytes; the ending comes on top.
_MOST_NAME_BYTES = 180


class Gate:
    """ASGI application around Gradio's.

    Args:
        app: Gradio's.
        sessions: of all browsers.
        most_bytes: of an uploaded file.
        hosts: names by which the page may be asked for (another one stems from a foreign page that
            had its name point here); None allows all.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, most_bytes: int, hosts: tuple[str, ...] | None
    ) -> None:
        self._app, self._sessions = app, sessions
        self._most_bytes, self._hosts = most_bytes, hosts
        # Announced by the uploads that are on their way.
        self._coming_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        session = self._sessions.find(session_key(request.headers.get("cookie", "")))
        fresh = session is None and scope["path"] == "/"
        if fresh:
            session = self._sessions.start()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k, v) for k, v in message["headers"] if k.decode() not in _HEADERS]
                headers += [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                if fresh and session is not None:
                    cookie = f"{COOKIE}={session.key}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append((b"set-cookie", cookie.encode()))
                message = {**message, "headers": headers}
            await send(message)

        response = await self._own_response(request, session)
        if response is not None:
            await response(scope, receive, send_with_headers)
        else:
            await self._pass_on(request, session, send_with_headers)

    async def _pass_on(self, request: Request, session: Session | None, send: Send) -> None:
        """Leaves a request to Gradio; of files it may name the session's uploads alone."""
        scope, receive = request.scope, limited(request.receive, _MOST_REQUEST_BYTES)
        try:
            if request.method not in ("GET", "HEAD"):
                body = await Request(scope, receive).body()
                body = with_own_files(body, session, str(self._sessions.root / "gone"))
                scope, receive = replayed(scope, receive, body)
        except TooLargeError:
            await PlainTextResponse("too large", status_code=413)(scope, receive, send)
        except ValueError as error:
            text = f"expected JSON ({error})"
            await PlainTextResponse(text, status_code=400)(scope, receive, send)
        except ClientDisconnect:
            pass
        else:
            await self._app(scope, receive, send)

    async def _own_response(self, request: Request, session: Session | None) -> Response | None:
        """What is answered here; None leaves it to Gradio."""
        if not self._is_expected(request):
            return PlainTextResponse("not from here", status_code=403)
        path = request.url.path
        if path == _UPLOAD and request.method == "POST":
            return await self._upload(request, session)
        if path == _UPLOAD_PROGRESS and request.method == "GET":
            return Response(_DONE, media_type="text/event-stream")
        result = _RESULT.fullmatch(path)
        if result and request.method in ("GET", "HEAD"):
            # "Not there" and "not yours" must look the same.
            file = session.result_file(result[1], result[2]) if session else None
            if file is None:
                return PlainTextResponse("no such file", status_code=404)
            headers = {"cache-control": "private, no-store"}
            return FileResponse(file, headers=headers)
        if not _OPEN.fullmatch(path):
            return PlainTextResponse("no such page", status_code=404)
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _MOST_REQUEST_BYTES:
            return PlainTextResponse("too large", status_code=413)
        return None

    def _is_expected(self, request: Request) -> bool:
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname
            return (self._hosts is None or name in self._hosts) and (
                origin is None or urlsplit(origin).netloc == host
            )
        except ValueError:
            # Half of an IPv6 address.
            return False

    async def _upload(self, request: Request, session: Session | None) -> Response:
        if session is None:
            return PlainTextResponse("load the page anew, with cookies", status_code=403)
        megabytes = self._most_bytes / 1e6
        too_large = f"the file is larger than the {megabytes:g} MB that this page takes"
        limit = self._most_bytes + _FORM_BYTES
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            return PlainTextResponse(too_large, status_code=413)
        announced = int(length) if length.isdigit() else limit
        kept = await run_in_threadpool(self._sessions.kept_bytes)
        if kept + self._coming_bytes + announced > MOST_LARGE_UPLOADS * self._most_bytes:
            text = "this page holds as many files as it can: try again in some minutes"
            return PlainTextResponse(text, status_code=503, headers={"retry-after": "300"})
        self._coming_bytes += announced
        try:
            return await self._take(request, session, limit, too_large)
        finally:
            self._coming_bytes -= announced

    async def _take(
        self, request: Request, session: Session, limit: int, too_large: str
    ) -> Response:
        receive = in_time(limited(request.receive, limit), _PATIENCE_SECONDS)
        upload = Request(request.scope, receive)
        try:
            async with upload.form(max_files=1, max_fields=4) as form:
                file: Any = form.get("files")
                if file is None or isinstance(file, str):
                    return PlainTextResponse("expected one file", status_code=400)
                path = session.new_upload() / safe_name(file.filename or "")
                await run_in_threadpool(_copy, file.file, path)
        except TooLargeError:
            return PlainTextResponse(too_large, status_code=413)
        except TooSlowError:
            return PlainTextResponse("the upload stood still for too long", status_code=408)
        except MultiPartException as error:
            return PlainTextResponse(error.message, status_code=400)
        except ClientDisconnect:
            # Nobody reads this any more.
            return PlainTextResponse("the upload broke off", status_code=400)
        except OSError as error:
            # No room on the disk, or the session ended.
            reason = error.strerror or error
            return PlainTextResponse(f"the file could not be kept ({reason})", status_code=507)
        return JSONResponse([str(path)])


def session_key(cookies: str) -> str | None:
    """Returns the session's key out of a Cookie header."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def safe_name(name: str) -> str:
    """Returns a file name that stays in its folder and can be read: letters, digits, -, _ and ."""
    name = re.sub(r"[^\w.-]+", "_", re.split(r"[/\\]", name)[-1]).lstrip(".")
    stem, dot, ending = name.rpartition(".")
    short = stem[:_MOST_NAME_CHARACTERS].encode()[:_MOST_NAME_BYTES].decode(errors="ignore")
    return f"{short}{dot}{ending[:16]}" or "file"


def _copy(source: Any, path: Path) -> None:
    source.seek(0)
    with path.open("xb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
