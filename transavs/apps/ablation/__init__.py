"""Train every row of a grid with every seed, evaluate each model, and write a table and a plot."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from transavs.apps.ablation.grid import Grid, read_grid
from transavs.apps.ablation.report import write_report
from transavs.apps.ablation.runs import Run, prepare, run_all
from transavs.config import setup_cfg
from transavs.data import load_records, with_condition
from transavs.engine.distributed import Job
from transavs.tools.command_line import (
    INTERRUPTED,
    CommandParser,
    check_folder_to_be,
    check_threads,
    command,
    split_names,
    start_logging,
)
from transavs.tools.train_net import check_before_work
from transavs.utils.folder_lock import lock_folder

logger = logging.getLogger(__name__)

FAILED = 1


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = CommandParser(
        prog="ablation.py",
        description=f"{__doc__} Trainings that are finished are skipped and interrupted ones go "
        "on, so the same command continues after Ctrl-C. The report is written after each "
        "finished training: table.md, table.json and plot.png in the output folder.",
        epilog="Exit code: 0 all is finished, 1 a training failed, 2 a mistake in the arguments, "
        "130 interrupted.",
    )
    add = parser.add_argument
    add("grid", metavar="GRID", help="such as configs/grid/demo_ms3.yaml")
    add("--output", required=True, metavar="DIR", help="folder of everything")
    add("--jobs", type=int, default=2, metavar="N", help="trainings at once (%(default)s)")
    add("--threads", type=int, default=1, metavar="N", help="of each (%(default)s)")
    add("--rows", default="", metavar="NAME,NAME", help="only these")
    add("--seeds", default="", metavar="N,N", help="only these")
    add("--set", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
        help="one more common override; rows win over it; may be repeated")  # fmt: skip
    add("--force", action="store_true",
        help="delete trainings that were started with other settings, and train them anew; files "
        "that no training of a grid left are never deleted")  # fmt: skip
    add("--keep", action="store_true", help="keep all checkpoints, not only the evaluated one")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="say how far each training is")
    instead.add_argument("--pretend", action="store_true", help="print the commands to be run")
    instead.add_argument("--report-only", action="store_true", help="write the report anew")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the grid and writes its report; returns the exit code that ``--help`` tells."""
    args = build_parser().parse_args(argv)
    start_logging()
    check_threads(args.threads)
    if args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
    # Made when the first training starts: a mistake leaves no empty folder behind.
    check_folder_to_be("--output", args.output)
    grid, output = read_grid(args.grid, dict(args.set)), Path(args.output)
    chosen = grid.choose(split_names(args.rows), _numbers(args.seeds))
    runs = [Run(grid, row, seed, output) for row, seed in chosen]
    if args.list or args.pretend:
        for run in runs:
            _print_plan(run, commands=args.pretend)
        return 0
    failed: list[Run] = []
    stopped = False
    if not args.report_only:
        _check_files(grid, [run for run in runs if run.state != "finished"], output)
        with lock_folder(output):
            # Another call may have worked on them until now.
            runs = [Run(grid, row, seed, output) for row, seed in chosen]
            prepare(runs, args.force)
            failed, stopped = run_all(
                [run for run in runs if run.state != "finished"],
                jobs=args.jobs,
                threads=args.threads,
                keep=args.keep,
                after_each=lambda: write_report(grid, output),
            )
    for run in runs:
        if run.foreign or run.changes:
            logger.warning("Left out of the report: %s: %s", run, run.problem)
    write_report(grid, output)
    logger.info("Report in %s, table.json and plot.png beside it", output / "table.md")
    if stopped:
        logger.warning("Interrupted; the same command goes on from here")
        return INTERRUPTED
    if failed:
        logger.error("Failed: %s; the same command tries again", ", ".join(map(str, failed)))
    return FAILED if failed else 0


def _print_plan(run: Run, commands: bool) -> None:
    state = run.state
    notes = [state, run.problem, run.record.failure if run.record else ""]
    if state == "to be resumed":
        notes.insert(1, f"iteration {run.iteration} of {run.row.iterations}")
    print(f"{'# ' if commands else ''}{run}: {', '.join(filter(None, notes))}")
    if commands and state != "finished":
        training = [] if state == "to be evaluated" else [run.training_command()]
        for words in [*training, *run.evaluation_commands()]:
            print(shlex.join(words))


def _check_files(grid: Grid, runs: Sequence[Run], output: Path) -> None:
    """Raises ValueError or OSError for what would make trainings fail, or train on nothing.

    Looks at what ``train_net`` looks at before its work, at the weights of the audio encoders, and
    at the conditions of the evaluation.
    """
    if not runs:
        return
    seen: set[str] = set()
    for row in {run.row.name: run.row for run in runs}.values():
        cfg = setup_cfg(row.config, row.options).clone()
        weights = cfg.MODEL.AUDIO.WEIGHTS
        if weights and not os.path.isfile(weights):
            raise FileNotFoundError(
                f"row {row.name!r}: MODEL.AUDIO.WEIGHTS: no file {weights}, and the audio encoder "
                'would stay random. Make it first, or name another one (or "") with --set'
            )
        cfg.defrost()
        cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(output), ()
        # Each data set is looked through once.
        cfg.DATASETS.TRAIN = tuple(name for name in cfg.DATASETS.TRAIN if name not in seen)
        cfg.DATASETS.VAL = tuple(name for name in cfg.DATASETS.VAL if name not in seen)
        seen |= {*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL}
        try:
            check_before_work(cfg, argparse.Namespace(eval_only=False), Job())
        except ValueError as error:
            raise ValueError(f"row {row.name!r}: {error}") from error
    for name, conditions in grid.test.items():
        records = load_records(name)
        for condition in conditions:
            try:
                with_condition(records, condition)
            except ValueError as error:
                place = f"{grid.path}: test: {name}: {condition}"
                raise ValueError(f"{place}: {error}. Leave this condition out") from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in split_names(text)]
    except ValueError:
        raise ValueError(f"--seeds: expected whole numbers such as 0,1, got {text!r}") from None
