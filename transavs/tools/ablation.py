"""Train every row of a grid with every seed, evaluate each model, and write a table and a plot."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from transavs.config import setup_cfg
from transavs.data import load_records, with_condition
from transavs.engine.distributed import Job
from transavs.engine.grid import (
    Commands,
    Grid,
    GridRunner,
    Run,
    RunFolder,
    State,
    read_grid,
    write_report,
)
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

logger = logging.getLogger(__name__)

FAILED = 1


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="ablation.py",
        description=f"{__doc__} Trainings that are finished are skipped and interrupted ones go "
        "on, so the same command continues after Ctrl-C. The report is written after each "
        "finished training: table.md, table.json and plot.png in the output folder.",
        epilog="Exit code: 0 all is finished, 1 a training failed, 2 a mistake in the arguments, "
        "130 interrupted.",
    )
    parser.add_argument("grid", metavar="GRID", help="such as configs/grid/demo_ms3.yaml")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of everything")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="trainings at once (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of each (default: %(default)s)"
    )
    parser.add_argument("--rows", default="", metavar="NAME,NAME", help="only these")
    parser.add_argument("--seeds", default="", metavar="N,N", help="only these")
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a common override beside those of the file; rows win over it; may be repeated",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="delete trainings that were started with other settings, and train them anew; files "
        "that no training of a grid left are never deleted",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep all checkpoints, not only the evaluated one"
    )
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
    grid = read_grid(args.grid, dict(args.set))
    runs = grid.runs(split_names(args.rows), _numbers(args.seeds))
    output = Path(args.output)
    if args.list or args.pretend:
        _print_plan(grid, runs, output, commands=args.pretend)
        return 0
    if args.report_only:
        _report(grid, runs, output)
        return 0
    _check_files(grid, runs, output)
    runner = GridRunner(
        grid,
        output,
        jobs=args.jobs,
        threads=args.threads,
        keep=args.keep,
        commands=Commands(),
        after_each=lambda: write_report(grid, output),
    )
    outcome = runner.run(runs, force=args.force)
    _report(grid, runs, output)
    if outcome.interrupted:
        logger.warning("Interrupted; the same command goes on from here")
        return INTERRUPTED
    if outcome.failed:
        names = ", ".join(map(str, outcome.failed))
        logger.error("Failed: %s; the same command tries again", names)
        return FAILED
    return 0


def _report(grid: Grid, runs: Sequence[Run], output: Path) -> None:
    for run in runs:
        folder = RunFolder(grid, run, output)
        if folder.problem and not folder.same_settings:
            logger.warning("Left out of the report: %s: %s", run, folder.problem)
    write_report(grid, output)
    logger.info("Report in %s, table.json and plot.png beside it", output / "table.md")


def _print_plan(grid: Grid, runs: Sequence[Run], output: Path, commands: bool) -> None:
    for run in runs:
        folder = RunFolder(grid, run, output)
        state = folder.state
        failure = folder.record.failure if folder.record else ""
        notes = [state.value]
        if state == State.STARTED:
            notes.append(f"iteration {folder.iteration()} of {run.row.iterations}")
        notes += [note for note in (folder.problem, failure) if note]
        print(f"{'# ' if commands else ''}{run}: {', '.join(notes)}")
        if commands and state != State.FINISHED:
            if state != State.TRAINED:
                resume = state == State.STARTED
                print(shlex.join(Commands().training(folder, resume)))
            for words in Commands().evaluations(folder):
                print(shlex.join(words))


def _check_files(grid: Grid, runs: Sequence[Run], output: Path) -> None:
    """Raises ValueError or OSError for what would make trainings fail, or train on nothing.

    Looks at what ``train_net`` looks at before its work, at the conditions of the evaluation, and
    at the weights of the audio encoders.
    """
    once = argparse.Namespace(eval_only=False)
    loaded: set[str] = set()
    left = [run for run in runs if RunFolder(grid, run, output).state != State.FINISHED]
    if not left:
        return
    for row in {run.row.name: run.row for run in left}.values():
        cfg = setup_cfg(row.config, row.options).clone()
        weights = cfg.MODEL.AUDIO.WEIGHTS
        if weights and not os.path.isfile(weights):
            raise FileNotFoundError(
                f"row {row.name!r}: no file {weights} (MODEL.AUDIO.WEIGHTS): the audio encoder "
                "would stay random. Make it first, name another with --set MODEL.AUDIO.WEIGHTS "
                'FILE, or train from random weights with --set MODEL.AUDIO.WEIGHTS ""'
            )
        cfg.defrost()
        cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(output), ()
        # Each data set is looked through once.
        cfg.DATASETS.TRAIN = tuple(name for name in cfg.DATASETS.TRAIN if name not in loaded)
        cfg.DATASETS.VAL = tuple(name for name in cfg.DATASETS.VAL if name not in loaded)
        loaded |= {*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL}
        try:
            check_before_work(cfg, once, Job())
        except ValueError as error:
            raise ValueError(f"row {row.name!r}: {error}") from error
    for name, conditions in grid.test.items():
        records = load_records(name)
        for condition in conditions:
            try:
                with_condition(records, condition)
            except ValueError as error:
                raise ValueError(
                    f"{grid.path}: test: condition {condition!r} of {name}: {error}. Give this "
                    "data set conditions of its own, without this one"
                ) from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in split_names(text)]
    except ValueError:
        raise ValueError(f"--seeds: expected whole numbers such as 0,1, got {text!r}") from None


if __name__ == "__main__":
    raise SystemExit(main())
