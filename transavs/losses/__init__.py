"""Losses of TransAVS (matching, supervised and self-supervised query terms) and of the baseline."""

from transavs.losses.agreement import AudioVisualAlignmentLoss
from transavs.losses.build import build_criterion, num_classes
from transavs.losses.criterion import SetCriterion
from transavs.losses.dense import audio_visual_matching_loss, frame_bce_loss, union_masks
from transavs.losses.functional import dice_loss, mask_bce_loss, softmax_focal_loss
from transavs.losses.homogeneity import query_homogeneity
from transavs.losses.matcher import HungarianMatcher
from transavs.losses.query_terms import AudioQueryDistanceLoss, audio_query_mask_loss
from transavs.losses.schedule import StepwiseThreshold

__all__ = [
    "AudioQueryDistanceLoss",
    "AudioVisualAlignmentLoss",
    "HungarianMatcher",
    "SetCriterion",
    "StepwiseThreshold",
    "audio_query_mask_loss",
    "audio_visual_matching_loss",
    "build_criterion",
    "dice_loss",
    "frame_bce_loss",
    "mask_bce_loss",
    "num_classes",
    "query_homogeneity",
    "softmax_focal_loss",
    "union_masks",
]
