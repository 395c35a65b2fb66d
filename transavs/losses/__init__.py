"""Losses of TransAVS: matching, supervised terms, and the two self-supervised query terms."""

from transavs.losses.agreement import AgreementLoss
from transavs.losses.criterion import SetCriterion
from transavs.losses.functional import dice_loss, mask_bce_loss, softmax_focal_loss
from transavs.losses.homogeneity import query_homogeneity
from transavs.losses.matcher import HungarianMatcher
from transavs.losses.query_terms import AudioQueryDistanceLoss, audio_query_mask_loss
from transavs.losses.schedule import StepwiseThreshold

__all__ = [
    "AgreementLoss",
    "AudioQueryDistanceLoss",
    "HungarianMatcher",
    "SetCriterion",
    "StepwiseThreshold",
    "audio_query_mask_loss",
    "dice_loss",
    "mask_bce_loss",
    "query_homogeneity",
    "softmax_focal_loss",
]
