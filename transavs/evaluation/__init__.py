"""Scores of audio-visual segmentation: per-frame metrics, the evaluator, references, summaries."""

from transavs.evaluation.avs_evaluator import AVSEvaluator
from transavs.evaluation.by_class import scores_by_class
from transavs.evaluation.class_counts import (
    ClassCounts,
    count_classes,
    mean_over_dataset,
    mean_over_frames,
    pool,
)
from transavs.evaluation.clip_scores import ClipScores, score_clip
from transavs.evaluation.metrics import f_curve, f_thresholds, frame_jaccard
from transavs.evaluation.references import reference_scores
from transavs.evaluation.results_file import (
    format_table,
    merge_results,
    read_results,
    write_results,
)
from transavs.evaluation.robustness import combined_score, summarize_robustness
from transavs.evaluation.summary import class_scores, dataset_scores, summarize

__all__ = [
    "AVSEvaluator",
    "ClassCounts",
    "ClipScores",
    "class_scores",
    "combined_score",
    "count_classes",
    "dataset_scores",
    "f_curve",
    "f_thresholds",
    "format_table",
    "frame_jaccard",
    "mean_over_dataset",
    "mean_over_frames",
    "merge_results",
    "pool",
    "read_results",
    "reference_scores",
    "score_clip",
    "scores_by_class",
    "summarize",
    "summarize_robustness",
    "write_results",
]
