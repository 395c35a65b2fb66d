"""Evaluate a model on the same clips with their own sound, silence, noise, and false sounds."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode
from torch import nn

from transavs.config_checks import check_front_end
from transavs.data import CONDITIONS, load_records
from transavs.data.avsbench import Record
from transavs.engine.robustness import ORIGINAL, add_summary, check_conditions, evaluate_conditions
from transavs.engine.trained_model import check_device, load_trained_model
from transavs.evaluation import (
    format_table,
    merge_results,
    read_results,
    reference_scores,
    write_results,
)
from transavs.evaluation.results_file import BY_CLASS, REFERENCES, Results
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    split_names,
    start_logging,
)
from transavs.utils.package_files import find_weights

logger = logging.getLogger(__name__)

Model = tuple[CfgNode, nn.Module]

# Names of the references that are no models.
_TAKEN_NAMES = ("nothing", "every_object", "nothing_nonempty", "every_object_nonempty")


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="eval_robustness.py",
        description=f"{__doc__} A model that listens marks nothing in silence and noise, and loses "
        "its score with a sound of something else; G-mIoU and G-F, those of AVSBench-Robust, put "
        "that into a number, over the frames in which something sounds and over all. Where the "
        "data know every visible object, the file also gets the scores of marking nothing and of "
        "marking every object.",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="checkpoint (default: MODEL.WEIGHTS)"
    )
    parser.add_argument(
        "--datasets", default="", metavar="NAME,NAME", help="default: DATASETS.TEST"
    )
    parser.add_argument(
        "--conditions",
        metavar="NAME,NAME",
        help=f"out of {', '.join(CONDITIONS)}; default: all of them, but for what the clips of a "
        "data set cannot have",
    )
    parser.add_argument(
        "--reference",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "CONFIG", "WEIGHTS"),
        help="another model, such as one without audio, to stand beside this one: evaluated with "
        "the original sound; may be repeated",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--merge", action="store_true", help="keep what the file holds of other data sets"
    )
    parser.add_argument("--seed", type=int, default=0, help="of noise and of exchanged sounds")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="config overrides for all models: KEY VALUE ..."
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the results and prints them; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    cfg = read_cfg(args.config_file, args.opts)
    names = split_names(args.datasets) or list(cfg.DATASETS.TEST)
    asked = None
    if args.conditions is not None:
        asked = split_names(args.conditions)
        _check_words("--conditions", asked, CONDITIONS)
    if not names:
        raise ValueError("the configuration has no DATASETS.TEST: name data sets with --datasets")
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    # Before the long work: whatever is wrong with files is told at once.
    inputs = {"--config-file": args.config_file, "--weights": args.weights}
    for name, *files in args.reference:
        parts = zip(("CONFIG", "WEIGHTS"), files, strict=True)
        inputs |= {f"{part} of --reference {name}": file for part, file in parts}
    check_output_files({"--output": args.output}, inputs)
    _kept(args)
    check_front_end(cfg, asked or list(CONDITIONS))
    check_device(cfg)
    others = _read_references(args.reference, args.opts)
    for _, weights in [(cfg, args.weights or cfg.MODEL.WEIGHTS), *others.values()]:
        if weights:
            find_weights(weights)
    records = {name: load_records(name) for name in names}
    conditions = {
        name: _conditions_of(cfg, name, records[name], asked, args.seed) for name in names
    }
    models = {
        other: (own_cfg, load_trained_model(own_cfg, weights))
        for other, (own_cfg, weights) in others.items()
    }
    model = load_trained_model(cfg, args.weights)

    own: Results = {}
    for name in names:
        own[name] = evaluate_conditions(cfg, model, records[name], conditions[name], args.seed)
        add_summary(own, name)
        _move_classes(own, name)
        references = find_references(records[name]) | _evaluate_references(models, records[name])
        if references:
            own.setdefault(REFERENCES, {})[name] = references
        # After each data set: an interrupted run keeps what is done. The file is read anew, for
        # another run may have merged its own in the meantime.
        results = merge_results(_kept(args), own)
        write_results(args.output, results)
    print(format_table(results))
    logger.info("Results in %s", args.output)
    return 0


def _kept(args: argparse.Namespace) -> Results:
    """What ``--merge`` keeps of the file."""
    return read_results(args.output) if args.merge and os.path.exists(args.output) else {}


def _move_classes(results: Results, name: str) -> None:
    """Gives the scores by class a part of the file of their own, beside the conditions."""
    by_class = results[name].get(ORIGINAL, {}).pop("J_by_class", None)
    if by_class:
        results.setdefault(BY_CLASS, {})[name] = by_class


def _conditions_of(
    cfg: CfgNode, name: str, records: Sequence[Record], asked: Sequence[str] | None, seed: int
) -> Sequence[str]:
    """Returns the conditions to evaluate a data set under.

    Args:
        asked: raise what is wrong with these; None: all, but for those that its clips cannot have.
    """
    if asked is not None:
        check_conditions(cfg, records, asked, seed)
        return asked
    possible = []
    for condition in CONDITIONS:
        try:
            check_conditions(cfg, records, (condition,), seed)
        except ValueError as error:
            # Files that are not there are another matter: they can be had.
            logger.warning("%s is evaluated without the %s", name, error)
        else:
            possible.append(condition)
    return possible


def find_references(records: Sequence[Record]) -> dict[str, float]:
    """Returns ``reference_scores``, or {} where the data do not know every visible object."""
    if not all("object_mask_file_names" in record for record in records):
        return {}
    return reference_scores(records)


def _read_references(
    arguments: Sequence[tuple[str, str, str]], opts: Sequence[str]
) -> dict[str, tuple[CfgNode, str]]:
    """Returns configuration and checkpoint of each ``--reference NAME CONFIG WEIGHTS``."""
    found: dict[str, tuple[CfgNode, str]] = {}
    for name, config_file, weights in arguments:
        if not name or name in _TAKEN_NAMES or name in found:
            raise ValueError(f"--reference: expected a name of its own for each, got {name!r}")
        found[name] = (read_cfg(config_file, opts), weights)
    return found


def _evaluate_references(models: Mapping[str, Model], records: Sequence[Record]) -> Results:
    found: Results = {}
    for name, (cfg, model) in models.items():
        logger.info("The reference %s", name)
        found[name] = dict(evaluate_conditions(cfg, model, records, (ORIGINAL,))[ORIGINAL])
        found[name].pop("J_by_class", None)
    return found


def _check_words(option: str, words: Sequence[str], known: Mapping[str, object]) -> None:
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        raise ValueError(
            f"{option}: expected a comma-separated list out of {', '.join(known)}, "
            f"got {','.join(words)!r}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
