"""One process of a job: joins the group, works, and tells all what ended it early."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
from detectron2.utils import comm
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore

from transavs.engine.distributed.failure import Failure, published
from transavs.engine.distributed.job import Job
from transavs.engine.distributed.watch import Watch

Main = Callable[..., Any]
End = Callable[[Failure], None]
FAILED = 1
STOPPED = 130
#: For the news of the process that died first.
_NEWS_SECONDS = 10.0
_ATTEMPT_SECONDS = 5.0


@contextmanager
def process_group(job: Job, local_rank: int, store: Store) -> Iterator[None]:
    """All processes of a job as torch's default group, and those of a machine as detectron2's.

    It ends when all have come to the end: a process that ends while threads of a group are still at
    work may be aborted by them.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    try:
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=job.rank(local_rank),
            world_size=job.world_size,
            timeout=timedelta(seconds=job.timeout),
        )
    except distributed.DistStoreError as error:
        raise TimeoutError(
            f"the {job.world_size} processes of the job did not come together within "
            f"{job.timeout:g} s: start all {job.machines} machines with the same options, check "
            f"that they reach {job.url}, or raise --timeout"
        ) from error
    comm.create_local_process_group(job.processes)
    comm.synchronize()
    yield
    comm.synchronize()
    distributed.destroy_process_group()


def work(
    main: Main, args: tuple[Any, ...], job: Job, local_rank: int, store: Store, end: End
) -> None:
    """Runs ``main(*args)`` in one process of a job.

    Args:
        main: what to run.
        args: its arguments.
        job: which processes there are.
        local_rank: of this one on its machine.
        store: that all processes share.
        end: ends this process because of another one; called by a thread.
    """
    watch = Watch(store.clone(), job.rank(local_rank), job.world_size, end)
    watch.start()
    try:
        with process_group(job, local_rank, store):
            main(*args)
    except Exception as error:
        failure = Failure.of(job.name(local_rank), error)
        if not failure.echo:
            failure.publish(store)
        raise
    finally:
        watch.leave()


def work_here(main: Main, args: tuple[Any, ...], job: Job) -> None:
    """Runs ``main(*args)`` in this process, which torchrun started among others.

    Raises:
        JobFailed: another process ended, and this one with it.
    """
    assert job.local_rank is not None
    waiting = distributed.rendezvous("env://", timeout=timedelta(seconds=job.timeout))
    store = PrefixStore("transavs", next(waiting)[0])

    def end(failure: Failure) -> None:
        print(failure.error(), file=sys.stderr)
        _leave()

    try:
        work(main, args, job, job.local_rank, store, end)
    except Exception as error:
        failure = Failure.of(job.name(job.local_rank), error)
        cause = published(store, _NEWS_SECONDS) if failure.echo else None
        if cause is None:
            raise
        raise cause.error() from None


def work_in_child(
    local_rank: int,
    main: Main,
    args: tuple[Any, ...],
    job: Job,
    pipe: Connection,
    path: str,
) -> None:
    """Runs ``main(*args)`` in a process of its own that ``launch`` started.

    Args:
        local_rank: of this process.
        main, args, job: see :func:`work`.
        pipe: from which the store's address comes.
        path: gets the failure, if there is one. The exit code is then 1; it is 130 after Ctrl-C.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(signal.getsignal(number)):  # After a fork, the handlers are the launcher's.
            python = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if python else signal.SIG_DFL)
    launcher = os.getppid()

    def end(failure: Failure) -> None:
        if os.getppid() != launcher:
            print(failure.error(), file=sys.stderr)
        failure.write(path)
        _leave()

    try:
        work(main, args, job, local_rank, connect(pipe.recv(), job), end)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        Failure.of(job.name(local_rank), error).write(path)
        _leave()


def _leave() -> None:
    """Ends this process without waiting for anything, such as an exchange on a GPU."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)


def connect(
    address: tuple[str, int], job: Job, stopped: Callable[[], bool] = lambda: False
) -> TCPStore:
    """Returns a connection to the store of a job's first machine.

    Args:
        address: its host and port.
        job: with the timeout.
        stopped: asked every few seconds whether to give up.

    Raises:
        ValueError: there is none within the job's timeout.
        KeyboardInterrupt: ``stopped`` said so.
    """
    deadline = time.monotonic() + job.timeout
    while True:
        left = max(0.1, deadline - time.monotonic())
        timeout = timedelta(seconds=min(left, _ATTEMPT_SECONDS))
        try:
            store = TCPStore(*address, is_master=False, wait_for_workers=False, timeout=timeout)
        except distributed.DistNetworkError as error:
            if stopped():
                raise KeyboardInterrupt from error
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"nobody answered at tcp://{address[0]}:{address[1]} within {job.timeout:g} s: "
                    "is the machine with rank 0 running, and can this one reach it?"
                ) from error
        else:
            store.set_timeout(timedelta(seconds=job.timeout))
            return store
