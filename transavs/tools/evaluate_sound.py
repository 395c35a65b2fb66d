"""Evaluate a model on the same clips with their own sound, another clip's sound, and silence."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from tabulate import tabulate
from torch import nn

from transavs.data import (
    CONDITIONS,
    AVSDatasetMapper,
    build_clip_test_loader,
    load_records,
    with_condition,
)
from transavs.data.avsbench import Record
from transavs.evaluation import AVSEvaluator, reference_scores
from transavs.tools.command_line import (
    check_output_folder,
    command,
    read_cfg,
    split_names,
    start_logging,
    write_text,
)
from transavs.tools.trained_model import load_trained_model

logger = logging.getLogger(__name__)

Results = dict[str, dict[str, Any]]

# Under these nothing in the picture makes the sound: every predicted pixel is false.
NEGATIVE_CONDITIONS = ("silence", "noise")
REFERENCES = "references"
_HEADERS = ("data set", "sound", "M_J", "M_J non-empty", "M_F", "false pixels %", "false frames %")


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="evaluate_sound.py",
        description=f"{__doc__} A model that listens must lose its score with the wrong sound. "
        "Where the data know every visible object, the file also gets the scores of marking "
        "nothing and of marking every object.",
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
        default=",".join(("original", "shuffled", "silence")),
        metavar="NAME,NAME",
        help=f"out of {', '.join(CONDITIONS)} (default: %(default)s)",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--merge", action="store_true", help="keep what the file holds of other data sets"
    )
    parser.add_argument("--seed", type=int, default=0, help="of shuffled sounds and of noise")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the results and prints them; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    cfg = read_cfg(args.config_file, args.opts)
    names = split_names(args.datasets) or list(cfg.DATASETS.TEST)
    conditions = split_names(args.conditions)
    _check_words("--conditions", conditions, CONDITIONS)
    if not names:
        raise ValueError("the configuration has no DATASETS.TEST: name data sets with --datasets")
    check_output_folder(os.path.dirname(os.path.abspath(args.output)))
    # Before the long work: whatever is wrong with files is told at once.
    results = read_results(args.output) if args.merge and os.path.exists(args.output) else {}
    records = {name: load_records(name) for name in names}
    for name, condition in itertools.product(names, conditions):
        with_condition(records[name], condition, args.seed)
    model = load_trained_model(cfg, args.weights)

    for name in names:
        results[name] = evaluate_conditions(cfg, model, records[name], conditions, args.seed)
        references = find_references(records[name])
        if references is not None:
            results.setdefault(REFERENCES, {})[name] = references
        elif REFERENCES in results:
            results[REFERENCES].pop(name, None)
        # After each data set: an interrupted run keeps what is done.
        write_results(args.output, results)
    print(format_table(results))
    logger.info("Results in %s", args.output)
    return 0


def evaluate_conditions(
    cfg: CfgNode,
    model: nn.Module,
    records: Sequence[Record],
    conditions: Sequence[str],
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Returns the evaluator's scores of a model under each audio condition.

    Args:
        cfg: for mapper, loader and evaluator, as in ``Trainer.test``.
        model: takes clips.
        records: of one data set.
        conditions: keys of ``transavs.data.CONDITIONS``.
        seed: of the shuffled sounds.
    """
    mapper = AVSDatasetMapper(cfg, is_train=False)
    order = [record["clip_id"] for record in records]
    scores = {}
    for condition in conditions:
        logger.info("%d clips, condition %s", len(records), condition)
        loader = build_clip_test_loader(cfg, with_condition(records, condition, seed), mapper)
        evaluator = AVSEvaluator(
            clip_order=order,
            f_threshold_batch=cfg.TEST.F_THRESHOLD_BATCH,
            negative=condition in NEGATIVE_CONDITIONS,
        )
        scores[condition] = dict(inference_on_dataset(model, loader, evaluator)["avs"])
    return scores


def find_references(records: Sequence[Record]) -> dict[str, float] | None:
    """Returns ``reference_scores``, or None where the data do not know every visible object."""
    if not all("object_mask_file_names" in record for record in records):
        return None
    return reference_scores(records)


def read_results(path: str | os.PathLike[str]) -> Results:
    """Returns the content of a results file; ValueError if it is something else.

    Raises:
        FileNotFoundError: no such file.
    """
    with open(path, encoding="utf-8") as file:
        try:
            results = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}); delete it or choose another") from error
    if not isinstance(results, dict) or not all(isinstance(v, dict) for v in results.values()):
        raise ValueError(f"{path} holds no results of this command; choose another file")
    return results


def write_results(path: str | os.PathLike[str], results: Results) -> None:
    """Writes results as JSON in one step, the references last. NaN becomes null."""
    names = sorted(results, key=lambda name: (name == REFERENCES, name))
    write_text(path, json.dumps(_without_nan({n: results[n] for n in names}), indent=1) + "\n")


def format_table(results: Results) -> str:
    """Returns the results as a table for people, one line a data set and condition."""
    rows: list[list[str]] = []
    references = results.get(REFERENCES, {})
    for name in (name for name in results if name != REFERENCES):
        for condition, scores in results[name].items():
            cells = [_cell(scores, key) for key in ("M_J", "M_J_nonempty", "M_F")]
            cells.append(_cell(scores, "FPR", factor=100, digits=2))
            rows.append([name, condition, *cells, _cell(scores, "frames_with_false_pixels")])
        for label, key in (("mark every object", "every_object"), ("mark nothing", "nothing")):
            if name in references:
                cells = [_cell(references[name], k) for k in (key, f"{key}_nonempty")]
                rows.append([name, f"({label})", *cells, "", "", ""])
    return tabulate(rows, _HEADERS, disable_numparse=True, stralign="right")


def _cell(scores: Mapping[str, float | None], key: str, factor: float = 1, digits: int = 1) -> str:
    value = scores.get(key)
    return "-" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def _check_words(option: str, words: Sequence[str], known: Mapping[str, object]) -> None:
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        raise ValueError(
            f"{option}: expected a comma-separated list out of {', '.join(known)}, "
            f"got {','.join(words)!r}"
        )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    raise SystemExit(main())
