"""Draw clips with their ground truth, a model's masks and their sound: one PNG a clip."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from transavs.data import CONDITIONS, AVSDatasetMapper, load_records, with_condition
from transavs.data.avsbench import Record
from transavs.engine.trained_model import load_trained_model, predict_clip
from transavs.tools.command_line import (
    CommandParser,
    check_folder_to_be,
    command,
    read_cfg,
    split_names,
    start_logging,
)
from transavs.utils.progress import progress_bar
from transavs.utils.whole_files import WholeFile, cannot_write
from transavs.visualization import draw_clip, draw_under_sounds

logger = logging.getLogger(__name__)

# Beside the conditions: each of them.
_EVERY_SOUND = "all"
#: Of a frame, in pixels: ten of them in five rows are half a gigabyte.
WIDEST_CELL = 2048


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="visualize.py",
        description=f"{__doc__} Rows are frames, ground truth, prediction and scores; columns are "
        "seconds, and below each frame stands the log-mel example of its second.",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="checkpoint (default: MODEL.WEIGHTS)"
    )
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    parser.add_argument("--output", required=True, metavar="DIR")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--count", type=int, default=8, help="clips, spread over the data set; 0 for all"
    )
    which.add_argument("--clips", metavar="ID,ID", help="these clips")
    parser.add_argument(
        "--condition",
        choices=[*CONDITIONS, _EVERY_SOUND],
        default="original",
        help="which sound the clips get: their own, none, noise, that of something off screen or "
        "of another clip; 'all' draws the predictions under each of them on one picture",
    )
    parser.add_argument("--seed", type=int, default=0, help="of noise and of exchanged sounds")
    parser.add_argument(
        "--ground-truth-only", action="store_true", help="no prediction; needs no weights"
    )
    parser.add_argument(
        "--draw-queries", action="store_true", help="one more row: a colour for each query"
    )
    parser.add_argument(
        "--cell-width",
        type=int,
        default=224,
        metavar="PIXELS",
        help="width of a frame (%(default)s)",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Draws the pictures; returns the exit code (2 for a mistake in the arguments)."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    cfg = read_cfg(args.config_file, args.opts)
    if args.dataset is None and not cfg.DATASETS.TEST:
        raise ValueError("the configuration has no DATASETS.TEST: name one with --dataset")
    records = load_records(args.dataset or cfg.DATASETS.TEST[0])
    if args.condition == _EVERY_SOUND:
        count = compare_sounds(cfg, records, args)
        logger.info("%d pictures in %s", count, args.output)
        return 0
    # The condition comes first: which sound a clip gets must not depend on the choice of clips.
    records = with_condition(records, args.condition, args.seed)
    records = choose_records(records, args.count, split_names(args.clips or ""))
    draw_records(cfg, records, args)
    logger.info("%d pictures in %s", len(records), args.output)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError or OSError for options that cannot be drawn with; makes nothing."""
    if not args.output:
        raise ValueError("--output is empty: name the folder of the pictures")
    check_folder_to_be("--output", args.output)
    check_cell_width(args.cell_width)
    if args.clips is not None and not split_names(args.clips):
        raise ValueError(
            f"--clips names no clip, got {args.clips!r}: name some, or take --count instead"
        )
    if args.ground_truth_only and args.draw_queries and args.condition != _EVERY_SOUND:
        raise ValueError(
            "--draw-queries shows what a model claims, and --ground-truth-only asks none: leave "
            "one of them out"
        )


def check_cell_width(pixels: int) -> None:
    """Raises ValueError for a width that no frame can have."""
    if not 1 <= pixels <= WIDEST_CELL:
        raise ValueError(f"--cell-width must be 1 to {WIDEST_CELL} pixels, got {pixels}")


