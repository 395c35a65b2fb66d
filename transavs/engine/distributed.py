"""Several processes on one or several machines: how many they are, how they start and end.

Either torchrun starts the processes, or :func:`launch` does, through torch.multiprocessing. Both
end the job on their machine when one process dies, and tell that process's own error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from types import FrameType
from typing import Any

import torch
from detectron2.utils import comm
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import record
from torch.multiprocessing import ProcessExitedException, start_processes

from transavs.utils.signal_handlers import SignalHandlers

Main = Callable[..., Any]

#: The exit status of a process that was asked to stop, and has saved if it was training.
STOPPED = 130
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# A process that lost another one waits so long before it says so: the launch reports whoever ends
# first, and a killed process may be noticed 5 s late, as long as its loader's workers live on.
_HEAD_START_SECONDS = 10.0
# What gloo, NCCL and torch's store say in a process that another one left alone.
_LEFT_ALONE = re.compile(r"gloo/|NCCL|Connection (?:closed|reset)|Broken pipe|[Tt]imed? ?out")


@dataclass(frozen=True)
class Job:
    """The processes of a job and how they find each other.

    Attributes:
        processes: the number of processes on each machine.
        machines: the number of machines; ``machine_rank`` is the number of this one, from 0.
        url: ``tcp://HOST:PORT`` of machine 0; "auto" on a single machine.
        local_rank: the number of this process on its machine, if torchrun has started it.
        timeout: the seconds that a process waits for the others, to join and in each exchange.
    """

    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    url: str = "auto"
    local_rank: int | None = None
    timeout: float = 1800.0

    @property
    def world_size(self) -> int:
        """The number of all processes."""
        return self.processes * self.machines


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--timeout`` to Detectron2's parser, whose own options become None where absent."""
    parser.set_defaults(num_gpus=None, num_machines=None, machine_rank=None, dist_url=None)
    words = "longest wait of a process for the others, to join and in each exchange (%(default)s)"
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help=words)


