"""train_net killed with SIGKILL at random moments: ``TRANSAVS_KILLS=20 pytest -s`` this file.

Takes minutes, so it runs on request alone. tests/engine/test_killed_trainings.py meets every place
between two operations with files, in a smaller training; this one meets the real network, at
moments that nobody chose.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import small_trainings
import tiny_models

from transavs.tools import train_net

KILLS = int(os.environ.get("TRANSAVS_KILLS", "0"))
MAX_ITER = 36
OPTIONS = (
    *tiny_models.TINY,
    "SOLVER.MAX_ITER", MAX_ITER,
    "SOLVER.CHECKPOINT_PERIOD", 4,
    "TEST.EVAL_PERIOD", 3,
    "TEST.PICTURE_PERIOD", 5,
    "DATALOADER.NUM_WORKERS", 1,
    "MODEL.TRANSAVS.DROPOUT", 0.1,
    "MODEL.TRANSAVS.MASKED_ATTENTION", True,
    "SEED", 5,
)  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings_as_before(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def start(folder: Path) -> int:
    """Starts the command with --resume in a fork; returns its process."""
    words = ["--config-file", "s4_R50.yaml", "--num-gpus", "1", "--resume"]
    words += [str(word) for word in (*OPTIONS, "OUTPUT_DIR", folder)]
    process = os.fork()
    if process == 0:
        output = os.open(f"{folder}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = 1
        try:
            status = train_net.main(words)
        finally:
            sys.stdout.flush()
            os._exit(status)
    return process


def starts(folder: Path) -> int:
    log = folder / "log.txt"
    return log.read_text().count("Starting training from iteration") if log.exists() else 0


def ended(process: int) -> int | None:
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def what_was_under_way(folder: Path) -> str:
    if list(folder.glob("*.tmp")):
        return "writing"
    log = (folder / "log.txt").read_text().rpartition("Starting training from iteration")[2]
    begun, done = log.count("Start inference on"), log.count("Evaluation results for")
    return "evaluation" if begun > done else "training"


@pytest.mark.slow
@pytest.mark.skipif(not KILLS, reason="on request: TRANSAVS_KILLS=20")
def test_killed_at_random_moments(datasets_env, tmp_path):
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(tmp_path / "whole"), 0)[1]) == 0
    # Long enough for two checkpoints and more, so that there is progress on the average.
    longest = (time.monotonic() - began) / MAX_ITER * 10
    expected = small_trainings.left_behind(tmp_path / "whole")
    drawn = random.Random(0)
    places: Counter[str] = Counter()
    finished = 0
    while sum(places.values()) < KILLS or finished == 0:
        folder = tmp_path / f"run_{finished}"
        status = None
        while status is None:
            known, process = starts(folder), start(folder)
            while starts(folder) == known and (status := ended(process)) is None:
                time.sleep(0.01)
            moment = time.monotonic() + drawn.uniform(0, longest)
            kill = sum(places.values()) < KILLS
            while status is None and not (kill and time.monotonic() > moment):
                status = ended(process)
                time.sleep(0.01)
            if status is None:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                places[what_was_under_way(folder)] += 1
                print(sum(places.values()), what_was_under_way(folder), flush=True)
        assert status == 0, Path(f"{folder}.txt").read_text()[-3000:]
        finished += 1
        found = small_trainings.left_behind(folder)
        for name, value in expected.items():
            assert found[name] == value, name
    print(f"{KILLS} kills over {finished} trainings: {dict(places)}", flush=True)
