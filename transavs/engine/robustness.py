"""Evaluation under audio conditions: the same clips with their own sound, none, or a false one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from transavs.config_checks import check_front_end
from transavs.data import (
    NEGATIVE_CONDITIONS,
    AVSDatasetMapper,
    build_clip_test_loader,
    load_records,
    with_condition,
)
from transavs.data.avsbench import Record
from transavs.engine.query_watch import QueryWatch
from transavs.evaluation import AVSEvaluator, summarize_robustness
from transavs.evaluation.results_file import ROBUSTNESS, Results, write_results

logger = logging.getLogger(__name__)

ORIGINAL = "original"
TASK = "avs"
ROBUSTNESS_FILE = "robustness.json"
# Of each condition, in the flat results of a training.
_SCORES_OF_CONDITION = (
    "M_J_nonempty",
    "M_F",
    "class_mIoU_foreground",
    "class_F_foreground",
    "FPR",
)


def check_conditions(
    cfg: CfgNode, records: Sequence[Record], conditions: Sequence[str], seed: int = 0
) -> None:
    """Raises what evaluating records under these conditions would raise, before the long work.

    Raises:
        ValueError: an unknown condition, one that these records cannot have, or one that the
            configuration's source of sound forbids.
        FileNotFoundError: the data set whose sounds a condition borrows is not there.
    """
    check_front_end(cfg, conditions)
    for condition in conditions:
        try:
            with_condition(records, condition, seed)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"audio condition {condition!r}: {error}") from error


def evaluate_conditions(
    cfg: CfgNode,
    model: nn.Module,
    records: Sequence[Record],
    conditions: Sequence[str],
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Returns the evaluator's scores of a model under each audio condition.

    Args:
        cfg: for mapper, loader and evaluator, as in ``Trainer.test``.
        model: takes clips.
        records: of one data set, the same in every process.
        conditions: keys of ``transavs.data.CONDITIONS``.
        seed: of the conditions.

    Returns:
        condition -> scores. Under a negative condition every predicted pixel is false. Those of
        the original sound also tell how alike the queries are, see :class:`QueryWatch`, and, where
        the data know what is heard, ``J_by_class``. Scores
        are {} on every process but the main one.
    """
    check_front_end(cfg, conditions)
    mapper = AVSDatasetMapper(cfg, is_train=False)
    order = [record["clip_id"] for record in records]
    # A data set's clips have the same classes, or none.
    num_classes = max((record.get("pixel_classes", 0) for record in records), default=0)
    scores = {}
    for condition in conditions:
        logger.info("%d clips, condition %s", len(records), condition)
        loader = build_clip_test_loader(cfg, with_condition(records, condition, seed), mapper)
        evaluator = AVSEvaluator(
            clip_order=order,
            f_threshold_batch=cfg.TEST.F_THRESHOLD_BATCH,
            negative=condition in NEGATIVE_CONDITIONS,
            heard=heard_classes(records) if condition == ORIGINAL else None,
            num_classes=num_classes,
            longest_clip=longest_clip(records),
        )
        watch = condition == ORIGINAL
        scores[condition] = evaluate_loader(cfg, model, loader, evaluator, watch).get(TASK, {})
    return scores


def longest_clip(records: Sequence[Record]) -> int:
    """Returns the seconds of the longest clip of the records' data set, or else of the records."""
    known = max((len(record["file_names"]) for record in records), default=0)
    names = {record["dataset"] for record in records if "dataset" in record}
    return max([known, *(MetadataCatalog.get(name).get("clip_seconds", 0) for name in names)])


def heard_classes(records: Sequence[Record]) -> dict[str, list[list[str]]] | None:
    """Returns clip id -> names of the classes heard in each second; None where nothing tells."""
    heard = {}
    for record in records:
        if "sound_labels" not in record or "dataset" not in record:
            return None
        names = MetadataCatalog.get(record["dataset"]).sound_classes
        heard[record["clip_id"]] = [[names[i] for i in now] for now in record["sound_labels"]]
    return heard


def evaluate_loader(
    cfg: CfgNode,
    model: nn.Module,
    loader: Any,
    evaluator: DatasetEvaluator,
    watch_queries: bool = False,
) -> dict[str, Any]:
    """Returns the evaluator's results; {} on every process but the main one.

    Args:
        cfg: for the threshold of confident queries, the last delta_1 of the training.
        model: takes clips.
        loader: of clips.
        evaluator: given each clip with the model's answer.
        watch_queries: add the scores of :class:`QueryWatch` to the task ``avs``.
    """
    if not watch_queries:
        return dict(inference_on_dataset(model, loader, evaluator))
    watch = QueryWatch(model, cfg.MODEL.TRANSAVS.AQDL_THRESHOLD[1])
    results = dict(inference_on_dataset(watch, loader, evaluator))
    queries = watch.scores()
    if TASK in results:
        results[TASK] = {**results[TASK], **queries}
    return results


def add_summary(results: Results, dataset: str) -> None:
    """Writes the robustness of a data set into results that hold its scores by condition.

    Where there is nothing to summarize, a message says why, and an older summary is taken out.
    """
    try:
        summary = summarize_robustness(results[dataset], NEGATIVE_CONDITIONS)
    except ValueError as error:
        logger.info("%s: no G-mIoU: %s", dataset, error)
        results.get(ROBUSTNESS, {}).pop(dataset, None)
    else:
        results.setdefault(ROBUSTNESS, {})[dataset] = summary


def evaluate_robustness(
    cfg: CfgNode, model: nn.Module, dataset: str, found: Mapping[str, Any], results: Results
) -> dict[str, dict[str, float]]:
    """Evaluates a model under ``TEST.ROBUSTNESS``, beside its scores under the original sound.

    Args:
        cfg: a training's; its output folder gets ``robustness.json``.
        model: takes clips.
        dataset: a registered name.
        found: the model's results on it under the original sound; read in the main process.
        results: of all data sets so far, written to the file; those of this one are added.

    Returns:
        ``{"robustness": flat numbers}``: those of the summary, then ``silence/M_J_nonempty`` and so
        on by condition; {} on every process but the main one.
    """
    conditions = [name for name in cfg.TEST.ROBUSTNESS if name != ORIGINAL]
    others = evaluate_conditions(cfg, model, load_records(dataset), conditions)
    if not comm.is_main_process():
        return {}
    results[dataset] = {ORIGINAL: found.get(TASK, {}), **others}
    add_summary(results, dataset)
    # After each data set: an interrupted run keeps what is done.
    write_results(os.path.join(cfg.OUTPUT_DIR, ROBUSTNESS_FILE), results)
    summary = results.get(ROBUSTNESS, {}).get(dataset, {})
    flat = {key: value for key, value in summary.items() if not isinstance(value, Mapping)}
    for condition, scores in others.items():
        flat |= {f"{condition}/{key}": scores[key] for key in _SCORES_OF_CONDITION if key in scores}
    return {ROBUSTNESS: flat}
