"""What an audio encoder is, and what freezing one means."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from transavs.audio.log_mel import check_examples


class AudioEncoder(nn.Module, ABC):
    """Log-mel examples in, one embedding for each out.

    A subclass sets ``embedding_dim`` and implements ``embed``; freezing and input checks are here.

    Attributes:
        embedding_dim: channels of the embedding.
        released_weights: file name and origin of public weights, "" where there are none; the
            warning about random weights names them.
    """

    embedding_dim: int
    released_weights: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> AudioEncoder:
        """Returns the encoder that ``cfg`` describes; override where it has keys of its own."""
        return cls()

    @abstractmethod
    def embed(self, examples: Tensor) -> Tensor:
        """Maps float ``[S, 1, 96, 64]`` to float ``[S, embedding_dim]``."""

    def forward(self, examples: Tensor) -> Tensor:
        """Returns the embeddings of log-mel examples.

        Args:
            examples: float ``[S, 1, 96, 64]`` as ``log_mel_examples`` makes them; S may be 0.

        Returns:
            float ``[S, embedding_dim]``; without a graph where the encoder is frozen.

        Raises:
            ValueError: another shape or type.
        """
        check_examples(examples)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.embed(examples)

    def freeze(self) -> AudioEncoder:
        """Makes the encoder a fixed function, for good: no gradients, running statistics kept."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> AudioEncoder:
        """Sets training mode; a frozen encoder stays in evaluation mode.

        A parent's ``train()`` calls this on all children and would otherwise let batch norm
        update its statistics with every step.
        """
        super().train(mode and not self.frozen)
        return self
