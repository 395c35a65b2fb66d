"""The option --soak of tools/benchmark.py: a long training that should not grow."""

from __future__ import annotations

import argparse
import io
import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from matplotlib.figure import Figure

from transavs.engine.benchmark import format_soak, measure_soak, write_benchmark
from transavs.utils.whole_files import write_bytes
from transavs.visualization import draw_soak

logger = logging.getLogger(__name__)

# Of a whole training.
_EVALUATIONS, _CHECKPOINTS = 4, 8


def add_soak_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--soak`` and ``--soak-period``."""
    parser.add_argument(
        "--soak",
        type=int,
        metavar="N",
        help="train for so many iterations instead, with data, evaluation, checkpoints and logs, "
        "and see if memory, open files, threads and processes stay (Linux); exit code 1 if not",
    )
    parser.add_argument(
        "--soak-period",
        type=int,
        default=10,
        metavar="N",
        help="iterations between two samples of --soak (default: %(default)s)",
    )


def check_soak(args: argparse.Namespace) -> None:
    """Raises ValueError for a soak without enough samples, or with another measure beside it."""
    if args.soak and args.scaling:
        raise ValueError("--soak and --scaling exclude each other: each measures something else")
    if args.soak and args.soak_period * 4 > args.soak:
        raise ValueError(
            f"--soak {args.soak} is too short for a sample every {args.soak_period} iterations: "
            "lower --soak-period"
        )


def run_soak(
    args: argparse.Namespace,
    read: Callable[[argparse.Namespace], CfgNode],
    result: dict[str, Any],
) -> int:
    """Trains in a folder that is deleted in the end; returns the exit code.

    Args:
        args: of the command line.
        read: its configuration.
        result: settings and machine, for the file.
    """
    periods = {
        "TEST.EVAL_PERIOD": args.soak // _EVALUATIONS,
        "TEST.PICTURE_PERIOD": args.soak // _EVALUATIONS,
        "SOLVER.CHECKPOINT_PERIOD": args.soak // _CHECKPOINTS,
    }
    opts = ["SOLVER.MAX_ITER", str(args.soak)]
    for key, period in periods.items():
        opts += [key, str(max(period, 1))]
    with tempfile.TemporaryDirectory() as folder:
        # The command line has the last word but for the folder.
        args.opts = [*opts, *args.opts, "OUTPUT_DIR", folder]
        result["soak"] = measure_soak(read(args), args.soak_period)
    summary = result["soak"]["summary"]
    print(format_soak(summary))
    if args.output:
        write_benchmark(args.output, result)
        title = f"{args.config_file}, {args.soak} iterations, {result['machine']['processor']}"
        write_curves(args.output, draw_soak(result["soak"]["samples"], title))
    return 0 if all(entry["flat"] for entry in summary.values()) else 1


def curves_path(output: str) -> str:
    """Returns where the curves go: beside the file of ``--output``."""
    return os.path.splitext(output)[0] + ".png"


def write_curves(output: str, figure: Figure) -> None:
    """Writes a figure as PNG beside the file of ``--output``."""
    picture = curves_path(output)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    write_bytes(picture, drawn.getvalue())
    logger.info("Curves in %s", picture)
