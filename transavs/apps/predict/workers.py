"""Workers that predict items: processes of this machine, or actors of a Ray cluster.

A segmentation fault in a decoder, ``os._exit`` or the kernel's memory killer ends a worker, and an
item that takes too long is cut off with it. Both cost the item alone: a new process goes on.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pebble import ProcessPool

from transavs.apps.predict.manifest import Item
from transavs.apps.predict.model import Outcome

logger = logging.getLogger(__name__)

#: Loads a model in a worker's process, and returns what predicts items; a pickle takes it there.
Load = Callable[[], Callable[[Item], Outcome]]

#: The address that starts a cluster on this machine.
LOCAL = "local"
# How often in a row a process may die while it loads the model.
_MOST_DEATHS_AT_START = 3
# How often a wait is interrupted to ask whether to stop.
_POLL_SECONDS = 0.2
# For a cluster to answer at all. Ray itself asks on for minutes, and takes no Ctrl-C meanwhile.
_ANSWER_SECONDS = 10.0
# Of a cluster that is started here; run lengths need little.
_OBJECT_STORE_BYTES = 256 * 2**20

# In a worker's process: the model.
_predictor: Callable[[Item], Outcome] | None = None


def _load(load: Load) -> str:
    """Loads the model of a worker's process; returns why it cannot be loaded, or ""."""
    global _predictor
    if parent := multiprocessing.parent_process():
        # Ctrl-C and a closed terminal are the main process's to handle, and its end is ours.
        os.setsid()
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        _predictor = load()
    except (OSError, ValueError) as error:
        return str(error) or repr(error)
    return ""


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _predict(item: Item) -> Outcome:
    assert _predictor is not None
    return _predictor(item)