def job_of(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Job:
    """Returns the job that options (see :func:`add_job_arguments`) or torchrun's environment tell.

    Raises:
        ValueError: an option is out of range, or given although torchrun decides about it.
    """
    if args.timeout <= 0:
        raise ValueError(f"--timeout must be a positive number of seconds, got {args.timeout}")
    if all(name in environ for name in _TORCHRUN):
        return _job_of_torchrun(args, environ)
    processes = 1 if args.num_gpus is None else args.num_gpus
    machines = 1 if args.num_machines is None else args.num_machines
    rank = args.machine_rank
    if processes < 1 or machines < 1:
        raise ValueError(
            f"--num-gpus and --num-machines must be at least 1, got {processes} and {machines}"
        )
    if not 0 <= (rank if rank is not None else 1 - machines) < machines:
        raise ValueError(
            f"--machine-rank must be in 0..{machines - 1}, another on each machine, got {rank}"
        )
    url = args.dist_url or Job.url
    if (url != Job.url or machines > 1) and not re.fullmatch(r"tcp://[^/]+:[1-9]\d*", url):
        raise ValueError(
            "--dist-url must be tcp://HOST:PORT, a free port of the machine with rank 0 that the "
            f"others can reach, got {url!r}"
        )
    return Job(processes, machines, rank or 0, url, timeout=args.timeout)


def _job_of_torchrun(args: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    for option in ("num_gpus", "num_machines", "machine_rank", "dist_url"):
        if getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise ValueError(f"torchrun has started this process, and decides: leave --{name} away")
    rank, size, local_rank, processes = (int(environ[name]) for name in _TORCHRUN)
    if size % processes or rank % processes != local_rank:
        raise ValueError(
            f"expected as many processes on every machine, but process {rank} of {size} is number "
            f"{local_rank} of {processes} on its machine: give torchrun one --nproc-per-node"
        )
    machines, machine_rank = size // processes, rank // processes
    return Job(processes, machines, machine_rank, "env://", local_rank, args.timeout)


def launch(main: Main, job: Job, args: tuple[Any, ...] = (), start_method: str = "spawn") -> None:
    """Runs ``main(*args)`` in every process of a job; it is called once on every machine.

    Where torchrun has started the processes, or there is only one, ``main`` runs in this one.
    Unlike Detectron2's ``launch`` this passes SIGINT and SIGTERM on, and waits for what is saved.

    Raises:
        ValueError: there are fewer GPUs than processes.
        torch.multiprocessing.ProcessRaisedException: a process raised; this holds its traceback.
        torch.multiprocessing.ProcessExitedException: a process was killed, or exited by itself.
        KeyboardInterrupt: the processes stopped because they were asked to.
    """
    if torch.cuda.is_available() and job.processes > torch.cuda.device_count():
        raise ValueError(
            f"each of {job.processes} processes needs a GPU, but {torch.cuda.device_count()} are "
            "visible: lower --num-gpus (torchrun: --nproc-per-node), or set MODEL.DEVICE cpu"
        )
    if job.world_size == 1:
        main(*args)
    elif job.local_rank is not None:
        record(_work)(job.local_rank, threading.Semaphore(0), job, job.url, main, args)
    else:
        _start_and_wait(main, job, args, start_method)


def _start_and_wait(main: Main, job: Job, args: tuple[Any, ...], start_method: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}" if job.url == Job.url else job.url
    # Semaphores, because an Event is stuck for good when a process is killed that waits for it.
    stopped, over = (multiprocessing.get_context(start_method).Semaphore(0) for _ in range(2))
    work = (stopped, over, job, url, main, args)
    context = start_processes(
        _work_in_child, work, job.processes, join=False, start_method=start_method
    )
    signals: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        for process in context.processes:
            # On the first one a training saves; on the second it ends at once.
            process.terminate() if len(signals) == 1 else process.kill()

    numbers = (signal.SIGINT, signal.SIGTERM)
    with SignalHandlers(pass_on, numbers, unless_ignored=numbers):
        try:
            ended = False
            while not ended:
                for sentinel in connection.wait(context.sentinels):
                    process = context.processes[context.sentinels[sentinel]]
                    process.join()  # The sentinel is ready a moment before the exit code.
                    if process.exitcode:
                        for _ in context.processes:
                            over.release()
                ended = context.join()
        except ProcessExitedException:
            if not signals:
                raise
            stopped.release()
    if stopped.acquire(block=False):
        raise KeyboardInterrupt


def _work_in_child(local_rank: int, stopped: Any, *work: Any) -> None:
    """Runs :func:`_work`. A stop, noted in ``stopped``, ends no process that is still saving."""
    try:
        _work(local_rank, *work)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        stopped.release()


def _work(
    local_rank: int, over: Any, job: Job, url: str, main: Main, args: tuple[Any, ...]
) -> None:
    """Joins the process groups of torch and of Detectron2, and runs ``main(*args)`` in them.

    The semaphore ``over`` is released when another process has died: this one need not tell.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    rank = job.machine_rank * job.processes + local_rank
    timeout = timedelta(seconds=job.timeout)
    try:
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", url, timeout, job.world_size, rank
        )
    except distributed.DistError as error:
        raise ValueError(
            f"the {job.world_size} processes did not meet at {url} within {job.timeout:g} s: start "
            f"all machines with the same options and a free port, or raise --timeout ({error})"
        ) from error
    try:
        comm.create_local_process_group(job.processes)
        comm.synchronize()
        main(*args)
        # A process that ends while threads of a group are still at work may be aborted by them.
        comm.synchronize()
        distributed.destroy_process_group()
    except RuntimeError as error:
        if not (is_left_alone(error) and over.acquire(timeout=_HEAD_START_SECONDS)):
            raise


def is_left_alone(error: BaseException) -> bool:
    """Returns whether an error is probably only the answer to the end of another process."""
    return isinstance(error, RuntimeError) and bool(_LEFT_ALONE.search(str(error)))
