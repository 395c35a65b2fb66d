"""Hungarian matching between queries and true masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from transavs.losses.functional import pairwise_dice_loss, pairwise_mask_bce_loss, resize_masks
from transavs.structures import FrameTargets, QueryOutput

# Stands for a cost that is not finite: larger than any other, and of no meaning.
_UNKNOWN_COST = 1e6


class HungarianMatcher(nn.Module):
    """Assigns to every true mask the query that explains it at the least total cost.

    Cost of a pair: ``class_weight * (-p(class)) + dice_weight * dice + bce_weight * bce``, with
    the weights of the losses (TransAVS, arXiv 2305.07223, leaves the matching open: decided).

    Attributes:
        finite: whether all costs of the last call were finite. Nothing is raised where they were
            not: under several processes one would leave the others waiting. ``SetCriterion`` makes
            its losses NaN, which every process gets to know of.
    """

    def __init__(self, class_weight: float, dice_weight: float, bce_weight: float = 0.0) -> None:
        super().__init__()
        if class_weight == dice_weight == bce_weight == 0:
            raise ValueError("all matching weights are 0: at least one must be positive")
        self.class_weight = class_weight
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.finite = True

    @torch.no_grad()
    def forward(
        self, outputs: Sequence[QueryOutput], targets: FrameTargets
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Returns for each of the outputs the matched (frame, query, mask) index triples.

        All costs travel to the CPU in one transfer, whatever the number of layers and frames.

        Args:
            outputs: predictions of one or more decoder layers for the same N frames.
            targets: ground truth; frames without masks get no triple.

        Returns:
            One (frames, queries, masks) a layer, int64 ``[M]`` each on the outputs' device, where
            M = sum of min(Q, G_n) over frames. Within a frame a query and a mask occur once.
        """
        device = outputs[0].class_logits.device
        self.finite = True
        if targets.masks.shape[1] == 0:
            none = torch.zeros(0, dtype=torch.int64, device=device)
            return [(none, none, none) for _ in outputs]
        size = outputs[0].mask_logits.shape[-2:]
        truth = resize_masks(targets.masks, (size[0], size[1])).flatten(2)
        costs = torch.stack([self._cost(output, truth, targets) for output in outputs]).cpu()
        table = costs.numpy()
        finite = np.isfinite(table)
        self.finite = bool(finite.all())
        table = np.where(finite, table, _UNKNOWN_COST)
        triples = []
        for layer in range(len(outputs)):
            for frame, count in enumerate(targets.counts):
                if count:
                    rows, columns = linear_sum_assignment(table[layer, frame, :, :count])
                    triples.append(np.stack((np.full_like(rows, frame), rows, columns)))
        # As many in each layer: one transfer back for all of them.
        indices = torch.from_numpy(np.concatenate(triples, axis=1)).to(device, non_blocking=True)
        layers = indices.tensor_split(len(outputs), dim=1)
        return [(layer[0], layer[1], layer[2]) for layer in layers]

    def _cost(self, output: QueryOutput, truth: Tensor, targets: FrameTargets) -> Tensor:
        """Returns the cost of all pairs, float32 ``[N, Q, G]``."""
        logits = output.mask_logits.float().flatten(2)
        probs = output.class_logits.float().softmax(-1)
        classes = targets.classes[:, None].expand(-1, probs.shape[1], -1)
        cost = -self.class_weight * probs.gather(2, classes)
        cost = cost + self.dice_weight * pairwise_dice_loss(logits, truth)
        if self.bce_weight:
            cost = cost + self.bce_weight * pairwise_mask_bce_loss(logits, truth)
        return cost