class LocalWorker:
    """A process on this machine, in a pool of its own: what befalls it touches no other.

    Args:
        load: loads the model.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._pool: ProcessPool | None = None

    def start(self) -> Future[Any]:
        """Starts a new process; the result is what hinders it, or ""."""
        self.close()
        self._pool = ProcessPool(1, context=multiprocessing.get_context("spawn"))
        return self._pool.schedule(_load, [self._load])

    def submit(self, item: Item) -> Future[Any]:
        """Predicts an item; an exception as its result means that the process is of no more use."""
        assert self._pool is not None
        return self._pool.schedule(_predict, [item])

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None


class Actor:
    """A Ray actor: what :class:`LocalWorker` has in its process."""

    def load(self, load: Load) -> str:
        return _load(load)

    def predict(self, item: Item) -> Outcome:
        return _predict(item)


class RayWorker:
    """An actor of a Ray cluster, with the methods of :class:`LocalWorker`.

    Args:
        load: loads the model.
        resources: what Ray reserves for the actor.
    """

    def __init__(self, load: Load, resources: dict[str, int]) -> None:
        self._load, self._resources = load, resources
        self._actor: Any = None

    def start(self) -> Future[Any]:
        self.close()
        self._actor = import_ray().remote(Actor).options(**self._resources).remote()
        future: Future[Any] = self._actor.load.remote(self._load).future()
        return future

    def submit(self, item: Item) -> Future[Any]:
        future: Future[Any] = self._actor.predict.remote(item).future()
        return future

    def close(self) -> None:
        if self._actor is not None:
            import_ray().kill(self._actor)
            self._actor = None


Worker = LocalWorker | RayWorker


def run_workers(
    items: Sequence[Item],
    workers: Sequence[Worker],
    attempts: int = 2,
    timeout: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Outcome, None, None]:
    """Yields what became of each item, as they finish; closing the generator ends the workers.

    Args:
        items: in the order in which they are begun.
        workers: each takes the next item when it is done with one.
        attempts: an item has failed when so many processes died over it.
        timeout: an item has failed when it takes more seconds; None waits for ever.
        should_stop: asked several times a second; True ends everything.

    Raises:
        ValueError: a worker cannot load the model.
        RuntimeError: its processes die while they load it.
    """
    waiting = deque((item, 0) for item in items)
    idle: list[Worker] = []
    # Item, or None while the model is loaded; deaths over it before; and when it began.
    running: dict[Future[Any], tuple[Worker, Item | None, int, float]] = {}
    left = len(items)
    try:
        for worker in workers:
            running[worker.start()] = (worker, None, 0, 0.0)
        while left and not should_stop():
            while idle and waiting:
                worker, (item, deaths) = idle.pop(), waiting.popleft()
                running[worker.submit(item)] = (worker, item, deaths, time.monotonic())
            while idle:  # what it holds may be what another waits for
                idle.pop().close()
            done = wait(running, _POLL_SECONDS, FIRST_COMPLETED).done
            now = time.monotonic()
            late = [f for f, (_, item, _, began) in running.items() if timeout and item is not None
                    and f not in done and now - began > timeout]  # fmt: skip
            for future in [*done, *late]:
                worker, task, deaths, _ = running.pop(future)
                error = future.exception() if future in done else TimeoutError(f"{timeout:g} s")
                if error is None and task is None:
                    if problem := future.result():
                        raise ValueError(problem)
                    idle.append(worker)
                    continue
                if error is None:
                    idle.append(worker)
                    outcome = future.result()
                else:
                    deaths += 1
                    told = _told(error)
                    if task is None and deaths == _MOST_DEATHS_AT_START:
                        raise RuntimeError(
                            f"worker processes died {deaths} times while they loaded the model "
                            f"({told}): there may be too little memory; take fewer --workers"
                        )
                    running[worker.start()] = (worker, None, 0 if task else deaths, 0.0)
                    logger.warning("a worker ended over %s (%s)", task and task.id, told)
                    if task is None:
                        continue
                    if deaths < attempts and future in done:
                        waiting.append((task, deaths))
                        continue
                    outcome = Outcome(task.index, error=f"{told} (attempt {deaths})")
                left -= 1
                yield outcome
    finally:
        for worker in workers:
            worker.close()


def _told(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [""])[-1]
    code = getattr(error, "exitcode", None)
    return f"{type(error).__name__}: {line}{'' if code is None else f', exit code {code}'}"


def import_ray() -> Any:
    """Returns the module ``ray``; raises ValueError where it is not installed."""
    # Ray would report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError('--ray needs the package ray: pip install "transavs[ray]"') from error
    return ray


def check_address(address: str) -> None:
    """Raises ValueError for an address of ``--ray`` at which no cluster answers within seconds."""
    if address in (LOCAL, "auto"):
        return
    if not re.fullmatch(r"(ray://)?[^/\s]+:\d{1,5}", address):
        raise ValueError(f"--ray must be HOST:PORT, 'auto', or without an address, got {address!r}")
    if os.environ.get("RAY_USE_TLS", "0") in ("1", "true"):
        return  # Ray alone knows the certificates
    import grpc  # what Ray speaks

    place = address.removeprefix("ray://")
    with grpc.insecure_channel(place, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise _no_cluster(address, "no Ray answers there") from None


def _no_cluster(address: str, reason: object) -> ValueError:
    return ValueError(
        f"no Ray cluster at {address!r} ({reason}): start one with `ray start --head`, name its "
        "address with --ray, or leave the address out"
    )


def ray_workers(load: Load, address: str, count: int | None, use_gpus: bool) -> list[RayWorker]:
    """Returns workers on a Ray cluster, to which this process is connected from then on.

    Args:
        load: loads the model; its paths must be readable by the same names on all machines.
        address: of the cluster; "local" starts one on this machine, "auto" finds the one here.
        count: how many; None takes one for each GPU of the cluster, without any one for each core.
        use_gpus: False takes cores even where there are GPUs.

    Raises:
        ValueError: no Ray, or no such cluster.
    """
    ray = import_ray()
    if not ray.is_initialized():
        options: dict[str, Any] = {}
        if address == LOCAL:
            options = {"num_cpus": max(count or 1, os.cpu_count() or 1),
                       "object_store_memory": _OBJECT_STORE_BYTES,
                       "include_dashboard": False}  # fmt: skip
        try:
            ray.init(address=address, logging_level=logging.WARNING, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from error
    found = ray.cluster_resources()
    gpus = int(found.get("GPU", 0)) if use_gpus else 0
    resources = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
    return [RayWorker(load, resources) for _ in range(count or gpus or int(found.get("CPU", 1)))]
