"""Audio embeddings become audio queries: TransAVS (arXiv 2305.07223), Eq. (1) to (3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transavs.layers import FeedForwardLayer, SelfAttentionLayer


class AudioQueryGenerator(nn.Module):
    """Makes the queries of each frame from the audio embeddings of its clip.

    Eq. (1) reads ``A_q = W_i F_a`` with W_i of size Q x T: every query is a learned mixture of the
    T one-second embeddings. A channel projection to C and N_1 self-attention layers follow.

    Which seconds go into the mixture is ``context`` (the paper's is "clip"):

    - ``"clip"``: all of them; the queries of a clip serve all its frames.
    - ``"window"``: ``window`` seconds centred on the frame's own, silence beyond the clip's ends
      taken as zero embeddings.
    - ``"second"``: the frame's own second alone.

    Args:
        num_queries: Q.
        audio_channels: of an embedding (VGGish: 128).
        channels: C.
        num_heads: of the self-attention.
        feedforward: hidden width of the feed-forward layers.
        num_layers: N_1.
        context: see above.
        clip_seconds: T, the longest clip; shorter ones use the first columns of W_i.
        window: seconds of a "window", odd.
        learned_position: give each query a learned positional embedding, as Mask2Former's
            queries have; without it all queries live in a space of as many dimensions as the
            context has seconds.
        dropout: of the self-attention layers.
    """

    def __init__(
        self,
        num_queries: int,
        audio_channels: int,
        channels: int,
        num_heads: int,
        feedforward: int,
        num_layers: int,
        *,
        context: str = "clip",
        clip_seconds: int = 5,
        window: int = 3,
        learned_position: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        lengths = {"clip": clip_seconds, "window": window, "second": 1}
        if context not in lengths:
            raise ValueError(f"context must be one of {', '.join(lengths)}, got {context!r}")
        self.context = context
        self.length = lengths[context]
        self.time_mixture = nn.Parameter(torch.empty(num_queries, self.length))
        nn.init.normal_(self.time_mixture, mean=1 / self.length, std=self.length**-0.5)
        self.channel_proj = nn.Linear(audio_channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.position: nn.Embedding | None = None
        if learned_position:
            self.position = nn.Embedding(num_queries, channels)
        self.attention = nn.ModuleList(
            SelfAttentionLayer(channels, num_heads, dropout) for _ in range(num_layers)
        )
        self.feedforward = nn.ModuleList(
            FeedForwardLayer(channels, feedforward, dropout) for _ in range(num_layers)
        )

    def forward(
        self, embeddings: Tensor, clip: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the queries of N frames ``[N, Q, C]`` and their positions ``[Q, C]`` or None.

        Args:
            embeddings: F_a of each of B clips, float ``[B, T, audio_channels]``, zero after the
                end of a shorter clip.
            clip: int64 ``[N]``, which clip each frame is of.
            second: int64 ``[N]``, which second of it the frame shows.
        """
        if self.context == "clip":
            # One set of queries for a clip.
            if embeddings.shape[1] > self.length:
                raise ValueError(
                    f"the clip has {embeddings.shape[1]} seconds of audio, the model was built for "
                    f"at most {self.length}: raise INPUT.CLIP_SECONDS or cut the clip"
                )
            queries, position = self.encode(self._mix(embeddings))
            return queries[clip], position
        margin = self.length // 2
        padded = torch.nn.functional.pad(embeddings, (0, 0, margin, margin))
        steps = torch.arange(self.length, device=embeddings.device)
        return self.encode(self._mix(padded[clip[:, None], second[:, None] + steps]))

    def encode(self, mixed: Tensor) -> tuple[Tensor, Tensor | None]:
        """Eq. (2) and (3) on ``[contexts, Q, audio_channels]``: ``[contexts, Q, C]`` and the
        positions ``[Q, C]`` or None."""
        queries = self.norm(self.channel_proj(mixed))
        position = None if self.position is None else self.position.weight
        for attention, feedforward in zip(self.attention, self.feedforward, strict=True):
            queries = feedforward(attention(queries, position))
        return queries, position

    def _mix(self, context: Tensor) -> Tensor:
        """Eq. (1) on ``[contexts, seconds, channels]``: ``[contexts, Q, channels]``."""
        return self.time_mixture[:, : context.shape[1]] @ context
