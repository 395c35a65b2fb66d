"""Layers shared by the image side and the query side."""

from transavs.layers.attention import (
    Attention,
    CrossAttentionLayer,
    FeedForwardLayer,
    SelfAttentionLayer,
)
from transavs.layers.position_encoding import sine_position_encoding

__all__ = [
    "Attention",
    "CrossAttentionLayer",
    "FeedForwardLayer",
    "SelfAttentionLayer",
    "sine_position_encoding",
]
