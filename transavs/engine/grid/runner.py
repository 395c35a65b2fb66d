"""Starts the trainings of a grid, a few at a time, and each one's evaluation after it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transavs.engine.grid.commands import Commands, launch
from transavs.engine.grid.run_folder import Record, RunFolder, State, last_lines
from transavs.engine.grid.spec import Grid, Run
from transavs.utils.folder_lock import FolderLock
from transavs.utils.progress import progress_bar
from transavs.utils.signal_counter import SignalCounter

# Lines of a failed training's log to show.
_SHOWN_LINES = 15
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Outcome:
    """What a call did: its trainings by how they ended, and whether it was stopped."""

    finished: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    skipped: list[Run] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class _Job:
    folder: RunFolder
    process: subprocess.Popen[bytes]
    first_iteration: int
    following: list[list[str]]


class GridRunner:
    """Runs what is left to do of a grid.

    Args:
        grid: which trainings.
        output: folder of all of them.
        jobs: how many processes to run at once.
        threads: of each.
        keep: leave all checkpoints in place of the evaluated one alone.
        commands: what to start.
        tell: takes a line for people; by default it goes to stderr, above the progress bar.
        after_each: called when a run has been evaluated.
        poll_seconds: between two looks at the processes.
    """

    def __init__(
        self,
        grid: Grid,
        output: str | os.PathLike[str],
        *,
        jobs: int = 2,
        threads: int = 1,
        keep: bool = False,
        commands: Commands | None = None,
        tell: Callable[[str], None] | None = None,
        after_each: Callable[[], object] = lambda: None,
        poll_seconds: float = 0.5,
    ) -> None:
        for name, number in (("jobs", jobs), ("threads", threads)):
            if number < 1:
                raise ValueError(f"{name} must be 1 or more, got {number}")
        self._grid = grid
        self._output = Path(output)
        self._jobs = jobs
        self._environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self._keep = keep
        self._commands = commands or Commands()
        self._tell = tell
        self._after_each = after_each
        self._poll_seconds = poll_seconds
        self._active: list[_Job] = []
        self._signals, self._signals_passed_on = SignalCounter(), 0

    def run(self, runs: Sequence[Run], force: bool = False) -> Outcome:
        """Trains and evaluates whatever of ``runs`` is not finished, in their order.

        The first Ctrl-C (or SIGTERM) lets each training save and stop, a second one stops them at
        once, a third kills them. Calling again goes on from there.

        Args:
            runs: of the grid.
            force: start those anew whose settings have changed, in place of an error.

        Raises:
            ValueError: changed settings, files of somebody else in the place of a training, or
                another call is at work in the folder.
        """
        self._signals, self._signals_passed_on = SignalCounter(), 0
        with FolderLock(self._output) as lock, self._signals:
            folders = [RunFolder(self._grid, run, self._output) for run in runs]
            _reset_changed(folders, force)
            outcome = Outcome(skipped=[f.run for f in folders if f.state == State.FINISHED])
            waiting = deque(folder for folder in folders if folder.run not in outcome.skipped)
            left = sum(f.run.row.iterations - f.iteration() for f in waiting)
            with progress_bar(None, "training", "step", total=left) as bar:
                # The mean speed so far: rows differ too much to look at the last minute alone.
                bar.smoothing = 0
                self._bar, self._done_before = bar, 0
                try:
                    self._work(waiting, outcome, lock)
                finally:
                    self._stop_after_error()
        ended = [*outcome.finished, *outcome.failed, *outcome.skipped]
        outcome.interrupted = self._signals.count > 0 and len(ended) < len(runs)
        return outcome

    def _work(self, waiting: deque[RunFolder], outcome: Outcome, lock: FolderLock) -> None:
        count = len(waiting)
        while self._active or (waiting and not self._signals.count):
            while waiting and not self._signals.count and len(self._active) < self._jobs:
                self._start(waiting.popleft(), lock)
            self._pass_on_signals()
            time.sleep(self._poll_seconds)
            for job in list(self._active):
                code = job.process.poll()
                if code is not None:
                    self._active.remove(job)
                    self._ended(job, code, outcome, lock)
            self._show_progress(len(outcome.finished) + len(outcome.failed), count)

    def _start(self, folder: RunFolder, lock: FolderLock) -> None:
        """Starts the training, or its evaluation where training has ended."""
        first_iteration = folder.iteration()
        if folder.record is None or folder.record.stage == "training":
            words = self._commands.training(folder, resume=folder.record is not None)
            if folder.record is None:
                folder.record = Record(folder.settings, words)
            folder.stop_clock(seen=False)
            folder.record.started = time.time()
            following = []
        else:
            words, *following = self._commands.evaluations(folder)
            folder.record.stage = "evaluation"
        folder.record.failure = ""
        folder.save()
        process = self._launch(folder, words, lock)
        self._active.append(_Job(folder, process, first_iteration, following))

    def _launch(
        self, folder: RunFolder, words: list[str], lock: FolderLock
    ) -> subprocess.Popen[bytes]:
        process = launch(words, folder.log, self._environment, lock.descriptor)
        lock.note(process.pid)
        return process

    def _ended(self, job: _Job, code: int, outcome: Outcome, lock: FolderLock) -> None:
        folder, record = job.folder, job.folder.record
        assert record is not None
        stage = record.stage
        folder.stop_clock()
        if stage == "training" and code == 0 and folder.weights.is_file():
            record.stage = "evaluation"
            folder.save()
            self._done_before += folder.iteration() - job.first_iteration
            if not self._signals.count:
                self._start(folder, lock)
        elif code == 0 and job.following and not self._signals.count:
            job.process = self._launch(folder, job.following.pop(0), lock)
            self._active.append(job)
        elif stage == "evaluation" and code == 0 and not folder.missing_results():
            record.stage = "finished"
            folder.save()
            if not self._keep:
                folder.remove_checkpoints()
            outcome.finished.append(folder.run)
            self._after_each()
            self._say(f"finished {folder.run}: {_short_scores(folder)}")
        elif self._signals.count and (code != 0 or job.following):
            folder.save()
        else:
            record.failure = _failure(folder, stage, code)
            folder.save()
            outcome.failed.append(folder.run)
            shown = "".join(f"\n    {line}" for line in last_lines(folder.log)[-_SHOWN_LINES:])
            self._say(f"FAILED {folder.run}: {record.failure}; the end of {folder.log}:{shown}")

    def _show_progress(self, ended: int, count: int) -> None:
        trained = sum(job.folder.iteration() - job.first_iteration for job in self._active)
        self._bar.set_postfix_str(f"{ended}/{count} runs", refresh=False)
        self._bar.update(max(0, self._done_before + trained - self._bar.n))

    def _say(self, line: str) -> None:
        if self._tell is None:
            self._bar.write(line, file=sys.stderr)
        else:
            self._tell(line)

    def _pass_on_signals(self) -> None:
        if self._signals.count > self._signals_passed_on:
            self._signals_passed_on = self._signals.count
            self._stop(signal.SIGINT if self._signals.count < 3 else signal.SIGKILL)

    def _stop(self, number: int) -> None:
        if self._active:
            self._say("stopping: each training saves first (once more Ctrl-C: at once)")
        for job in self._active:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, number)

    def _stop_after_error(self) -> None:
        """Whatever went wrong here, no training is left behind."""
        self._stop(signal.SIGINT)
        while any(job.process.poll() is None for job in self._active):
            self._pass_on_signals()
            time.sleep(self._poll_seconds)
        self._active = []


def _reset_changed(folders: Sequence[RunFolder], force: bool) -> None:
    unknown = [folder for folder in folders if folder.unknown]
    if unknown:
        # Whatever they are, they are not ours to delete.
        raise ValueError(
            "files stand where trainings would go, and nothing says that a training of a grid left "
            f"them; move them away, or choose another --output:{_problems(unknown)}"
        )
    changed = [folder for folder in folders if folder.state == State.CHANGED]
    if changed and not force:
        raise ValueError(
            f"{len(changed)} runs cannot go on with the grid as it is now; --force deletes them "
            f"and trains anew, another --output leaves them as they are:{_problems(changed)}"
        )
    for folder in changed:
        folder.reset()


def _problems(folders: Sequence[RunFolder]) -> str:
    return "".join(f"\n  {folder.run}: {folder.problem}" for folder in folders)


def _failure(folder: RunFolder, stage: str, code: int) -> str:
    if code < 0:
        return f"{stage} was ended by signal {-code}"
    if code > 0:
        return f"{stage} ended with code {code}"
    missing = [str(folder.weights)] if stage == "training" else folder.missing_results()
    return f"{stage} ended without {', '.join(missing)}"


def _short_scores(folder: RunFolder) -> str:
    scores = folder.scores()[folder.grid.main_test]["original"]
    seconds = folder.record.seconds if folder.record else 0.0
    known = [
        f"{name} {scores[name]:.1f}"
        for name in ("M_J", "M_J_nonempty")
        if scores.get(name) is not None
    ]
    return ", ".join([*known, f"trained in {seconds:.0f} s"])
