"""Scores of audio-visual segmentation: per-frame metrics, the evaluator, references, summaries."""

from transavs.evaluation.avs_evaluator import AVSEvaluator
from transavs.evaluation.by_class import scores_by_class
from transavs.evaluation.clip_scores import ClipScores, score_clip
from transavs.evaluation.metrics import f_curve, f_thresholds, frame_jaccard
from transavs.evaluation.references import reference_scores
from transavs.evaluation.results_file import format_table, read_results, write_results
from transavs.evaluation.robustness import combined_score, summarize_robustness
from transavs.evaluation.summary import summarize

__all__ = [
    "AVSEvaluator",
    "ClipScores",
    "combined_score",
    "f_curve",
    "f_thresholds",
    "format_table",
    "frame_jaccard",
    "read_results",
    "reference_scores",
    "score_clip",
    "scores_by_class",
    "summarize",
    "summarize_robustness",
    "write_results",
]
