"""Bodies of requests to Gradio: limited, JSON, and naming no file but the browser's own.

Before Gradio asks the page it copies the files that a request names, whatever they are, and fetches
those that are addresses.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Message, Receive, Scope

from transavs.tools.web_page.sessions import Session

_LENGTH_HEADERS = (b"content-length", b"transfer-encoding")


class TooLargeError(Exception):
    """More came than is allowed."""


class TooSlowError(Exception):
    """Nothing came for too long."""


def in_time(receive: Receive, seconds: float) -> Receive:
    """Returns a ``receive`` that raises TooSlowError where nothing comes for so long."""

    async def receive_in_time() -> Message:
        try:
            return await asyncio.wait_for(receive(), seconds)
        except asyncio.TimeoutError:
            raise TooSlowError from None

    return receive_in_time


def limited(receive: Receive, most_bytes: int) -> Receive:
    """Returns a ``receive`` that raises TooLargeError behind so many bytes."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most_bytes:
            raise TooLargeError
        return message

    return receive_limited


def with_own_files(body: bytes, session: Session | None, gone: str) -> bytes:
    """Returns a JSON body in which each path that is not an upload of the session became ``gone``.

    Args:
        body: as it came.
        session: of the browser, if it has one.
        gone: path at which there is nothing.

    Raises:
        ValueError: the body is no JSON.
    """

    def checked(value: Any) -> Any:
        if isinstance(value, list):
            return [checked(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "path" in value:
            path = value["path"]
            own = session is not None and isinstance(path, str) and session.keeps(path)
            value = {**value, "path": path if own else gone}
        return {key: checked(each) for key, each in value.items()}

    try:
        return json.dumps(checked(json.loads(body))).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def replayed(scope: Scope, receive: Receive, body: bytes) -> tuple[Scope, Receive]:
    """Returns scope and ``receive`` of a request that has another body."""
    headers = [(k, v) for k, v in scope["headers"] if k not in _LENGTH_HEADERS]
    headers.append((b"content-length", str(len(body)).encode()))
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": headers}, receive_again
