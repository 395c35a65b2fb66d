"""Starts the processes of a job on this machine, and watches over them to their end."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch import distributed
from torch.distributed import Store, TCPStore

from transavs.engine.distributed.failure import Failure, published, read_failure
from transavs.engine.distributed.job import Job, check_gpus
from transavs.engine.distributed.worker import STOPPED, Main, connect, work_here, work_in_child
from transavs.utils.signal_handlers import SignalHandlers

#: Between the end of one process and SIGTERM for the others, and then SIGKILL.
_GRACE_SECONDS = 3.0
#: For the news of a process on another machine that died first.
_NEWS_SECONDS = 10.0
_POLL_SECONDS = 0.5


def launch(main: Main, job: Job, args: tuple[Any, ...] = (), start_method: str = "spawn") -> None:
    """Runs ``main(*args)`` in every process of a job; called once on every machine.

    Where torchrun has started the processes, or there is only one, it runs in this one.
    Differences from detectron2's ``launch``: the end of one process ends all of them, on all
    machines, with its own error; a stop by SIGINT or SIGTERM is passed on and waited for; several
    jobs find ports of their own on one machine.

    Args:
        main: a function that can be pickled.
        job: which processes there are.
        args: of ``main``.
        start_method: of the processes, "fork" only where no GPU is in use.

    Raises:
        ValueError: the machines do not find each other or differ in the job; or a process raised
            ValueError or OSError, whose message it has.
        JobFailed: a process died of something else; the message has its traceback.
        KeyboardInterrupt: the processes stopped because they were asked to.
    """
    check_gpus(job)
    if job.world_size == 1:
        main(*args)
    elif job.local_rank is not None:
        work_here(main, args, job)
    else:
        _start(main, job, args, start_method)


def _start(main: Main, job: Job, args: tuple[Any, ...], start_method: str) -> None:
    context: Any = multiprocessing.get_context(start_method)
    with tempfile.TemporaryDirectory(prefix="transavs_job_") as folder:
        paths = [os.path.join(folder, f"{rank}.json") for rank in range(job.processes)]
        pipes = [context.Pipe(duplex=False) for _ in paths]
        processes = [
            context.Process(
                target=work_in_child,
                args=(local_rank, main, args, job, pipes[local_rank][0], path),
                name=job.name(local_rank),
            )
            for local_rank, path in enumerate(paths)
        ]
        # A forked process must not collect what has threads in this one, such as a former store;
        # and it must not be forked while the threads of this job's store hold a lock.
        gc.collect()
        gc.freeze()
        with _Signals(processes) as signals:
            try:
                for process in processes:
                    process.start()
                store, address = _open_store(job, signals)
                for _, pipe in pipes:
                    pipe.send(address)
                dead = _wait(processes, signals)
                failure = _cause(dead, processes, paths, store) if dead else None
                if failure is not None:
                    failure.publish(store)
            except BaseException:
                for process in processes:
                    if process.pid is not None:
                        process.terminate()
                raise
            finally:
                _end(processes)
                gc.unfreeze()
    _part(job, store)
    if failure is not None:
        raise failure.error()
    if any(process.exitcode for process in processes):
        raise KeyboardInterrupt


def _open_store(job: Job, signals: _Signals) -> tuple[Store, tuple[str, int]]:
    """Opens the job's store, on machine 0, or finds it; returns its address as well."""
    host, port = job.address
    if job.machine_rank:
        store = connect((host, port), job, lambda: signals.count > 0)
    else:
        timeout = timedelta(seconds=job.timeout)
        try:
            store = TCPStore(host, port, is_master=True, wait_for_workers=False, timeout=timeout)
        except distributed.DistNetworkError as error:
            raise ValueError(
                f"cannot listen at {job.url}: {error}. Choose a free port of this machine with "
                "--dist-url"
            ) from error
    if store.add(f"machine/{job.machine_rank}", 1) > 1:
        raise ValueError(
            f"another machine has joined with --machine-rank {job.machine_rank}: each needs its own"
        )
    own = json.dumps({"--num-machines": job.machines, "--num-gpus": job.processes})
    first = store.compare_set("job", "", own).decode()
    if first != own:
        message = f"the machines differ: one was started with {first}, another with {own}"
        Failure(f"machine {job.machine_rank}", message, mistake=True).publish(store)
        _part(job, store)
        raise ValueError(message)
    return store, (host, store.port)


def _wait(processes: Sequence[BaseProcess], signals: _Signals) -> list[int]:
    """Waits until all processes have ended, or one has died; returns the dead ones."""
    stops = {0, STOPPED}
    while True:
        # Not the sentinels alone: a loader's worker that outlives its process keeps them open.
        running = [process for process in processes if process.exitcode is None]
        if signals.count:
            stops |= {-signal.SIGINT, -signal.SIGTERM}
        dead = [
            index
            for index, process in enumerate(processes)
            if process.exitcode is not None and process.exitcode not in stops
        ]
        if dead or not running or signals.count > 1:
            return dead
        connection.wait([process.sentinel for process in running], _POLL_SECONDS)


def _cause(
    dead: Sequence[int], processes: Sequence[BaseProcess], paths: Sequence[str], store: Store
) -> Failure:
    """Returns the failure that came before the others, on whatever machine it was."""
    found = []
    for index in dead:
        process, written = processes[index], read_failure(paths[index])
        found.append(written or Failure.of_exit(process.name, process.exitcode or 0))
    first = min(found, key=lambda failure: (failure.echo, failure.moment))
    if first.echo:
        return published(store, _NEWS_SECONDS) or first
    return first


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ends the processes that still run: a step in an exchange answers nothing but SIGKILL."""
    for action in ("terminate", "kill", "join"):
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in processes:
            if process.pid is not None:
                process.join(max(0.0, deadline - time.monotonic()))
        for process in processes:
            if process.pid is not None and process.exitcode is None:
                getattr(process, action)()


def _part(job: Job, store: Store) -> None:
    """Keeps the store, which lies on machine 0, until the others have no more need of it."""
    if job.machines == 1:
        return
    deadline = time.monotonic() + _NEWS_SECONDS
    try:
        left = store.add("parted", 1)
        while job.machine_rank == 0 and left < job.machines and time.monotonic() < deadline:
            time.sleep(0.1)
            left = store.add("parted", 0)
    except RuntimeError:
        pass  # Machine 0 is gone.


class _Signals(SignalHandlers):
    """Passes SIGINT and SIGTERM on as SIGTERM, on which a training saves and stops."""

    def __init__(self, processes: Sequence[BaseProcess]) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM)
        super().__init__(self._pass_on, numbers, unless_ignored=numbers)
        self.count = 0
        self._processes = processes

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        for process in self._processes:
            if process.pid is not None and process.exitcode is None:
                process.terminate()
