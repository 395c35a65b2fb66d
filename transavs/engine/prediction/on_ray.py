"""Workers on a Ray cluster: ``ray.data`` with a pool of actors, one a device.

An actor holds a ``GuardedWorker``, so that an item that kills its process is set aside there and
never reaches Ray. When an actor or its machine dies, Ray starts another and gives it the item
again.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from transavs.engine.prediction.guarded_worker import WORKER, GuardedWorker
from transavs.engine.prediction.manifest import Item
from transavs.engine.prediction.outcome import Outcome
from transavs.engine.prediction.settings import Settings

# The address that starts a cluster on this machine.
LOCAL = "local"
# Of a cluster that is started here; run lengths need little.
_OBJECT_STORE_BYTES = 256 * 2**20
# Blocks of a data set: as many as items, so that none waits for another, up to this many.
_MOST_BLOCKS = 10_000
_PATIENCE_SECONDS = 0.2
# For a cluster to answer at all. Ray itself asks on for minutes, and takes no Ctrl-C meanwhile.
_ANSWER_SECONDS = 10.0
# How a client of gRPC, which Ray speaks, begins (RFC 9113, 3.4); the answer is a frame of settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEAD, _FRAME_TYPE, _SETTINGS = 9, 3, 4


def import_ray() -> Any:
    """Returns the module ``ray``, with ``ray.data``.

    Raises:
        ValueError: it is not installed.
    """
    # Ray would report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ValueError(
            'predicting on Ray needs ray: pip install "transavs[ray]", or pip install "ray[data]" '
            f"(no module {error.name})"
        ) from None
    return ray


def check_address(address: str) -> None:
    """Raises ValueError for an address at which no cluster answers within seconds.

    Args:
        address: "local" and "auto" are not looked at; HOST:PORT, or ray://HOST:PORT of Ray's client
            server.
    """
    if address in (LOCAL, "auto"):
        return
    place = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", address)
    if place is None:
        raise ValueError(f"--ray must be HOST:PORT, 'auto', or without an address, got {address!r}")
    try:
        with socket.create_connection((place[1], int(place[2])), _ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("1", "true"):
                _greet(connection)
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_cluster(address, error) from error


def _greet(connection: socket.socket) -> None:
    """Raises ConnectionError where another kind of server answers, and TimeoutError where none."""
    connection.sendall(_GREETING)
    head = b""
    while len(head) < _FRAME_HEAD:
        more = connection.recv(_FRAME_HEAD - len(head))
        if not more:
            break
        head += more
    if len(head) < _FRAME_HEAD or head[_FRAME_TYPE] != _SETTINGS:
        raise ConnectionError("what listens there is no Ray")


def no_cluster(address: str, error: Exception) -> ValueError:
    """Returns what to raise where there is no cluster at an address."""
    return ValueError(
        f"no Ray cluster at {address!r} ({error}): start one with `ray start --head`, name its "
        "address with --ray, or leave the address out"
    )


class Actor:
    """What Ray has one of for each device: a ``GuardedWorker`` of these arguments."""

    def __init__(self, *arguments: Any) -> None:
        self._worker = GuardedWorker(*arguments)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Returns what became of a batch of items, as JSON in and out."""
        answers = []
        for text in batch["item"]:
            item = Item.from_dict(json.loads(str(text)))
            try:
                outcome = self._worker.ask(item)
                answers.append([outcome.index, outcome.rows, outcome.error])
            except (ValueError, RuntimeError) as error:
                # No worker can be had here: no fault of the item, and the end of the run.
                answers.append([-1, None, str(error)])
        return {"outcome": [json.dumps(answer) for answer in answers]}


def run_on_ray(
    items: Sequence[Item],
    settings: Settings,
    description: Any,
    *,
    address: str = LOCAL,
    count: int | None = None,
    attempts: int = 2,
    timeout_seconds: float | None = None,
    command: Sequence[str] = WORKER,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Outcome, None, None]:
    """Yields what became of each item, as they finish; an item may come twice where machines die.

    Args:
        items: paths and checkpoint must be readable by the same names on all machines.
        settings: how.
        description: of the model, which all machines must have.
        address: of the cluster; "local" starts one on this machine, "auto" finds the one here.
        count: of actors; None takes one for each GPU of the cluster, without any one for each core.
        attempts, timeout_seconds, command: as in ``GuardedWorker``.
        should_stop: asked several times a second; True ends everything.

    Raises:
        ValueError: no Ray, no such cluster, or a worker that cannot be started.
    """
    ray = import_ray()
    began = not ray.is_initialized()
    if began:
        _connect(ray, address, count)
    try:
        resources = ray.cluster_resources()
        gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        # Without a device of its own an actor has a core.
        share = {"num_gpus": 1, "num_cpus": 0} if gpus and settings.device != "cpu" else {}
        actors = min(count or (gpus if share else cores), len(items))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"item": json.dumps(item.as_dict())} for item in items]
        blocks = min(len(rows), _MOST_BLOCKS)
        # Ray restarts the actors of such a pool, and repeats what they were at, without limit.
        outcomes = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            Actor,
            fn_constructor_args=(settings, description, attempts, timeout_seconds, command),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            **(share or {"num_cpus": 1}),
        )
        yield from _stream(outcomes, should_stop)
    finally:
        if began:
            ray.shutdown()


def _connect(ray: Any, address: str, count: int | None) -> None:
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if address == LOCAL:
        cores = max(count or 1, os.cpu_count() or 1)
        options = {
            "num_cpus": cores,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(address=address, logging_level=logging.WARNING, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise no_cluster(address, error) from error


def _stream(outcomes: Any, should_stop: Callable[[], bool]) -> Generator[Outcome, None, None]:
    """Yields a data set's outcomes; a thread waits for them, so that this one can stop."""
    results: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for row in outcomes.iter_rows():
                index, rows, error = json.loads(row["outcome"])
                if index < 0:
                    raise ValueError(error)
                results.put(Outcome(index, rows, error))
            results.put(None)
        except Exception as error:
            results.put(error)

    threading.Thread(target=read, daemon=True).start()
    while not should_stop():
        try:
            result = results.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            continue
        if result is None:
            return
        if isinstance(result, Exception):
            raise result
        yield result
