"""NoAudio: an encoder that hears nothing, for the model without audio that others are held against.

A model trained with it learns what usually sounds from the picture alone.
"""

from __future__ import annotations

from torch import Tensor

from transavs.audio.encoder_base import AudioEncoder


class NoAudio(AudioEncoder):
    """The same embedding, a single zero, for every sound; no parameters."""

    embedding_dim = 1

    def embed(self, examples: Tensor) -> Tensor:
        return examples.new_zeros((examples.shape[0], self.embedding_dim))
