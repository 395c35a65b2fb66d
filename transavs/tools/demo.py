"""Mark what sounds in a film: ``python tools/demo.py --input film.mp4 --output out.mp4``."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transavs.tools.command_line import INTERRUPTED, CommandParser, command, start_logging
from transavs.tools.model_options import (
    add_model_options,
    add_moment_options,
    check_model_options,
    check_moment_options,
    load_predictor,
)
from transavs.utils.progress import progress_bar
from transavs.utils.signal_counter import SignalCounter

if TYPE_CHECKING:
    from transavs.engine.predictor import VideoPredictor

logger = logging.getLogger(__name__)


def _named(text: str) -> str:
    # A shell's variable that nobody set; Path("") would be the current folder.
    if not text:
        raise argparse.ArgumentTypeError("expected a name, got an empty one")
    return text


def _path(text: str) -> Path:
    return Path(_named(text))


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="demo.py",
        description="Writes a film in which what sounds is marked. Without --config-file and "
        "--weights a small model is used that comes with the package; it knows few classes.",
    )
    parser.add_argument(
        "--input",
        required=True,
        type=_path,
        metavar="FILM",
        help="any film that FFmpeg reads, or a folder of pictures and a sound",
    )
    parser.add_argument(
        "--output", required=True, type=_path, metavar="FILM", help=".mp4, .mov or .mkv"
    )
    add_model_options(parser)
    add_moment_options(
        parser,
        "how often a second the model is asked; masks stay until the next ones (%(default)s)",
    )
    parser.add_argument(
        "--start", type=float, default=0.0, metavar="SECONDS", help="first second of the film"
    )
    parser.add_argument("--end", type=float, metavar="SECONDS", help="last second of the film")
    parser.add_argument(
        "--sound",
        type=_named,
        default="own",
        metavar="FILE",
        help="what is heard: 'own' (default), 'silence', or another file's sound",
    )
    parser.add_argument(
        "--audio-track", type=int, metavar="NUMBER", help="of the film, from 1 on (the first)"
    )
    parser.add_argument(
        "--strip",
        action="store_true",
        help="under the picture: log-mel, waveform, and how confident the model is",
    )
    parser.add_argument(
        "--view",
        choices=["mask", "objects", "score"],
        default="mask",
        help="all that sounds in one colour (default), a colour for each object, which it keeps, "
        "or the score as a heat map",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="NUMBER",
        help="mark where the score is above this (default: the model's own rule)",
    )
    parser.add_argument(
        "--save-masks",
        type=_path,
        metavar="PATH",
        help="a folder for one PNG a moment, or a .json of COCO run lengths",
    )
    parser.add_argument(
        "--longest-side",
        type=int,
        metavar="PIXELS",
        help="larger films are scaled down to it (1920; 0 for no limit)",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the film; returns the exit code (2 for a mistake, 130 when it was stopped)."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    # Only now, so that --help and mistakes are answered at once.
    predictor = load_predictor(args)
    logger.info("%s", _knows(predictor))
    return _mark(predictor, args)


def _check(args: argparse.Namespace) -> None:
    check_model_options(args)
    check_moment_options(args)
    try:
        import transavs.video  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise ValueError(str(error)) from None
    from transavs.video.writer import check_container

    check_container(args.output)
    if args.output.is_dir():
        raise ValueError(f"cannot write {args.output}: it is a folder, name a file")
    if not args.input.exists():
        raise FileNotFoundError(f"no film at {args.input}: check the path")
    if args.folder_fps is not None and not args.input.is_dir():
        raise ValueError(
            f"--folder-fps is for a folder of pictures, but {args.input} is a film, which has "
            "times of its own: leave it out"
        )


def _knows(predictor: VideoPredictor) -> str:
    classes = predictor.known_classes
    if not classes:
        return f"model {predictor.weights}; nothing tells which classes it was trained on"
    return (
        f"model {predictor.weights}; it was trained on {', '.join(classes)}, and knows no other "
        "sounds"
    )


def _mark(predictor: VideoPredictor, args: argparse.Namespace) -> int:
    from transavs.tools.film_overlay import OverlayOptions, write_overlay
    from transavs.video import open_film
    from transavs.video.film import LONGEST_SIDE, check_span
    from transavs.video.frames import FOLDER_FRAME_RATE

    side = LONGEST_SIDE if args.longest_side is None else args.longest_side
    film = open_film(args.input, args.audio_track, side, args.folder_fps or FOLDER_FRAME_RATE)
    options = OverlayOptions(
        per_second=args.fps,
        every_frame=args.every_frame,
        start=args.start,
        end=args.end,
        strip=args.strip,
        view=args.view,
        threshold=args.threshold,
        save_masks=args.save_masks,
    )
    if not film.has_sound and args.sound == "own":
        logger.warning("%s has no sound: the model hears silence", film.name)
    check_span(args.start, args.end, film.duration, film.name)
    total = None
    if film.duration is not None:
        until = film.duration if args.end is None else min(args.end, film.duration)
        total = max(1, math.ceil(until - args.start))
    began = time.monotonic()
    with SignalCounter() as signals, progress_bar(None, "film", " s", total) as bar:
        summary = write_overlay(
            predictor,
            film,
            args.output,
            options,
            sound=args.sound,
            progress=lambda seconds: _move(bar, seconds),
            should_stop=lambda: signals.count > 0,
        )
        if bar.total is not None and not summary.stopped:
            _move(bar, bar.total)
    if not summary.frames:
        logger.warning("stopped before the first picture: %s was not written", args.output)
        return INTERRUPTED
    logger.info(
        "%s: %.1f s of film, %d pictures, %d moments of which %.0f %% have a mask, sound %s, "
        "%.1f s of work",
        args.output,
        summary.seconds,
        summary.frames,
        summary.moments,
        100 * summary.marked,
        summary.sound,
        time.monotonic() - began,
    )
    if summary.stopped:
        logger.warning("stopped: the film plays up to here")
        return INTERRUPTED
    return 0


def _move(bar: Any, seconds: float) -> None:
    """Moves a bar to whole seconds of film."""
    done = int(seconds)
    if bar.total is not None:
        done = min(done, bar.total)
    bar.update(done - bar.n)


if __name__ == "__main__":
    raise SystemExit(main())
