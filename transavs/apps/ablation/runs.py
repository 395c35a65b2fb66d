"""The trainings of a grid: how far each one is, and what trains and evaluates it.

A run's folder is its whole state: ``run.json`` says with what settings it began and whether it is
trained, ``results.json`` what it scored.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import join
from typing import Any, Literal

from transavs.apps.ablation.grid import Grid, Row
from transavs.utils.folder_lock import lock_folder
from transavs.utils.progress import progress_bar
from transavs.utils.signal_handlers import SignalHandlers
from transavs.utils.whole_files import write_text

logger = logging.getLogger(__name__)

#: First words of the commands that are started, which take those of train_net and eval_robustness.
TRAIN = (sys.executable, "-m", "transavs.tools.train_net")
EVALUATE = (sys.executable, "-m", "transavs.tools.eval_robustness")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Of a failed run's log.
_SHOWN_LINES = 15


#: What is left to do for a run.
State = Literal["new", "to be resumed", "to be evaluated", "finished", "changed"]


@dataclass
class Record:
    """The content of ``run.json``.

    Attributes:
        settings: the settings of the row when training began, and the seed.
        command: the command that trained.
        stage: "training" until the training has ended.
        seconds: how long trainings ran until they ended or were stopped.
        started: when the training under way began, in seconds since the epoch; None for none.
        failure: how the last attempt failed; "" if it did not.
    """

    settings: dict[str, Any]
    command: list[str]
    stage: str = "training"
    seconds: float = 0.0
    started: float | None = None
    failure: str = ""


class Run:
    """One training: a row with one of its seeds, and what its folder holds.

    Attributes:
        folder: the folder of the training.
        log: what its processes print.
        weights: the checkpoint to evaluate: the best by validation, or the last one without any.
        record: the content of ``run.json``; None before the first start.
        scores: the content of ``results.json``; {} if there is none, or half of one.
    """

    def __init__(self, grid: Grid, row: Row, seed: int, output: Path) -> None:
        self.row, self.seed, self._test = row, seed, grid.test
        self.folder = output / "runs" / row.name / f"seed_{seed}"
        self.log = self.folder / "output.log"
        self.weights = self.folder / ("model_best.pth" if row.validated else "model_final.pth")
        self.settings = {**row.settings, "SEED": seed}
        self.record: Record | None = None
        #: Why the folder's files may be somebody else's; "" if they are not.
        self.foreign = ""
        try:
            record = Record(**json.loads((self.folder / "run.json").read_text("utf-8")))
            record.settings, record.seconds = {**record.settings}, 0.0 + record.seconds
            self.record = record  # whose numbers are numbers, otherwise TypeError
        except FileNotFoundError:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                self.foreign = f"{self.folder} holds files but no run.json"
        except (ValueError, TypeError):
            self.foreign = f"{self.folder / 'run.json'} is broken"

    def __str__(self) -> str:
        return f"{self.row.name} seed {self.seed}"

    @property
    def scores(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, ValueError):
            data = json.loads((self.folder / "results.json").read_text("utf-8"))
            return data if isinstance(data, dict) else {}
        return {}

    @property
    def missing(self) -> list[str]:
        """What the grid asks for and ``results.json`` lacks."""
        scores = self.scores
        return [
            f"{name} under {condition}"
            for name, conditions in self._test.items()
            for condition in conditions
            if not isinstance(scores.get(name), dict) or condition not in scores[name]
        ]

    @property
    def changes(self) -> str:
        """How the settings differ from those that the training began with; "" if they do not."""
        before, now = self.record.settings if self.record else self.settings, self.settings
        words = {key: (_shown(before, key), _shown(now, key)) for key in sorted({*before, *now})}
        return "; ".join(
            f"{k} was {was}, is {new}" for k, (was, new) in words.items() if was != new
        )

    @property
    def problem(self) -> str:
        """Why the run cannot go on from what is there; "" if it can."""
        if self.record and self.record.stage != "training" and not self.changes:
            gone = self.missing and not self.weights.is_file()
            return f"{self.weights} is gone, and the evaluation needs it" if gone else ""
        return self.foreign or self.changes

    @property
    def state(self) -> State:
        """What is left to do."""
        if self.problem:
            return "changed"
        if self.record is None:
            return "new"
        if self.record.stage == "training":
            return "to be resumed"
        return "to be evaluated" if self.missing else "finished"

    @property
    def iteration(self) -> int:
        """How many iterations the training has logged."""
        for line in reversed(last_lines(self.folder / "metrics.json")):
            with suppress(ValueError, KeyError, TypeError):
                return int(json.loads(line)["iteration"]) + 1
        return 0

    def training_command(self) -> list[str]:
        """Returns the words that train; the data sets to test on are left to the evaluation."""
        resume = ["--resume"] if self.record is not None else []
        words = [*TRAIN, "--config-file", self.row.config, *resume, *self.row.options]
        words += ["DATASETS.TEST", "()", "SEED", str(self.seed)]
        return [*words, "OUTPUT_DIR", str(self.folder)]

    def evaluation_commands(self) -> list[list[str]]:
        """Returns the words that evaluate, a command for the data sets of equal conditions."""
        by_conditions: dict[tuple[str, ...], list[str]] = {}
        for name, conditions in self._test.items():
            by_conditions.setdefault(conditions, []).append(name)
        start = [*EVALUATE, "--config-file", self.row.config, "--weights", str(self.weights)]
        start += ["--output", str(self.folder / "results.json")]
        return [
            [*start, *(["--merge"] if number else []), "--datasets", ",".join(names)]
            + ["--conditions", ",".join(conditions), *self.row.options]
            for number, (conditions, names) in enumerate(by_conditions.items())
        ]

    def save(self) -> None:
        """Writes ``run.json``."""
        assert self.record is not None
        write_text(self.folder / "run.json", json.dumps(asdict(self.record), indent=1) + "\n")

    def remove_checkpoints(self) -> None:
        """Deletes all checkpoints but the evaluated and the best one."""
        for path in self.folder.glob("model_*.pth"):
            if path.name not in (self.weights.name, "model_best.pth"):
                path.unlink()
        note = self.folder / "last_checkpoint"
        if note.is_file() and not (self.folder / note.read_text().strip()).is_file():
            note.unlink()  # it names one of those


def _shown(settings: dict[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "the default"


def last_lines(path: Path) -> list[str]:
    """Returns the lines at the end of a file; a progress bar is one, as it was shown last."""
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")[-50:])
    return [line for line in shown if line.strip()]


def prepare(runs: Sequence[Run], force: bool) -> None:
    """Raises ValueError for runs that cannot go on; with ``force`` it deletes them instead.

    Files that no training of a grid left are never deleted.
    """
    for hopeless, remedy in (
        ([run for run in runs if run.foreign], "move these files away, or name another --output"),
        (
            [run for run in runs if run.problem and not (run.foreign or force)],
            "--force deletes these trainings and begins anew, another --output leaves them alone",
        ),
    ):
        if hopeless:
            told = "".join(f"\n  {run}: {run.problem}" for run in hopeless)
            raise ValueError(f"{len(hopeless)} runs cannot go on; {remedy}:{told}")
    for run in runs:
        if run.problem:
            with lock_folder(run.folder):  # nobody trains there
                shutil.rmtree(run.folder)
            run.record = None


class _Processes:
    """Starts commands from several threads, until a signal or an error stops them all."""

    def __init__(self, threads: int) -> None:
        self.stops = 0
        self._environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self._running: set[subprocess.Popen[bytes]] = set()
        # A signal's handler may come while its own thread holds it.
        self._lock = threading.RLock()

    def call(self, words: Sequence[str], log: Path) -> int | None:
        """Returns the exit status of a command that prints into a log; None where it is stopped."""
        with log.open("ab") as file:
            file.write(f"\n$ {join(words)}\n".encode())
            file.flush()
            with self._lock:
                if self.stops:
                    return None
                # A session of its own: Ctrl-C in the terminal reaches it through us alone.
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
                self._running.add(process)
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        return None if self.stops and status else status

    def stop(self, *signal_and_frame: object) -> None:
        """Lets what runs save and end, the second time at once; kills it the third time."""
        with self._lock:
            self.stops += 1
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT if self.stops < 3 else signal.SIGKILL)


def run_all(
    runs: Sequence[Run],
    *,
    jobs: int = 2,
    threads: int = 1,
    keep: bool = False,
    after_each: Callable[[], object] = lambda: None,
) -> tuple[list[Run], bool]:
    """Trains and evaluates runs that :func:`prepare` has looked at, in their order.

    The first Ctrl-C (or SIGTERM) lets each training save and stop, a second one stops them at
    once, a third kills them. Another call goes on from there.

    Args:
        runs: what is not finished.
        jobs: how many to run at once.
        threads: how many threads each of them has.
        keep: whether to leave all checkpoints, not only the evaluated one.
        after_each: called when a run has been evaluated.

    Returns:
        The runs that failed, and whether it was stopped before all had ended.
    """
    processes = _Processes(threads)
    failed, stopped, told = [], False, False
    stop_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with (
        SignalHandlers(processes.stop, stop_signals, unless_ignored=[signal.SIGHUP]),
        ThreadPoolExecutor(jobs) as pool,
        progress_bar(None, "trainings", "run", total=len(runs)) as bar,
    ):
        waiting = {pool.submit(_complete, run, processes): run for run in runs}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                if processes.stops and not told:
                    logger.warning("Stopping: each training saves first (Ctrl-C again: at once)")
                    told = True
                for future in done:
                    run = waiting.pop(future)
                    bar.update()
                    if not future.result():
                        stopped = True
                    elif run.record and run.record.failure:
                        failed.append(run)
                        lines = "".join(f"\n    {s}" for s in last_lines(run.log)[-_SHOWN_LINES:])
                        why = f"{run.record.failure}; the end of {run.log}:{lines}"
                        logger.error("FAILED %s: %s", run, why)
                    else:
                        if not keep:
                            run.remove_checkpoints()
                        after_each()
                        logger.info("Finished %s (%d left)", run, len(waiting))
        except BaseException:
            processes.stop()  # no training is left behind
            raise
    return failed, stopped


def _complete(run: Run, processes: _Processes) -> bool:
    """Does what is left of a run and notes its failure, if any; False where it was stopped."""
    if processes.stops:
        return False
    if run.state != "to be evaluated":
        words = run.training_command()
        record = run.record = run.record or Record(run.settings, words)
        if record.started is not None:  # nobody saw its end: it was after the log's last line
            seen = run.log.stat().st_mtime if run.log.exists() else record.started
            record.seconds += max(0.0, seen - record.started)
        record.started, record.failure = time.time(), ""
        run.save()
        status = processes.call(words, run.log)
        record.seconds, record.started = record.seconds + time.time() - record.started, None
        if status == 0 and run.weights.is_file():
            record.stage = "evaluation"
        elif status is not None:
            record.failure = _failure("training", status, run.weights.name)
        run.save()
        if status is None or record.failure:
            return status is not None
    assert run.record is not None
    record, status = run.record, None
    record.failure = ""
    for words in run.evaluation_commands():
        status = processes.call(words, run.log)
        if status is None:
            return False
        if status:
            break
    if status or run.missing:
        record.failure = _failure("evaluation", status, ", ".join(run.missing))
    run.save()
    return True


def _failure(what: str, status: int | None, missing: str) -> str:
    if status and status < 0:
        return f"{what} was ended by signal {-status}"
    return f"{what} ended with code {status}" if status else f"{what} ended without {missing}"
