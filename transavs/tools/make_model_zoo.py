"""Write the generated parts of the model zoo page: trainings of ours beside published numbers."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from transavs.engine.zoo import (
    fill_page,
    find_runs,
    format_entries,
    generated_parts,
    read_entries,
    read_entry_file,
    read_published,
)
from transavs.modeling.cost import measure_cost
from transavs.tools.command_line import CommandParser, command, start_logging, write_text

logger = logging.getLogger(__name__)

OUTDATED = 1


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="make_model_zoo.py",
        description=f"{__doc__} Without --runs the parts are written anew from the files that are "
        "there. What stands outside of the page's markers is left alone.",
        epilog="Exit code: 0 done, or up to date; 1 --check found that it is not; 2 a mistake in "
        "the arguments.",
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders with trainings of train_net.py or ablation.py, at any depth; their scores "
        "replace those in --entries",
    )
    parser.add_argument(
        "--page", default="MODEL_ZOO.md", metavar="FILE", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--entries",
        default="docs/model_zoo.json",
        metavar="FILE",
        help="what was read from the trainings, to be kept with the page (default: %(default)s)",
    )
    parser.add_argument(
        "--no-size",
        action="store_true",
        help="do not build models to count parameters and multiply-accumulates where no "
        "benchmark.json lies in the folder",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say whether the page is up to date"
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes or checks the page; returns the exit code that ``--help`` tells."""
    args = build_parser().parse_args(argv)
    start_logging()
    page = _read_page(args.page)
    if args.runs:
        entries = read_entries(find_runs(args.runs), None if args.no_size else _size)
    else:
        entries = read_entry_file(args.entries)
    try:
        filled = fill_page(page, generated_parts(read_published(), entries))
    except ValueError as error:
        raise ValueError(f"{args.page}: {error}") from error
    if args.check:
        if filled == page:
            logger.info("%s is up to date", args.page)
            return 0
        logger.error("%s is not up to date: write it anew without --check", args.page)
        return OUTDATED
    if args.runs:
        write_text(args.entries, format_entries(entries))
    write_text(args.page, filled)
    logger.info("Wrote %s with %d models of ours", args.page, len(entries))
    return 0


def _read_page(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no {path}: call this from the top of the repository, or name the page with --page"
        ) from None


def _size(cfg: CfgNode) -> dict[str, int]:
    """Size of a configuration's model, with random weights on the CPU."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.MODEL.AUDIO.WEIGHTS = cfg.MODEL.TIMM.WEIGHTS = ""
    size = int(cfg.INPUT.MIN_SIZE_TEST)
    cost = measure_cost(cfg, build_model(cfg), int(cfg.INPUT.CLIP_SECONDS), (size, size))
    return {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "limit_macs": cost.encoder_baseline_macs,
    }


if __name__ == "__main__":
    raise SystemExit(main())
