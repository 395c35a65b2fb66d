"""The commands that train and evaluate one run of a grid."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transavs.engine.grid.run_folder import RunFolder
from transavs.engine.grid.spec import Row


@dataclass(frozen=True)
class Commands:
    """First words of the commands that are started.

    Attributes:
        train: takes the arguments of ``train_net``.
        evaluate: takes the arguments of ``eval_robustness``.
    """

    train: tuple[str, ...] = (sys.executable, "-m", "transavs.tools.train_net")
    evaluate: tuple[str, ...] = (sys.executable, "-m", "transavs.tools.eval_robustness")

    def training(self, folder: RunFolder, resume: bool) -> list[str]:
        """Returns the words that train; the data sets to test on are left to the evaluation."""
        row, seed = folder.run.row, str(folder.run.seed)
        words = [*self.train, "--config-file", row.config, *(["--resume"] if resume else [])]
        words += [*row.options, "DATASETS.TEST", "()", "SEED", seed]
        return [*words, "OUTPUT_DIR", str(folder.path)]

    def evaluations(self, folder: RunFolder) -> list[list[str]]:
        """Returns the words that evaluate, one after the other: a command for equal conditions."""
        row = folder.run.row
        start = [*self.evaluate, "--config-file", row.config, "--weights", str(folder.weights)]
        by_conditions: dict[tuple[str, ...], list[str]] = {}
        for name, conditions in folder.grid.test.items():
            by_conditions.setdefault(conditions, []).append(name)
        commands: list[list[str]] = []
        for conditions, names in by_conditions.items():
            words = ["--datasets", ",".join(names), "--conditions", ",".join(conditions)]
            words += ["--output", str(folder.results), *(["--merge"] if commands else [])]
            commands.append([*start, *words, *row.options])
        return commands


def launch(
    words: Sequence[str], log: Path, environment: Mapping[str, str], descriptor: int
) -> subprocess.Popen[bytes]:
    """Starts a command whose output goes to the end of a log.

    Args:
        words: of the command.
        log: in a folder that is there.
        environment: of the process.
        descriptor: that the process inherits.
    """
    with log.open("ab") as file:
        file.write(f"\n$ {shlex.join(words)}\n".encode())
        file.flush()
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            # A group of its own: Ctrl-C in the terminal reaches it through us alone.
            start_new_session=True,
            pass_fds=(descriptor,),
        )


def shown_command(row: Row) -> str:
    """Returns the line that trains a row with its first seed, as a person would type it."""
    words = ["python", "tools/train_net.py", "--config-file", row.config, *row.options]
    return shlex.join([*words, "SEED", str(row.seeds[0])])
