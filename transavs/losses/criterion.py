"""SetCriterion: matches queries to true masks and sums the terms of Eq. (13)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transavs.losses.functional import dice_loss, mask_bce_loss, softmax_focal_loss
from transavs.losses.homogeneity import query_homogeneity
from transavs.losses.matcher import HungarianMatcher
from transavs.losses.processes import mean_over_processes
from transavs.losses.query_terms import AudioQueryDistanceLoss, audio_query_mask_loss
from transavs.losses.schedule import StepwiseThreshold
from transavs.structures import FrameTargets, QueryOutput


class SetCriterion(nn.Module):
    """The objective of TransAVS (arXiv 2305.07223), Eq. (13).

    ``L = lambda_1 L_AQDL + lambda_2 L_AQML + lambda_3 L_class + lambda_4 L_dice`` (+ an optional
    mask cross-entropy). Class and mask terms are taken after every decoder layer with a matching
    of its own, AQDL and AQML after the last.

    Args:
        num_classes: K, without "no object".
        num_sounding: the first of them that sound; None: all. Only these make a query confident.
        matcher: finds the pairs.
        distance_loss: AQDL with its projection head; None leaves the term out.
        aqdl_threshold: delta_1 by iteration.
        aqml_threshold: delta_2 by iteration.
        class_weight: lambda_3.
        dice_weight: lambda_4.
        aqdl_weight: lambda_1.
        aqml_weight: lambda_2.
        mask_bce_weight: weight of the mask cross-entropy; 0 leaves it out.
        focal_gamma: exponent of the focal loss.
        no_object_weight: weight of the class "no object".
    """

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher,
        distance_loss: AudioQueryDistanceLoss | None,
        aqdl_threshold: StepwiseThreshold,
        aqml_threshold: StepwiseThreshold,
        *,
        class_weight: float = 5.0,
        dice_weight: float = 5.0,
        aqdl_weight: float = 2.0,
        aqml_weight: float = 2.0,
        mask_bce_weight: float = 0.0,
        focal_gamma: float = 2.0,
        no_object_weight: float = 1.0,
        num_sounding: int | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_sounding = num_classes if num_sounding is None else num_sounding
        self.matcher = matcher
        self.distance_loss = distance_loss
        self.aqdl_threshold = aqdl_threshold
        self.aqml_threshold = aqml_threshold
        self.weights = {
            "loss_class": class_weight,
            "loss_dice": dice_weight,
            "loss_mask_bce": mask_bce_weight,
            "loss_aqdl": aqdl_weight,
            "loss_aqml": aqml_weight,
        }
        self.focal_gamma = focal_gamma
        class_weights = torch.ones(num_classes + 1)
        class_weights[-1] = no_object_weight
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, outputs: Sequence[QueryOutput], targets: FrameTargets, iteration: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the weighted losses and some statistics to log.

        Args:
            outputs: predictions after each supervised decoder layer, the last one last.
            targets: ground truth of the same N frames.
            iteration: of the training, for delta (Eq. 18).

        Returns:
            ``(losses, statistics)``. Losses are scalars with a graph, named ``loss_class`` etc.
            for the last layer and ``loss_class_0`` ... for the others. Statistics are detached
            scalars: ``delta_1``, ``delta_2`` and the mean number of queries above them a frame.
            All losses are NaN where a matching cost is NaN or infinite.
        """
        # Sums over the pixels of a frame overflow half precision.
        with torch.autocast(outputs[0].class_logits.device.type, enabled=False):
            return self._losses(outputs, targets, iteration)

    def _losses(
        self, outputs: Sequence[QueryOutput], targets: FrameTargets, iteration: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        losses: dict[str, Tensor] = {}
        num_masks = mean_over_processes(sum(targets.counts), outputs[0].class_logits.device)
        for layer, (output, matched) in enumerate(
            zip(outputs, self.matcher(outputs, targets), strict=True)
        ):
            suffix = "" if layer == len(outputs) - 1 else f"_{layer}"
            for name, value in self._supervised(output, targets, matched, num_masks).items():
                losses[name + suffix] = value * self.weights[name]
        query_losses, statistics = self._self_supervised(outputs[-1], iteration)
        for name, value in query_losses.items():
            losses[name] = value * self.weights[name]
        if not self.matcher.finite:
            # Pairs by such costs mean nothing. The gradient tells all processes.
            losses = {name: value * math.nan for name, value in losses.items()}
        return losses, statistics

    def _supervised(
        self,
        output: QueryOutput,
        targets: FrameTargets,
        matched: tuple[Tensor, Tensor, Tensor],
        num_masks: Tensor,
    ) -> dict[str, Tensor]:
        frames, queries, masks = matched
        logits = output.class_logits.float()
        labels = torch.full(
            logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device
        )
        labels[frames, queries] = targets.classes[frames, masks]
        focal = softmax_focal_loss(logits, labels, self.class_weights, self.focal_gamma)

        # Computed once more in the backward pass: kept for it, the pixels of all masks and layers
        # would take a third of the memory of s4_R50's activations where a frame has 20 masks.
        sums = checkpoint(
            self._mask_terms,
            output.mask_logits,
            targets.masks,
            matched,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        # Divided by the number of masks, as the focal loss was introduced: a mean over all the
        # queries would make a matched one count the less the more queries there are.
        sums = {"loss_class": focal.sum(), **sums}
        return {name: value / num_masks for name, value in sums.items()}

    def _mask_terms(
        self, mask_logits: Tensor, masks: Tensor, matched: tuple[Tensor, Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Sums over the pairs of ``loss_dice`` and, if it has a weight, ``loss_mask_bce``.

        Args:
            mask_logits: of a layer, ``[N, Q, h, w]``.
            masks: true ones, bool ``[N, G, H, W]``.
            matched: the pairs, as the matcher returns them.
        """
        with_bce = bool(self.weights["loss_mask_bce"])
        frames, queries, of_frame = matched
        if not len(frames):
            names = ("loss_dice", "loss_mask_bce") if with_bce else ("loss_dice",)
            return dict.fromkeys(names, mask_logits.float().sum() * 0.0)
        truth = masks[frames, of_frame]
        logits = F.interpolate(
            mask_logits[frames, queries].float()[:, None],
            truth.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )[:, 0]
        if not with_bce:
            # In place: nothing else needs the logits, and they are a float for each pixel.
            return {"loss_dice": dice_loss(logits.sigmoid_(), truth).sum()}
        return {
            "loss_dice": dice_loss(logits.sigmoid(), truth).sum(),
            "loss_mask_bce": mask_bce_loss(logits, truth).sum(),
        }

    def confidence(self, output: QueryOutput) -> Tensor:
        """p(sounding), the largest probability of a sounding class, ``[N, Q]`` without a graph."""
        probs = output.class_logits.detach().float().softmax(-1)
        return probs[..., : self.num_sounding].amax(-1)

    def _self_supervised(
        self, output: QueryOutput, iteration: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        confidence = self.confidence(output)
        delta_1, delta_2 = self.aqdl_threshold(iteration), self.aqml_threshold(iteration)
        above_1, above_2 = confidence > delta_1, confidence > delta_2
        # Means over the frames of this process, which may have more or fewer than the others.
        frames = len(confidence)
        share = frames / mean_over_processes(frames, confidence.device)
        losses = {}
        if self.distance_loss is not None:
            losses["loss_aqdl"] = self.distance_loss(output.queries, above_1) * share
        if self.weights["loss_aqml"]:
            losses["loss_aqml"] = audio_query_mask_loss(output.mask_logits, above_2) * share
        statistics = {
            "delta_1": torch.tensor(delta_1),
            "delta_2": torch.tensor(delta_2),
            "queries_above_delta_1": above_1.sum(1).float().mean(),
            "queries_above_delta_2": above_2.sum(1).float().mean(),
        }
        return losses, statistics

    def homogeneity(self, output: QueryOutput, iteration: int) -> dict[str, Tensor]:
        """Returns how alike the queries above delta_1 are, see :func:`query_homogeneity`."""
        confident = self.confidence(output) > self.aqdl_threshold(iteration)
        return query_homogeneity(output.queries, output.mask_logits, confident)
