"""The process that predicts.

It talks to whoever started it through a socket, in JSON: first it hears the settings and answers
with the model's description, then it hears an item at a time and answers with its rows or with an
error. JSON, because what a process sends is never to be run by the other.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

READY, ROWS, ERROR, BROKEN = "ready", "rows", "error", "broken"

Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until the other side hangs up.

    Args:
        argv: descriptor of the socket, and that of a pipe that ends with the parent.
    """
    socket, alive = map(int, argv if argv is not None else sys.argv[1:])
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    with Connection(socket) as connection:
        try:
            serve(connection, _load)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return 0
    return 0


def serve(connection: Connection, load: Callable[[dict[str, Any]], tuple[Any, Answer]]) -> None:
    """Answers what comes through a connection.

    Args:
        connection: to the parent.
        load: given the settings, returns the model's description and what predicts an item.

    Raises:
        EOFError: the other side has hung up.
    """
    try:
        description, answer = load(_receive(connection))
    except (OSError, ValueError) as error:
        _send(connection, ERROR, str(error))
        return
    _send(connection, READY, description)
    while True:
        item = _receive(connection)
        try:
            rows = answer(item)
        except (OSError, ValueError) as error:
            _send(connection, ERROR, str(error))
        except Exception as error:
            # Nobody foresaw it; memory or a GPU may be in disorder. A new process goes on.
            _send(connection, BROKEN, f"{type(error).__name__}: {error}")
            return
        else:
            _send(connection, ROWS, rows)


def _load(settings: dict[str, Any]) -> tuple[Any, Answer]:
    # Only now: errors of the imports above would reach nobody.
    from transavs.engine.prediction.manifest import Item
    from transavs.engine.prediction.rows import predict_item
    from transavs.engine.prediction.settings import Settings

    chosen = Settings(**settings)
    predictor = chosen.load()

    def answer(item: dict[str, Any]) -> list[dict[str, Any]]:
        return predict_item(predictor, Item.from_dict(item), chosen)

    return chosen.describe(predictor), answer


def _send(connection: Connection, kind: str, content: Any) -> None:
    connection.send_bytes(json.dumps([kind, content]).encode())


def _receive(connection: Connection) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(connection.recv_bytes())
    return content


def _end_with_parent(alive: int) -> None:
    """Ends this process, whatever it is at, when the pipe's other end is gone."""
    os.read(alive, 1)
    os._exit(1)
