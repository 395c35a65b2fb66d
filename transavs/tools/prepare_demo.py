"""Compose the demo data set on this machine (command line of `transavs.data.demo`)."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from transavs.data.avsbench import dataset_root
from transavs.data.demo import (
    SET_FOLDER,
    SPLITS,
    AssetsUnavailable,
    DemoAssets,
    Settings,
    classes_named,
    compose_set,
    find_complete_set,
    find_covering_set,
    load_real_assets,
    make_drawn_assets,
    provide_packages,
    scaled_counts,
)
from transavs.data.demo.catalogue import SoundingClass
from transavs.tools.command_line import CommandParser, command

logger = logging.getLogger(__name__)

UNAVAILABLE = 1

CACHE_FOLDER = "transavs_demo_assets"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Composes the set; returns the exit code: 0, 1 where it cannot be made here, 2 for a mistake
    of the user's, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        root = _prepare(arguments)
    except RuntimeError as error:  # packages that cannot be had, or that do not hold what they did
        logger.error("%s", error)
        return UNAVAILABLE
    except KeyboardInterrupt:
        logger.error("The same command goes on where this one stopped")
        raise
    print(root)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="prepare_demo.py",
        description="Compose the demo data set: short clips with exact masks, in AVSBench's layout "
        f"below ROOT/{SET_FOLDER}. Photographs and recordings come from three Debian packages "
        "(214 MB, downloaded without installing them); where these cannot be had, shapes with a "
        "timbre each are drawn instead.",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(dataset_root()),
        help="data root (default: $DETECTRON2_DATASETS, or 'datasets')",
    )
    parser.add_argument(
        "--source",
        choices=("auto", "real", "drawn"),
        default="auto",
        help="real: fail if the packages cannot be had; drawn: shapes; auto: real, else drawn",
    )
    parser.add_argument(
        "--assets", type=Path, help="folder that holds the .deb files; nothing is downloaded then"
    )
    parser.add_argument(
        "--accept-other-versions",
        action="store_true",
        help="use packages of other versions than those that were checked",
    )
    parser.add_argument(
        "--classes",
        default="default",
        help="'default' (8 classes), 'all', or a comma-separated list of names; "
        "the drawn set has its own",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="size of the set, 1 = 1180 + 1480 clips"
    )
    parser.add_argument(
        "--count",
        type=_count,
        action="append",
        default=[],
        metavar="SUBSET/SPLIT=N",
        help="size of one split, such as ms3/train=200; may be repeated",
    )
    parser.add_argument(
        "--splits",
        type=_splits,
        default=SPLITS,
        metavar="SPLIT,SPLIT",
        help="compose these alone, out of train,val,test,unseen; their clips are those of the "
        "whole set",
    )
    parser.add_argument(
        "--within",
        type=Path,
        metavar="ROOT",
        help="look below this root first: a set that is there and holds these splits is used as "
        "it is, and packages that are there are not downloaded again",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--force", action="store_true", help="delete a set that was composed with other settings"
    )
    parser.add_argument(
        "--no-progress", dest="progress", action="store_false", help="show no progress bar"
    )
    return parser


def _count(text: str) -> tuple[str, str, int]:
    key, _, number = text.partition("=")
    subset, _, split = key.partition("/")
    if subset not in ("s4", "ms3") or split not in ("train", "val", "test", "unseen"):
        raise argparse.ArgumentTypeError(f"expected something like ms3/train=200, got {text!r}")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of clips after '=', got {text!r}")
    return subset, split, int(number)


def _splits(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(SPLITS):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(SPLITS)}, got {text!r}")
    return names


def _prepare(arguments: argparse.Namespace) -> Path:
    counts = scaled_counts(arguments.scale)
    for subset, split, count in arguments.count:
        counts[subset][split] = count
    for splits in counts.values():
        splits.update(dict.fromkeys(set(SPLITS) - set(arguments.splits), 0))
    settings = Settings(arguments.seed, counts)
    classes = classes_named(arguments.classes)
    if arguments.within is not None:
        if arguments.source == "drawn":
            drawn = make_drawn_assets()
            found = find_covering_set(arguments.within, drawn.source, drawn.classes, settings)
        else:
            found = find_covering_set(arguments.within, "real", classes, settings)
        if found is not None:
            logger.info("%s holds these splits already", found)
            return found
    if arguments.source != "drawn":
        # Asked before the packages are looked for: a set that is there needs none of them.
        found = find_complete_set(arguments.root, "real", classes, settings)
        if found is not None:
            logger.info("%s is there already", found)
            return found
    return compose_set(
        _provide_assets(arguments, classes),
        arguments.root,
        settings,
        workers=arguments.workers,
        force=arguments.force,
        progress=arguments.progress,
    )


def _provide_assets(arguments: argparse.Namespace, classes: Sequence[SoundingClass]) -> DemoAssets:
    if arguments.source == "drawn":
        return make_drawn_assets()
    try:
        unpacked = provide_packages(
            _cache_folder(arguments),
            arguments.assets,
            accept_other_versions=arguments.accept_other_versions,
        )
    except AssetsUnavailable as error:
        if arguments.source == "real":
            raise
        logger.warning("%s; composing the drawn set instead", error)
        return make_drawn_assets()
    return load_real_assets(unpacked, classes)


def _cache_folder(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.root / CACHE_FOLDER
    if arguments.within is not None and not folder.is_dir():
        other: Path = arguments.within / CACHE_FOLDER
        if other.is_dir() and os.access(other, os.W_OK):
            return other
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
