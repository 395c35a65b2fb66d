"""The commands that train and evaluate one run of a grid."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

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

    def evaluation(self, folder: RunFolder) -> list[str]:
        """Returns the words that evaluate."""
        row, grid = folder.run.row, folder.grid
        words = [*self.evaluate, "--config-file", row.config, "--weights", str(folder.weights)]
        words += ["--datasets", ",".join(grid.test), "--conditions", ",".join(grid.conditions)]
        return [*words, "--output", str(folder.results), *row.options]


def shown_command(row: Row) -> str:
    """Returns the line that trains a row with its first seed, as a person would type it."""
    words = ["python", "tools/train_net.py", "--config-file", row.config, *row.options]
    return shlex.join([*words, "SEED", str(row.seeds[0])])
