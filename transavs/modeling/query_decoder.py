"""Audio queries meet the image: TransAVS (arXiv 2305.07223), Eq. (4) to (8)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transavs.layers import (
    CrossAttentionLayer,
    FeedForwardLayer,
    SelfAttentionLayer,
    sine_position_encoding,
)
from transavs.structures import PixelFeatures, QueryOutput

# p(sounding) of a query before training, below any delta of Eq. (18).
_FIRST_CONFIDENCE = 0.25
HEADS = ("plain", "mask2former")


class QueryDecoder(nn.Module):
    """N_2 layers of cross-attention to the feature maps in turn, then class and mask heads.

    Layer l looks at f_i with ``i = (l mod 3) + 1`` (Eq. 4); self-attention and a feed-forward
    layer follow each cross-attention, as in Mask2Former.

    Args:
        num_classes: K, without "no object".
        channels: C.
        num_heads: attention heads.
        feedforward: hidden width of the feed-forward layers.
        num_layers: N_2.
        num_levels: feature maps in the round robin.
        head: "plain": classes and masks straight from the queries, Eq. (7), (8); "mask2former":
            from their layer norm, and the masks through three linear layers more.
        masked_attention: a query looks only where the previous layer's mask of it is above 0.5
            (everywhere if that is nowhere); off in the paper.
        dropout: of the layers.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        num_heads: int,
        feedforward: int,
        num_layers: int,
        *,
        num_levels: int = 3,
        masked_attention: bool = False,
        dropout: float = 0.0,
        head: str = "plain",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"the decoder needs at least one layer, got {num_layers}")
        if head not in HEADS:
            raise ValueError(f"the head must be one of {', '.join(HEADS)}, got {head!r}")
        self.masked_attention = masked_attention
        self.num_heads = num_heads
        self.cross_attention = nn.ModuleList(
            CrossAttentionLayer(channels, num_heads, dropout) for _ in range(num_layers)
        )
        self.self_attention = nn.ModuleList(
            SelfAttentionLayer(channels, num_heads, dropout) for _ in range(num_layers)
        )
        self.feedforward = nn.ModuleList(
            FeedForwardLayer(channels, feedforward, dropout) for _ in range(num_layers)
        )
        # Tells the maps apart; a decoder of fewer layers than maps never sees the last ones.
        self.level = nn.Embedding(min(num_levels, num_layers), channels)
        self.norm: nn.Module | None = None
        self.mask_embedding: nn.Module | None = None
        if head == "mask2former":
            self.norm = nn.LayerNorm(channels)
            self.mask_embedding = nn.Sequential(
                nn.Linear(channels, channels),
                nn.ReLU(),
                nn.Linear(channels, channels),
                nn.ReLU(),
                nn.Linear(channels, channels),
            )
        self.class_head = nn.Linear(channels, num_classes + 1)
        # Queries start out unsure of sounding: otherwise the query losses, which act on confident
        # ones, would drown the others before anything is learned.
        nn.init.normal_(self.class_head.weight, std=0.01)
        with torch.no_grad():
            self.class_head.bias.zero_()[-1] = math.log((1 - _FIRST_CONFIDENCE) / _FIRST_CONFIDENCE)

    def forward(
        self,
        queries: Tensor,
        query_position: Tensor | None,
        features: PixelFeatures,
        all_layers: bool,
    ) -> list[QueryOutput]:
        """Returns the predictions of the supervised layers, the last one last.

        Args:
            queries: ``[N, Q, C]``, from the query generator.
            query_position: ``[Q, C]`` or None.
            features: of the same N frames.
            all_layers: True: predictions after every layer (deep supervision), with those of the
                initial queries in front where masked attention uses them; False: the last only.
        """
        memory, positions = self._flatten(features)
        outputs: list[QueryOutput] = []
        mask_logits = None
        if self.masked_attention:
            first = self._predict(queries, features)
            mask_logits = first.mask_logits
            if all_layers:
                outputs.append(first)
        last = len(self.cross_attention) - 1
        for layer, cross_attention in enumerate(self.cross_attention):
            level = layer % len(memory)
            allowed = None
            if mask_logits is not None:
                allowed = self._allowed(mask_logits, features.memory[level].shape[-2:])
            queries = cross_attention(
                queries, memory[level], query_position, positions[level], allowed
            )
            queries = self.self_attention[layer](queries, query_position)
            queries = self.feedforward[layer](queries)
            supervised = all_layers or layer == last
            if not supervised and not self.masked_attention:
                continue
            output = self._predict(queries, features)
            if supervised:
                outputs.append(output)
            if self.masked_attention:
                mask_logits = output.mask_logits
        return outputs

    def _predict(self, queries: Tensor, features: PixelFeatures) -> QueryOutput:
        """Classes and masks, Eq. (7), (8), of the queries of a layer."""
        if self.norm is not None:
            queries = self.norm(queries)
        embedded = queries if self.mask_embedding is None else self.mask_embedding(queries)
        return QueryOutput(queries, self.class_head(queries), self._masks(embedded, features))

    def _flatten(self, features: PixelFeatures) -> tuple[list[Tensor], list[Tensor]]:
        """Maps as token sequences ``[N, h*w, C]`` marked with their level, and their positions."""
        memory, positions = [], []
        for index, level in enumerate(features.memory[: len(self.level.weight)]):
            channels, height, width = level.shape[1:]
            memory.append(level.flatten(2).transpose(1, 2) + self.level.weight[index])
            position = sine_position_encoding(height, width, channels, level.device)
            positions.append(position.flatten(1).T.to(level.dtype))
        return memory, positions

    @staticmethod
    def _masks(queries: Tensor, features: PixelFeatures) -> Tensor:
        """Eq. (7) before its sigmoid: ``F_av . W_2 f̂_3``, ``[N, Q, h, w]``."""
        height, width = features.mask_features.shape[-2:]
        return (queries @ features.mask_features.flatten(2)).unflatten(2, (height, width))

    @staticmethod
    def _allowed(mask_logits: Tensor, size: torch.Size) -> Tensor:
        """Where each query may look: bool ``[N, 1, Q, h*w]``, no row all False."""
        resized = F.interpolate(
            mask_logits.detach().float(), tuple(size), mode="bilinear", align_corners=False
        )
        allowed = (resized > 0).flatten(2)
        return (allowed | ~allowed.any(2, keepdim=True))[:, None]
