"""A process that dies ends the whole job, with its own error and not with that of the others."""

import functools
import os
import re
import signal
import sys
import time

import gloo_workers
import pytest
import torch
from detectron2.utils import comm

from transavs.engine.distributed import Job, JobFailed, launch, worker
from transavs.engine.distributed.watch import Watch


def own_fault() -> None:
    raise KeyError("own fault")


ENDS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
    "raises": (own_fault, "failed:\nTraceback(?:.|\n)*KeyError: 'own fault'"),
    "exits": (lambda: os._exit(7), "ended with exit code 7"),
}


def gather_until(rank: int, end: str | None) -> None:
    """Exchanges for ever, until one process comes to its end."""
    for step in range(10**9):
        if step == 10 and comm.get_rank() == rank:
            ENDS[end][0]()
        comm.all_gather(step)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("end", ENDS)
def test_in_an_exchange(end, rank):
    with pytest.raises(JobFailed, match=f"^process {rank} of 2 {ENDS[end][1]}"):
        gloo_workers.in_processes(gather_until, 2, rank, end)


def no_such_file() -> None:
    if comm.get_rank() == 1:
        raise FileNotFoundError("no file dog.wav")
    comm.all_gather(0)


def test_a_mistake_of_the_user_is_told_in_its_own_words():
    with pytest.raises(ValueError, match="^no file dog.wav$") as caught:
        gloo_workers.in_processes(no_such_file, 2)
    assert "in no_such_file" in str(caught.value.__cause__)


def stand_still() -> None:
    if comm.get_rank() == 1:
        # Alone in its session: the kernel hangs up on sessions in which somebody stands still.
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
    comm.all_gather(0)


def test_a_process_that_nobody_hears_of(monkeypatch):
    monkeypatch.setattr(worker, "Watch", functools.partial(Watch, silence=0.8))
    with pytest.raises(JobFailed, match="^process 1 of 2 has not been heard of for 0.8 s"):
        gloo_workers.in_processes(stand_still, 2)


def save_late() -> None:
    """The main process needs longer to stop, as when it writes a checkpoint."""
    if comm.get_rank() == 0:
        time.sleep(1.0)
    sys.exit(130)


def test_who_stops_earlier_is_not_missed(monkeypatch):
    monkeypatch.setattr(worker, "Watch", functools.partial(Watch, silence=0.4))
    with pytest.raises(KeyboardInterrupt):
        gloo_workers.in_processes(save_late, 2)


def stop_when_asked(launcher: int) -> None:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    comm.synchronize()
    if comm.get_rank() == 0:
        os.kill(launcher, signal.SIGTERM)
    while not asked:
        time.sleep(0.01)
    sys.exit(130)


def test_a_stop_is_passed_on():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        gloo_workers.in_processes(stop_when_asked, 2, os.getpid())
    assert signal.getsignal(signal.SIGTERM) == before


def gather_on_two_machines(counts: tuple[int, int], rank: int | None, end: str | None) -> list[int]:
    """Runs ``gather_until(rank, end)``, a process a machine; each prints the error that ends it.

    Args:
        counts: how many machines each of the two takes for the job's.
        rank, end: see ``gather_until``.

    Returns:
        An exit code of each machine: 2 for a user's mistake, 1 for another failure.
    """

    def machine(number: int, port: int) -> int:
        job = Job(1, counts[number], number, f"tcp://127.0.0.1:{port}")
        try:
            launch(gather_until, job, (rank, end), "fork")
        except (JobFailed, ValueError) as error:
            print(f"machine {number}: {error}", flush=True)
            return 2 if isinstance(error, ValueError) else 1
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return gloo_workers.on_machines(machine, 2)


def test_a_death_on_another_machine(capfd):
    assert gather_on_two_machines((2, 2), 1, "raises") == [1, 1]
    printed = capfd.readouterr().out
    for rank in (0, 1):
        assert re.search(f"machine {rank}: process 1 of 2 on .* failed:\nTraceback", printed)
    assert printed.count("KeyError: 'own fault'") == 2


def test_machines_that_differ(capfd):
    assert gather_on_two_machines((2, 3), None, None) == [2, 2]
    printed = capfd.readouterr().out
    assert len(re.findall("machine [01]: the machines differ: .*num-machines", printed)) == 2


def test_a_machine_that_finds_nobody():
    job = Job(1, 2, 1, "tcp://127.0.0.1:1", timeout=0.5)
    with pytest.raises(ValueError, match="nobody answered at tcp://127.0.0.1:1 within 0.5 s"):
        launch(gather_until, job, (None, None), "fork")


def test_a_port_that_is_taken():
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = Job(1, 2, 0, f"tcp://127.0.0.1:{store.port}")
    with pytest.raises(ValueError, match="cannot listen at .* Choose a free port"):
        launch(gather_until, job, (None, None), "fork")
