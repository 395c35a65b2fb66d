"""How alike the confident queries of a frame are: what AQDL and AQML are there to lower."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def query_homogeneity(queries: Tensor, mask_logits: Tensor, confident: Tensor) -> dict[str, Tensor]:
    """Returns sums over all pairs of confident queries of one frame, as float64 scalars.

    ``cosine`` and ``overlap`` divided by ``pairs`` are the mean cosine of two queries and the mean
    Jaccard index of their binary masks (0 where both are empty).

    Args:
        queries: float ``[N, Q, C]``.
        mask_logits: float ``[N, Q, h, w]``.
        confident: bool ``[N, Q]``, the queries above delta.

    Returns:
        ``{"cosine", "overlap", "pairs"}``; sums of several batches may be added.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=queries.device)
    for frame in (confident.sum(1) > 1).nonzero().flatten().tolist():
        chosen = confident[frame]
        directions = F.normalize(queries[frame, chosen].double(), dim=-1)
        masks = (mask_logits[frame, chosen] > 0).flatten(1).double()
        both = masks @ masks.T
        areas = masks.sum(1)
        either = areas[:, None] + areas - both
        first, second = torch.triu_indices(len(masks), len(masks), offset=1)
        sums[0] += (directions @ directions.T)[first, second].sum()
        sums[1] += (both / either.clamp(min=1))[first, second].sum()
        sums[2] += len(first)
    return dict(zip(("cosine", "overlap", "pairs"), sums, strict=True))