def choose_records(records: Sequence[Record], count: int, clip_ids: Sequence[str]) -> list[Record]:
    """Returns the named clips, or else ``count`` of them at equal distances (0: all).

    Raises:
        ValueError: a clip that the data set does not have, or a negative count.
    """
    if clip_ids:
        by_id = {record["clip_id"]: record for record in records}
        for clip_id in clip_ids:
            if clip_id not in by_id:
                near = difflib.get_close_matches(clip_id, by_id, n=3, cutoff=0.3) or list(by_id)[:3]
                raise ValueError(
                    f"the data set has no clip {clip_id!r} among its {len(by_id)}; "
                    f"it has, for example, {', '.join(near)}"
                )
        return [by_id[clip_id] for clip_id in clip_ids]
    if count < 0:
        raise ValueError(f"--count must be 0 (all) or more, got {count}")
    if count == 0 or count >= len(records):
        return list(records)
    chosen = np.linspace(0, len(records) - 1, count).round().astype(int)
    return [records[index] for index in chosen]


def draw_records(cfg: CfgNode, records: Sequence[Record], args: argparse.Namespace) -> None:
    """Writes the picture of each record into ``args.output``."""
    model = None if args.ground_truth_only else load_trained_model(cfg, args.weights)
    mapper = AVSDatasetMapper(cfg, is_train=False)
    for record in progress_bar(records, "drawing", "clip"):
        clip = mapper(record)
        prediction, queries = None, None
        if model is not None:
            answer = predict_clip(model, clip)
            prediction = answer.prediction
            if args.draw_queries and answer.queries is not None:
                queries = [frame.pixels for frame in answer.queries]
        picture = draw_clip(
            clip,
            prediction,
            cfg.INPUT.FORMAT,
            draw_queries=queries,
            cell_width=args.cell_width,
            title=f"{record['clip_id']}, {describe_sound(record)}",
        )
        save_picture(Path(args.output) / f"{file_stem(record['clip_id'])}.png", picture)


def compare_sounds(cfg: CfgNode, records: Sequence[Record], args: argparse.Namespace) -> int:
    """Writes a picture of each chosen clip under every sound; returns their number."""
    if args.ground_truth_only or args.draw_queries:
        raise ValueError(
            "--condition all compares predictions: leave out --ground-truth-only and --draw-queries"
        )
    changed = {}
    for name in CONDITIONS:
        try:
            changed[name] = with_condition(records, name, args.seed)
        except (ValueError, FileNotFoundError) as error:
            logger.warning("left out %s: %s", name, error)
    chosen = {
        name: choose_records(under, args.count, split_names(args.clips or ""))
        for name, under in changed.items()
    }
    model = load_trained_model(cfg, args.weights)
    mapper = AVSDatasetMapper(cfg, is_train=False)
    same_clips = list(zip(*chosen.values(), strict=True))
    for under in progress_bar(same_clips, "drawing", "clip"):
        clips = {}
        for name, record in zip(chosen, under, strict=True):
            clips[f"{name}: {describe_sound(record)}"] = mapper(record)
        answers = {title: predict_clip(model, clip).prediction for title, clip in clips.items()}
        picture = draw_under_sounds(clips, answers, cfg.INPUT.FORMAT, cell_width=args.cell_width)
        save_picture(Path(args.output) / f"{file_stem(under[0]['clip_id'])}.png", picture)
    return len(same_clips)


def describe_sound(record: Record) -> str:
    """Which sound a record has, in words."""
    if record.get("audio_condition") == "silence":
        return "in silence"
    if record.get("audio_condition") == "noise":
        return "with white noise"
    if "audio_clip_id" in record:
        return f"with the sound of {record['audio_clip_id']}"
    return "with its own sound"


def file_stem(clip_id: str) -> str:
    """A file name for a clip, whose id may hold a category and a slash."""
    return clip_id.replace("/", "__").replace(os.sep, "__")


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a PNG; a name that exists holds the whole picture."""
    whole = WholeFile(path)
    try:
        Image.fromarray(picture).save(whole.temporary, format="PNG")
    except OSError as error:
        raise cannot_write(path, error) from error
    else:
        whole.finish()
    finally:
        whole.discard()  # which is gone where it has got its name


if __name__ == "__main__":
    raise SystemExit(main())
