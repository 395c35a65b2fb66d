"""Which processes a job consists of: from the command line, or from torchrun's environment."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import torch

#: What torchrun tells the processes that it starts; all of it is read.
_TORCHRUN = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_AUTO = "auto"
_TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class Job:
    """The processes of a job and how they find each other.

    Attributes:
        processes: on each machine.
        machines: how many.
        machine_rank: which of them this is, from 0.
        url: ``tcp://HOST:PORT`` of machine 0; "auto" on a single machine.
        local_rank: of this process on its machine, where torchrun started it; None where the
            processes are still to be started.
        timeout: seconds that a process waits for the others, to join and in each exchange.
    """

    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    url: str = _AUTO
    local_rank: int | None = None
    timeout: float = _TIMEOUT_SECONDS

    @property
    def world_size(self) -> int:
        """Number of all processes."""
        return self.processes * self.machines

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of machine 0; port 0 stands for any that is free."""
        if self.url == _AUTO:
            return "127.0.0.1", 0
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def rank(self, local_rank: int) -> int:
        """Returns a process's number among all of them."""
        return self.machine_rank * self.processes + local_rank

    def name(self, local_rank: int) -> str:
        """Returns what messages call a process."""
        place = f" on {socket.gethostname()}" if self.machines > 1 else ""
        return f"process {self.rank(local_rank)} of {self.world_size}{place}"


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Gives detectron2's parser a timeout, and options that tell when they were left away."""
    parser.set_defaults(num_gpus=None, num_machines=None, machine_rank=None, dist_url=None)
    parser.add_argument(
        "--timeout",
        type=float,
        default=_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="longest wait of a process for the others, to join and in each exchange "
        "(default %(default)s); a process that dies ends the job at once",
    )


def job_of(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Job:
    """Returns the job of a command line.

    Args:
        args: of a parser with :func:`add_job_arguments`.
        environ: the process's environment, in which torchrun leaves its numbers.

    Raises:
        ValueError: options that contradict each other or the environment.
    """
    if args.timeout <= 0:
        raise ValueError(f"--timeout must be a positive number of seconds, got {args.timeout}")
    if "RANK" in environ and "LOCAL_RANK" in environ:
        return _started_job(args, environ)
    processes = 1 if args.num_gpus is None else args.num_gpus
    machines = 1 if args.num_machines is None else args.num_machines
    machine_rank = args.machine_rank or 0
    url = args.dist_url or _AUTO
    for option, value in (("--num-gpus", processes), ("--num-machines", machines)):
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    if not 0 <= machine_rank < machines:
        raise ValueError(
            f"--machine-rank must be in 0..{machines - 1} for {machines} machines, "
            f"got {machine_rank}"
        )
    if machines > 1 and args.machine_rank is None:
        raise ValueError("--num-machines needs --machine-rank: 0, 1, ... on one machine each")
    if url != _AUTO or machines > 1:
        _check_url(url)
    return Job(processes, machines, machine_rank, url, timeout=args.timeout)


def check_gpus(job: Job) -> None:
    """Raises ValueError where processes would have to share a GPU."""
    if torch.cuda.is_available() and job.processes > torch.cuda.device_count():
        raise ValueError(
            f"expected a GPU for each of the {job.processes} processes of this machine, but "
            f"{torch.cuda.device_count()} are visible: lower --num-gpus (torchrun: "
            "--nproc-per-node), or set MODEL.DEVICE cpu"
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        complete = parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port)
    except ValueError:  # a port that is no number
        complete = False
    if not complete:
        raise ValueError(
            "--dist-url must be tcp://HOST:PORT, a free port of the machine with rank 0 that the "
            f"others can reach, got {url!r}"
        )


def _started_job(args: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    """The job of a process that torchrun started."""
    missing = [name for name in _TORCHRUN if name not in environ]
    if missing:
        raise ValueError(
            f"RANK and LOCAL_RANK are set, as torchrun does, but not {', '.join(missing)}: start "
            "with torchrun, or unset them"
        )
    try:
        rank, size, local_rank, processes = (int(environ[name]) for name in _TORCHRUN[:4])
        port = int(environ["MASTER_PORT"])
    except ValueError as error:
        raise ValueError(f"torchrun's environment is broken: {error}") from error
    if size % processes or rank % processes != local_rank:
        raise ValueError(
            f"expected as many processes on every machine, but process {rank} of {size} is number "
            f"{local_rank} of {processes} on its machine: give torchrun one --nproc-per-node"
        )
    url = f"tcp://{environ['MASTER_ADDR']}:{port}"
    job = Job(processes, size // processes, rank // processes, url, local_rank, args.timeout)
    asked = {
        "--num-gpus": (args.num_gpus, job.processes),
        "--num-machines": (args.num_machines, job.machines),
        "--machine-rank": (args.machine_rank, job.machine_rank),
        "--dist-url": (args.dist_url, job.url),
    }
    for option, (wanted, found) in asked.items():
        if wanted not in (None, found):
            raise ValueError(
                f"{option} {wanted} contradicts torchrun's environment, which says {found}: leave "
                f"{option} away"
            )
    return job
