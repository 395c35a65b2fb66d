"""Scores of audio-visual segmentation: per-frame metrics, the evaluator and two references."""

from transavs.evaluation.avs_evaluator import AVSEvaluator
from transavs.evaluation.clip_scores import ClipScores, score_clip
from transavs.evaluation.metrics import f_curve, f_thresholds, frame_jaccard
from transavs.evaluation.references import reference_scores
from transavs.evaluation.summary import summarize

__all__ = [
    "AVSEvaluator",
    "ClipScores",
    "f_curve",
    "f_thresholds",
    "frame_jaccard",
    "reference_scores",
    "score_clip",
    "summarize",
]
