"""Several processes: who they are, and their end, with the error of whoever died first."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gloo_workers
import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from transavs.engine import distributed
from transavs.engine.distributed import Job, add_job_arguments, job_of, launch
from transavs.tools.command_line import user_message

pytestmark = pytest.mark.forks

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "slurm" / "train.sbatch"


def parsed(*words: str):
    parser = default_argument_parser()
    add_job_arguments(parser)
    return parser.parse_args(words)


TWO = ("--num-machines", "2")


@pytest.mark.parametrize(
    ("words", "environ", "expected"),
    [
        ([], {}, Job()),
        (["--num-gpus", "3", "--timeout", "60"], {}, Job(3, timeout=60.0)),
        (
            ["--num-gpus", "4", *TWO, "--machine-rank", "1", "--dist-url", "tcp://node0:2000"],
            {},
            Job(4, 2, 1, "tcp://node0:2000"),
        ),
        ([], TORCHRUN, Job(4, 2, 1, "env://", local_rank=1)),
        (["--num-gpus", "0"], {}, "--num-gpus"),
        (TWO, {}, "--machine-rank"),
        ([*TWO, "--machine-rank", "2"], {}, "--machine-rank"),
        ([*TWO, "--machine-rank", "0"], {}, "--dist-url.*'auto'"),
        (["--dist-url", "tcp://host:port"], {}, "--dist-url.*'tcp://host:port'"),
        (["--dist-url", "file:///tmp/x"], {}, "--dist-url"),
        (["--timeout", "0"], {}, "--timeout"),
        (["--num-gpus", "4"], TORCHRUN, "torchrun.*--num-gpus"),
        (["--machine-rank", "0"], TORCHRUN, "torchrun.*--machine-rank"),
        ([], {**TORCHRUN, "LOCAL_WORLD_SIZE": "3"}, "--nproc-per-node"),
    ],
)
def test_job(words, environ, expected):
    if isinstance(expected, Job):
        assert job_of(parsed(*words), environ) == expected
        return
    with pytest.raises(ValueError, match=expected):
        job_of(parsed(*words), environ)


def own_fault() -> None:
    raise KeyError("own fault")


def no_such_file() -> None:
    raise FileNotFoundError("no file dog.wav")


ENDS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "raises": (own_fault, "(?s)in own_fault\n.*KeyError: 'own fault'"),
    "exits": (lambda: os._exit(7), "exit code 7"),
    "mistake": (no_such_file, "no file dog.wav"),
}


def gather_until(rank: int, end: str) -> None:
    """Exchanges for ever, until one process comes to its end."""
    for step in range(10**9):
        if step == 10 and comm.get_rank() == rank:
            ENDS[end][0]()
        comm.all_gather(step)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("end", ENDS)
def test_the_error_of_the_process_that_died(end, rank):
    start = time.monotonic()
    with pytest.raises(ProcessException, match=ENDS[end][1]) as caught:
        gloo_workers.in_processes(gather_until, 2, rank, end)
    assert caught.value.error_index == rank and time.monotonic() - start < 9
    assert user_message(caught.value) == ("no file dog.wav" if end == "mistake" else None)


def stop_when_asked(launcher: int, saved: Path) -> None:
    """The main process asks for a stop, and needs longer than the other one: it saves."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    comm.synchronize()
    if comm.get_rank() == 0:
        os.kill(launcher, signal.SIGTERM)
    while not asked:
        time.sleep(0.01)
    if comm.get_rank() == 0:
        time.sleep(0.5)
        saved.touch()
    sys.exit(130)


def test_a_stop_is_passed_on_and_waited_for(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        gloo_workers.in_processes(stop_when_asked, 2, os.getpid(), tmp_path / "saved")
    assert (tmp_path / "saved").exists() and signal.getsignal(signal.SIGTERM) == before


def wait_for_the_end(folder: Path) -> None:
    comm.synchronize()
    try:
        (folder / f"{comm.get_rank()}.started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"{comm.get_rank()}.ended").touch()


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would what is forked there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_processes_end_with_their_launch(tmp_path, heeded_interrupts):
    launcher = multiprocessing.get_context("fork").Process(
        target=gloo_workers.in_processes, args=(wait_for_the_end, 2, tmp_path)
    )
    launcher.start()
    for number, end in enumerate(("started", "ended")):
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob(f"*.{end}"))) < 2:
            assert time.monotonic() < deadline, end
            time.sleep(0.05)
        if number == 0:
            launcher.kill()
    launcher.join()


@pytest.mark.slow
def test_torchrun_names_the_process_that_died(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(
        "import argparse\n"
        "from detectron2.utils import comm\n"
        "from transavs.engine.distributed import add_job_arguments, job_of, launch\n"
        "def work():\n"
        "    for step in range(10 ** 9):\n"
        "        if step == 10 and comm.get_rank() == 1:\n"
        "            raise KeyError('own fault')\n"
        "        comm.all_gather(step)\n"
        "parser = argparse.ArgumentParser()\n"
        "add_job_arguments(parser)\n"
        "launch(work, job_of(parser.parse_args()))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", script], env=environment, capture_output=True, text=True
    )
    cause = done.stderr.split("Root Cause")[-1]
    assert done.returncode == 1 and "KeyError: 'own fault'" in cause and "rank      : 1" in cause


def test_a_death_on_another_machine(capfd, monkeypatch):
    monkeypatch.setattr(distributed, "_HEAD_START_SECONDS", 0.1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def machine(number: int, port: int) -> int:
        try:
            launch(
                gather_until, Job(1, 2, number, f"tcp://127.0.0.1:{port}"), (1, "raises"), "fork"
            )
        except ProcessRaisedException as error:
            print(f"machine {number}: {error}", flush=True)
            return 1
        return 0

    assert gloo_workers.on_machines(machine, 2) == [1, 1]
    assert capfd.readouterr().out.count("KeyError: 'own fault'") == 1


@pytest.mark.parametrize("rank", [0, 1], ids=["port taken", "nobody there"])
def test_machines_that_do_not_meet(rank, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    url = f"tcp://127.0.0.1:{1 if rank else store.port}"
    with pytest.raises(ProcessRaisedException) as caught:
        launch(gather_until, Job(1, 2, rank, url, timeout=0.5), (1, "raises"), "fork")
    assert f"did not meet at {url} within 0.5 s" in user_message(caught.value)


STAND_INS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; exit; fi\n'
    'echo "$@" >> "$CALLS"',
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || code=$?; done\n'
    "exit ${code:-0}",
    "python": 'printf "%s\\n" "$*" >> "$CALLS"; exit "$CODE"',
}


@pytest.mark.parametrize("code", [0, 1, 130])
def test_slurm_launches_on_every_machine_and_queues_what_was_stopped(tmp_path, code):
    """docs/slurm/train.sbatch with stand-ins for srun, scontrol and python."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
        "CODE": str(code), "SLURM_JOB_ID": "40123", "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4",
    }  # fmt: skip
    command = ["bash", str(SCRIPT), "configs/s4_R50.yaml", "SEED", "3"]
    assert subprocess.run(command, env=environment, check=False).returncode == code
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ("requeue 40123" in calls) == (code == 130)
    for rank, call in enumerate(calls[:2]):
        tool, *words = call.split()
        args = parsed(*words)
        assert tool == "tools/train_net.py" and args.resume and args.opts == ["SEED", "3"]
        assert args.config_file == "configs/s4_R50.yaml"
        assert job_of(args, {}) == Job(4, 2, rank, "tcp://node7:20123")
