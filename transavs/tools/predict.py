"""Predict many films and clips: ``python tools/predict.py MANIFEST --output FOLDER``."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from transavs.tools.command_line import (
    INTERRUPTED,
    CommandParser,
    check_folder_to_be,
    check_threads,
    command,
    read_cfg,
    start_logging,
)
from transavs.tools.model_options import (
    add_model_options,
    add_moment_options,
    check_model_options,
    check_moment_options,
)
from transavs.utils.progress import progress_bar
from transavs.utils.signal_counter import SignalCounter

if TYPE_CHECKING:
    from tqdm import tqdm

    from transavs.engine.prediction import Settings, Summary

logger = logging.getLogger(__name__)

# So many reasons are told at the end; all of them stand in the file.
_TOLD = 5
#: Of an item: a day.
MOST_SECONDS = 86_400


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="predict.py",
        description="Marks what sounds in the films and clips of a manifest, and writes the masks "
        "as run lengths into Parquet files. The same command goes on where it was stopped or "
        "killed. Without --config-file and --weights a small model is used that comes with the "
        "package; it knows few classes.",
    )
    parser.add_argument(
        "manifest",
        type=Path,
        metavar="MANIFEST",
        help=".csv or JSON lines with id and video, or id, frames and audio; paths are relative "
        "to its folder",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    add_model_options(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="NUMBER",
        help="processes (1), or actors on Ray (one for each device); 0 predicts in this process",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="predict on a Ray cluster: HOST:PORT, 'auto', or without an address one that is "
        "started here",
    )
    add_moment_options(parser, "how often a second the model is asked (%(default)s)")
    parser.add_argument(
        "--longest-side",
        type=int,
        default=1920,
        metavar="PIXELS",
        help="larger pictures are scaled down to it (%(default)s; 0 for no limit)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=4,
        metavar="NUMBER",
        help="moments that the model is shown at once (%(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="NUMBER", help="of each worker (%(default)s)"
    )
    parser.add_argument(
        "--silent-films",
        action="store_true",
        help="predict films without sound too, with silence, in the place of setting them aside",
    )
    parser.add_argument(
        "--attempts",
        type=int,
        default=2,
        metavar="NUMBER",
        help="set an item aside when so many workers died over it (%(default)s)",
    )
    parser.add_argument(
        "--item-timeout",
        type=float,
        metavar="SECONDS",
        help="set an item aside when it takes longer (default: never)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try items again that were set aside"
    )
    parser.add_argument(
        "--shard-items",
        type=int,
        default=1000,
        metavar="NUMBER",
        help="items a Parquet file (%(default)s)",
    )
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="override a key of the configuration; may be repeated",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; returns the exit code.

    0: every item was predicted or set aside; 2: a mistake; 130: it was stopped.
    """
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    try:
        from transavs.engine.prediction import Execution, predict_manifest, read_manifest
    except ModuleNotFoundError as error:
        if error.name not in ("av", "pyarrow"):
            raise
        raise ValueError(str(error)) from None

    execution = Execution(
        workers=args.workers,
        ray=args.ray,
        attempts=args.attempts,
        timeout_seconds=args.item_timeout,
        retry_failed=args.retry_failed,
    )
    # Before the configuration, as the most likely to hold a mistake.
    read_manifest(args.manifest)
    settings = _settings(args)
    began = time.monotonic()
    with SignalCounter() as signals, ExitStack() as shown:
        bars: list[tqdm] = []

        # No bar before the work, as an empty one would stand above the error that forbids it; and
        # none without work.
        def begin(left: int, finished: int) -> None:
            logger.info("%d items finished before, %d left", finished, left)
            if left:
                bars.append(shown.enter_context(progress_bar(None, "predicting", "item", left)))

        summary = predict_manifest(
            args.manifest,
            args.output,
            settings,
            execution,
            shard_items=args.shard_items,
            should_stop=lambda: signals.count > 0,
            begin=begin,
            step=lambda outcome: bars[0].update(),
        )
    return _report(summary, args.output, time.monotonic() - began)


def _check(args: argparse.Namespace) -> None:
    check_model_options(args, [key for key, _ in args.set])
    if str(args.output) == ".":
        raise ValueError("--output must name a folder of its own, not the current one")
    check_folder_to_be("--output", args.output)
    if args.item_timeout is not None and not 0 < args.item_timeout <= MOST_SECONDS:
        raise ValueError(
            f"--item-timeout must be above 0 and at most {MOST_SECONDS} seconds, got "
            f"{args.item_timeout:g}"
        )
    if args.workers is not None and args.workers < 0:
        raise ValueError(f"--workers must be at least 0, got {args.workers}")
    check_moment_options(args)
    check_threads(args.threads)
    for option in ("batch_size", "attempts", "shard_items"):
        if getattr(args, option) < 1:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, option)}")


def _settings(args: argparse.Namespace) -> Settings:
    from transavs.engine.prediction import Settings
    from transavs.engine.predictor import SHIPPED_CONFIG, SHIPPED_WEIGHTS
    from transavs.video.frames import FOLDER_FRAME_RATE

    shipped = not args.config_file
    return Settings.of(
        read_cfg(args.config_file or SHIPPED_CONFIG, [word for pair in args.set for word in pair]),
        SHIPPED_WEIGHTS if shipped else args.weights,
        device=args.device,
        per_second=None if args.every_frame else args.fps,
        longest_side=args.longest_side,
        folder_rate=args.folder_fps or FOLDER_FRAME_RATE,
        batch_size=args.batch_size,
        silent_films=args.silent_films,
        threads=args.threads,
    )


def _report(summary: Summary, output: Path, seconds: float) -> int:
    logger.info(
        "%s: %d of %d items predicted, %d of them now, in %.1f s",
        output,
        summary.finished,
        summary.items,
        summary.now,
        seconds,
    )
    if summary.set_aside:
        logger.warning(
            "%d items were set aside: their errors stand in %s; --retry-failed tries them again",
            len(summary.set_aside),
            output / "set_aside.jsonl",
        )
        for item_id, error in summary.set_aside[:_TOLD]:
            logger.warning("  %s: %s", item_id, error)
    if summary.stopped:
        logger.warning("stopped: the same command goes on with what is left")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
