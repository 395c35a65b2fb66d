"""The losses that a configuration asks for."""

from __future__ import annotations

from detectron2.config import CfgNode

from transavs.losses.criterion import SetCriterion
from transavs.losses.matcher import HungarianMatcher
from transavs.losses.query_terms import AudioQueryDistanceLoss
from transavs.losses.schedule import StepwiseThreshold


def num_classes(cfg: CfgNode) -> int:
    """Returns K, the decoder's classes: those that sound, and perhaps the background."""
    node = cfg.MODEL.TRANSAVS
    return int(node.NUM_CLASSES) + bool(node.BACKGROUND_TARGET)


def build_criterion(cfg: CfgNode) -> SetCriterion:
    """Returns the losses that a configuration asks for."""
    node = cfg.MODEL.TRANSAVS

    def threshold(bounds: list[float]) -> StepwiseThreshold:
        return StepwiseThreshold(
            bounds[0], bounds[1], node.THRESHOLD_PERIOD, max(cfg.SOLVER.MAX_ITER, 1)
        )

    distance_loss = None
    if node.AQDL_WEIGHT:
        distance_loss = AudioQueryDistanceLoss(
            node.HIDDEN_DIM, node.AQDL_DISTANCE, node.AQDL_EPSILON, node.AQDL_NORMALIZE
        )
    return SetCriterion(
        num_classes(cfg),
        HungarianMatcher(node.CLASS_WEIGHT, node.DICE_WEIGHT, node.MASK_BCE_WEIGHT),
        distance_loss,
        threshold(node.AQDL_THRESHOLD),
        threshold(node.AQML_THRESHOLD),
        class_weight=node.CLASS_WEIGHT,
        dice_weight=node.DICE_WEIGHT,
        aqdl_weight=node.AQDL_WEIGHT,
        aqml_weight=node.AQML_WEIGHT,
        mask_bce_weight=node.MASK_BCE_WEIGHT,
        focal_gamma=node.FOCAL_GAMMA,
        no_object_weight=node.NO_OBJECT_WEIGHT,
        num_sounding=node.NUM_CLASSES,
    )
