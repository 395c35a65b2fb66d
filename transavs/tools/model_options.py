"""Options of the commands that ask a trained model, by default the one of the package."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transavs.engine.predictor import VideoPredictor

_MOST_PER_SECOND = 1000


def add_model_options(parser: argparse.ArgumentParser, device: bool = True) -> None:
    """Adds ``--config-file``, ``--weights`` and, unless told otherwise, ``--device``."""
    parser.add_argument("--config-file", metavar="FILE", help="configuration of the model")
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="its checkpoint (default: MODEL.WEIGHTS)"
    )
    if device:
        parser.add_argument(
            "--device", metavar="NAME", help="cpu or cuda (default: a GPU where there is one)"
        )


def check_model_options(args: argparse.Namespace, overridden: Iterable[str] = ()) -> None:
    """Raises ValueError for weights whose configuration nobody named, and for a wrong device.

    Args:
        args: of a parser with :func:`add_model_options`.
        overridden: keys of the configuration that the command line sets as well.
    """
    if not args.config_file:
        for given, name in (
            (args.weights, "--weights"),
            ("MODEL.WEIGHTS" in overridden, "MODEL.WEIGHTS"),
        ):
            if given:
                raise ValueError(
                    f"{name} without --config-file: name the configuration that they were trained "
                    "with"
                )
    if getattr(args, "device", None):
        # Only now: whoever asks for --help waits for no engine.
        from transavs.engine.trained_model import check_device_name

        check_device_name(args.device, "--device")


def add_moment_options(parser: argparse.ArgumentParser, told: str) -> None:
    """Adds ``--fps`` and ``--every-frame``, which exclude each other, and ``--folder-fps``.

    Args:
        told: help of the first.
    """
    often = parser.add_mutually_exclusive_group()
    often.add_argument("--fps", type=float, default=1.0, metavar="NUMBER", help=told)
    often.add_argument("--every-frame", action="store_true", help="ask it about every frame")
    parser.add_argument(
        "--folder-fps",
        type=float,
        metavar="NUMBER",
        help="pictures a second in folders of pictures (1)",
    )


def check_moment_options(args: argparse.Namespace) -> None:
    """Raises ValueError for rates or a ``--longest-side`` that no film can be asked with."""
    for option, rate in (("--fps", args.fps), ("--folder-fps", args.folder_fps)):
        if rate is not None and not 0 < rate <= _MOST_PER_SECOND:
            raise ValueError(
                f"{option} must be above 0 and at most {_MOST_PER_SECOND}, got {rate:g}"
            )
    if args.longest_side is not None and args.longest_side < 0:
        raise ValueError(f"--longest-side must not be negative, got {args.longest_side}")


def load_predictor(args: argparse.Namespace) -> VideoPredictor:
    """Returns the model that the options mean, ready for films."""
    from transavs.engine.predictor import VideoPredictor
    from transavs.tools.command_line import read_cfg

    cfg = read_cfg(args.config_file, []) if args.config_file else None
    return VideoPredictor(cfg, args.weights, args.device)
