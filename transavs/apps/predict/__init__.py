"""Predict many videos and clips: ``python tools/predict.py MANIFEST --output FOLDER``.

Modules, lowest first: `manifest` lists the items, `model` predicts one, `results` keeps what comes
back and reads it, `workers` are processes that may die, and `run` joins all of it. In Python
`run.predict_manifest` is the command, and `results.read_predictions` reads what it wrote. Needs
the extra ``predict``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
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
from transavs.utils.signal_counter import SignalCounter

if TYPE_CHECKING:
    from transavs.apps.predict.model import Settings
    from transavs.apps.predict.run import Summary

logger = logging.getLogger(__name__)

# So many reasons are told at the end; all of them stand in the file.
_TOLD = 5


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = CommandParser(
        prog="predict.py",
        description="Marks what sounds in the videos and clips of a manifest, and writes the masks "
        "as run lengths into Parquet files. The same command goes on where it was stopped or "
        "killed. Without --config-file and --weights a small model is used that comes with the "
        "package; it knows few classes.",
    )
    add = parser.add_argument
    add("manifest", type=Path, metavar="MANIFEST",
        help=".csv or JSON lines with id and video, or id, frames and audio; paths are relative to "
        "its folder")  # fmt: skip
    add("--output", required=True, type=Path, metavar="FOLDER")
    add_model_options(parser)
    add("--workers", type=int, metavar="NUMBER",
        help="processes (1), or actors on Ray (one for each device); 0 predicts in this process",
    )  # fmt: skip
    add("--ray", nargs="?", const="local", metavar="ADDRESS",
        help="predict on a Ray cluster: HOST:PORT, 'auto', or without an address one that is "
        "started here")  # fmt: skip
    add_moment_options(parser, "sampled frames a second (%(default)s)")
    add("--longest-side", type=int, default=1920, metavar="PIXELS",
        help="larger pictures are scaled down to it (%(default)s; 0 for no limit)")  # fmt: skip
    add("--batch-size", type=int, default=4, metavar="NUMBER",
        help="frames that the model is shown at once (%(default)s)")  # fmt: skip
    add("--threads", type=int, default=1, metavar="NUMBER", help="of each worker (%(default)s)")
    add("--silent-videos", "--silent-films", action="store_true",
        help="predict videos without audio too, with silence; otherwise they fail")  # fmt: skip
    add("--attempts", type=int, default=2, metavar="NUMBER",
        help="an item has failed when so many workers died over it (%(default)s)")  # fmt: skip
    add("--item-timeout", type=float, metavar="SECONDS",
        help="an item has failed when it takes longer (default: no limit)")  # fmt: skip
    add("--retry-failed", action="store_true", help="try items again that failed before")
    add("--shard-items", type=int, default=1000, metavar="NUMBER",
        help="items a Parquet file (%(default)s)")  # fmt: skip
    add("--set", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
        help="override a key of the configuration; may be repeated")  # fmt: skip
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; returns the exit code.

    0: every item was predicted or has failed; 2: a mistake; 130: it was stopped.
    """
    args = build_parser().parse_args(argv)
    start_logging()
    check_model_options(args, [key for key, _ in args.set])
    if str(args.output) == ".":
        raise ValueError("--output must name a folder of its own, not the current one")
    check_folder_to_be("--output", args.output)
    check_moment_options(args)
    check_threads(args.threads)
    try:
        from transavs.apps.predict.manifest import read_manifest
        from transavs.apps.predict.run import predict_manifest
    except ModuleNotFoundError as error:
        if error.name not in ("av", "pyarrow", "pebble"):
            raise
        raise ValueError(f'{error}: pip install "transavs[predict]"') from None

    # Before the configuration, as the most likely to hold a mistake.
    read_manifest(args.manifest)
    settings = _settings(args)
    began = time.monotonic()
    with SignalCounter() as signals:
        summary = predict_manifest(
            args.manifest,
            args.output,
            settings,
            should_stop=lambda: signals.count > 0,
            progress=True,
        )
    return _report(summary, args.output, time.monotonic() - began)


def _settings(args: argparse.Namespace) -> Settings:
    from transavs.apps.predict.model import Settings
    from transavs.engine.predictor import SHIPPED_CONFIG, SHIPPED_WEIGHTS
    from transavs.video.frames import FOLDER_FRAME_RATE

    return Settings.of(
        read_cfg(args.config_file or SHIPPED_CONFIG, [word for pair in args.set for word in pair]),
        args.weights if args.config_file else SHIPPED_WEIGHTS,
        device=args.device,
        per_second=None if args.every_frame else args.fps,
        longest_side=args.longest_side,
        folder_rate=args.folder_fps or FOLDER_FRAME_RATE,
        batch_size=args.batch_size,
        silent_videos=args.silent_videos,
        threads=args.threads,
        workers=args.workers,
        ray=args.ray,
        attempts=args.attempts,
        item_timeout=args.item_timeout,
        retry_failed=args.retry_failed,
        shard_items=args.shard_items,
    )


def _report(summary: Summary, output: Path, seconds: float) -> int:
    logger.info(
        "%s: %d of %d items predicted, %d of them now, in %.1f s",
        *(output, summary.finished, summary.items, summary.now, seconds),
    )
    if summary.failed_items:
        logger.warning(
            "%d items failed: their errors stand in %s; --retry-failed tries them again",
            *(len(summary.failed_items), output / "failed_items.jsonl"),
        )
        for item_id, error in summary.failed_items[:_TOLD]:
            logger.warning("  %s: %s", item_id, error)
    if summary.stopped:
        logger.warning("stopped: the same command goes on with what is left")
        return INTERRUPTED
    return 0
