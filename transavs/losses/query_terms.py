"""The two self-supervised terms that keep audio queries apart: AQDL and AQML.

Both act on the queries of a frame that claim to be a sounding object with more confidence than a
threshold delta, and are averaged over the N frames of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AudioQueryDistanceLoss(nn.Module):
    """AQDL, TransAVS (arXiv 2305.07223), Eq. (9) and (10).

    For a frame with the confident set S_1 of n_1 queries::

        1 / (n_1 + 1) * sum over pairs i < j of S_1 of d(q_i, q_j)
        d = 1 / (x + epsilon) if x < d_0 else 0,   x = |h(q_i) - h(q_j)|^2

    Decided where the paper is silent: ``epsilon`` keeps the value finite; its gradient is largest
    at x = epsilon / 3. At x = 0 the gradient of a squared distance is zero and identical queries
    would never part, so a query that coincides with an earlier one of S_1 (x < 1e-6 epsilon) is
    seen displaced by a fixed pseudo-random step of squared length epsilon / 3, which moves the
    pair to where the push is strongest (or d_0 / 2 where that is shorter, so that it stays a pair).

    Args:
        channels: C of the queries; h is a linear map C -> C without bias, started at identity.
        distance: d_0, a squared distance.
        epsilon: see above, > 0.
        normalize: scale h(q) to unit length, which makes d_0 independent of C.
    """

    def __init__(
        self, channels: int, distance: float = 1.0, epsilon: float = 0.1, normalize: bool = False
    ) -> None:
        super().__init__()
        if epsilon <= 0 or distance <= 0:
            raise ValueError(f"distance and epsilon must be positive, got {distance}, {epsilon}")
        self.projection = nn.Linear(channels, channels, bias=False)
        nn.init.eye_(self.projection.weight)
        self.distance = distance
        self.epsilon = epsilon
        self.normalize = normalize

    def forward(self, queries: Tensor, confident: Tensor) -> Tensor:
        """Returns the loss, a scalar that is 0 with a graph when no pair is close.

        Args:
            queries: float ``[N, Q, C]``.
            confident: bool ``[N, Q]``, membership of S_1.
        """
        projected = self.projection(queries.float())
        if self.normalize:
            projected = torch.nn.functional.normalize(projected, dim=-1)
        pairs = torch.triu(confident[:, :, None] & confident[:, None], diagonal=1)
        with torch.no_grad():
            same = (_squared_distances(projected) < 1e-6 * self.epsilon) & pairs
            coincident = same.any(1)
        shifted = projected + coincident[..., None] * self._steps(projected)
        squared = _squared_distances(shifted)
        terms = torch.where(pairs & (squared < self.distance), 1 / (squared + self.epsilon), 0.0)
        counts = confident.sum(1)
        return (terms.sum((1, 2)) / (counts + 1)).mean() + 0.0 * projected.sum()

    def _steps(self, projected: Tensor) -> Tensor:
        """One fixed step for each query, ``[Q, C]``; their length is told above."""
        generator = torch.Generator().manual_seed(0)
        steps = torch.randn(projected.shape[1:], generator=generator)
        length = min(self.epsilon / 3, self.distance / 2) ** 0.5
        steps = torch.nn.functional.normalize(steps, dim=-1) * length
        return steps.to(projected, non_blocking=True)


def _squared_distances(points: Tensor) -> Tensor:
    """Squared Euclidean distances ``[N, Q, Q]`` of ``[N, Q, C]``.

    From a Gram matrix, a sixth of the time of taking differences. Close pairs are the ones that
    matter, and there it loses digits: in double precision enough are left.
    """
    exact = points.double()
    squares = (exact**2).sum(-1)
    gram = exact @ exact.transpose(1, 2)
    squared = squares[:, :, None] + squares[:, None] - 2 * gram
    return squared.clamp(min=0).to(points.dtype)


def audio_query_mask_loss(mask_logits: Tensor, confident: Tensor) -> Tensor:
    """AQML, TransAVS (arXiv 2305.07223), Eq. (11) and (12): returns a scalar.

    For a frame with the confident set S_2 of n_2 queries::

        1 / (n_2 + 1) * sum over pairs i < j of S_2 of I(m_i, m_j)
        I = 1 / (2HW) * sum over pixels of Bin(m_i) m_j + m_i Bin(m_j),   Bin(m) = [m > 0.5]

    Summed over pairs the products telescope: ``sum_{i<j} = (sum_i Bin_i)(sum_j m_j) - sum_i
    Bin_i m_i`` pixel by pixel, so 300 queries cost two sums and no pairwise matrix.

    Args:
        mask_logits: float ``[N, Q, h, w]``; m is their sigmoid. Bin carries no gradient.
        confident: bool ``[N, Q]``, membership of S_2.
    """
    member = confident[:, :, None].float()
    logits = mask_logits.float().flatten(2)
    probs = logits.sigmoid() * member
    binary = (logits.detach() > 0).float() * member
    pixels = logits.shape[2]
    everything = (binary.sum(1) * probs.sum(1)).sum(1)
    itself = (binary * probs).sum((1, 2))
    overlap = (everything - itself) / (2 * pixels)
    return (overlap / (confident.sum(1) + 1)).mean()
