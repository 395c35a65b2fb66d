"""Attention and feed-forward layers of the query encoder and the query decoder (post-norm)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head softmax(Q K^T / sqrt(d)) V through PyTorch's fused kernels.

    TransAVS (arXiv 2305.07223), Eq. (2): with one head this is the paper's ``Atten``.

    Args:
        channels: C of queries, keys and values; a multiple of ``num_heads``.
        num_heads: heads; each attends in ``channels / num_heads`` dimensions.
        dropout: probability of dropping an attention weight during training.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels ({channels}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_proj = nn.Linear(channels, channels)
        self.key_proj = nn.Linear(channels, channels)
        self.value_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)
        for proj in (self.query_proj, self.key_proj, self.value_proj, self.out_proj):
            nn.init.xavier_uniform_(proj.weight)
            nn.init.zeros_(proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Returns the attended values ``[N, Q, C]``.

        Args:
            query: ``[N, Q, C]``.
            key: ``[N, P, C]``.
            value: ``[N, P, C]``.
            allowed: bool, broadcastable to ``[N, heads, Q, P]``, True where a query may look;
                None means everywhere. A row without any True gives NaN: see that none is.
        """
        query, key, value = (
            proj(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for proj, tokens in (
                (self.query_proj, query),
                (self.key_proj, key),
                (self.value_proj, value),
            )
        )
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def _with_position(tokens: Tensor, position: Tensor | None) -> Tensor:
    return tokens if position is None else tokens + position


class SelfAttentionLayer(nn.Module):
    """Self-attention among the queries with residual and norm, Eq. (3)."""

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(channels, num_heads, dropout)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, position: Tensor | None) -> Tensor:
        """Returns the new queries ``[N, Q, C]``; ``position`` is added to queries and keys."""
        placed = _with_position(queries, position)
        return self.norm(queries + self.dropout(self.attention(placed, placed, queries)))


class CrossAttentionLayer(nn.Module):
    """Queries gather from image features, with residual and norm, Eq. (6)."""

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(channels, num_heads, dropout)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        query_position: Tensor | None,
        memory_position: Tensor,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Returns the new queries ``[N, Q, C]``.

        Args:
            queries: ``[N, Q, C]``.
            memory: ``[N, h*w, C]``, a flattened feature map f_i.
            query_position: broadcastable to ``queries``, or None.
            memory_position: broadcastable to ``memory``.
            allowed: bool ``[N, 1, Q, h*w]`` for masked attention, or None.
        """
        attended = self.attention(
            _with_position(queries, query_position), memory + memory_position, memory, allowed
        )
        return self.norm(queries + self.dropout(attended))


class FeedForwardLayer(nn.Module):
    """Two linear maps with a ReLU between, residual and norm."""

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns tokens of the same shape ``[..., C]``."""
        hidden = self.dropout(F.relu(self.linear1(tokens), inplace=True))
        return self.norm(tokens + self.dropout(self.linear2(hidden)))
