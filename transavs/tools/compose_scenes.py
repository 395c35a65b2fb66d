"""Compose scenes of masked photographs and recordings (command line of `transavs.synthetic`)."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transavs.synthetic import CLASSES, SPLITS, SceneSettings, compose_scenes, read_sources
from transavs.tools.command_line import CommandParser, command

logger = logging.getLogger(__name__)

UNAVAILABLE = 1


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Composes the set; returns the exit code: 0, 1 where a process died, 2 for a mistake of the
    user's, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    sources = read_sources(
        arguments.classes,
        arguments.coco,
        arguments.images,
        arguments.sounds,
        arguments.cutouts,
        arguments.manifest,
    )
    counts = {split: getattr(arguments, split) for split in SPLITS}
    settings = SceneSettings(arguments.seed, counts, arguments.size)
    try:
        root = compose_scenes(
            sources,
            arguments.output,
            settings,
            workers=arguments.workers,
            force=arguments.force,
            progress=arguments.progress,
        )
    except RuntimeError as error:
        logger.error("%s", error)
        return UNAVAILABLE
    print(root)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="compose_scenes.py",
        description="Compose clips of 5 seconds with exact masks, in AVSBench's layout below "
        "ROOT/transavs_scenes, of photographs with instance masks and of recordings. A clip that "
        "is there is kept, so the same command goes on where it stopped.",
    )
    folders: dict[str, Any] = {"type": Path, "metavar": "FOLDER"}
    parser.add_argument(
        "--coco", type=Path, required=True, metavar="JSON", help="instances, COCO's form"
    )
    parser.add_argument("--images", required=True, help="the photographs that it names", **folders)
    parser.add_argument(
        "--cutouts", nargs="+", default=[], help="CLASS/*.png with alpha, to paste", **folders
    )
    parser.add_argument(
        "--sounds", nargs="+", required=True, help="CLASS/*.wav, .ogg or .flac", **folders
    )
    parser.add_argument(
        "--classes", type=Path, default=CLASSES, metavar="YAML", help=f"default: {CLASSES}"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        nargs="+",
        default=[],
        metavar="CSV",
        help="columns 'file' and 'split' (train or heldout); files that none names are held out by "
        "a hash of their names, a fifth of them",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="ROOT", help="root of the data sets"
    )
    for split, count in {"train": 3000, "val": 100, "test": 200, "wild": 200}.items():
        pictures, sounds = SPLITS[split]
        parser.add_argument(
            f"--{split}",
            type=int,
            default=count,
            metavar="CLIPS",
            help=f"of {pictures} pictures and {sounds} recordings (default: {count})",
        )
    parser.add_argument("--size", type=int, default=256, help="longest side of a frame (256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--force", action="store_true", help="delete a set of other files or settings"
    )
    parser.add_argument(
        "--no-progress", dest="progress", action="store_false", help="show no progress bar"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
