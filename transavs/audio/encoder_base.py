"""What an audio encoder is, and what freezing one means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from transavs.audio.front_end import VGGISH_LOG_MEL, FrontEnd
from transavs.pretrained.conversion import WeightsFormat
from transavs.pretrained.formats import VGGISH
from transavs.utils.fingerprint import fingerprint


class AudioEncoder(nn.Module, ABC):
    """Examples of its front-end in, one embedding for each out: an embedding a second.

    A subclass sets ``embedding_dim`` and implements ``embed``; one that does not take VGGish's
    log-mel brings its ``front_end``, and one whose public weights have other names translates them
    by a ``weights_format``. Freezing and input checks are here.

    Attributes:
        embedding_dim: channels of the embedding.
        front_end: makes the examples; a class attribute, because data are read without the encoder.
        weights_format: where the tensors of a file of weights belong, by their names there.
        released_weights: file name and origin of public weights, "" where there are none; the
            warning about random weights names them.
    """

    embedding_dim: int
    front_end: FrontEnd = VGGISH_LOG_MEL
    weights_format: WeightsFormat = VGGISH
    released_weights: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False
        self._identity: str | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> AudioEncoder:
        """Returns the encoder that ``cfg`` describes; override where it has keys of its own."""
        return cls()

    @abstractmethod
    def embed(self, examples: Tensor) -> Tensor:
        """Maps float ``[S, *front_end.example_shape]`` to float ``[S, embedding_dim]``."""

    def start_pretraining(self) -> None:
        """Makes weights that a pretraining can start from, where those of construction do not."""

    def fixed_features(self, examples: Tensor) -> Tensor:
        """Returns what comes before everything that is trained, without a graph.

        Where a large part of an encoder never changes, pretraining asks it once for each example.
        By default nothing is fixed: these are the examples.
        """
        return examples

    def embed_features(self, features: Tensor) -> Tensor:
        """Returns the embeddings of ``fixed_features``."""
        return self.embed(features)

    def check_file(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Raises ValueError where a file's tensors, by its names, are for another front-end."""

    def identity(self) -> str:
        """Returns what its embeddings depend on: class, front-end, and a hash of its weights.

        Of a frozen encoder it is computed once, and again after weights are loaded.
        """
        if self._identity is None or not self.frozen:
            self._identity = (
                f"{type(self).__name__}; {self.front_end.version}; {fingerprint(self)[:16]}"
            )
        return self._identity

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Called when weights are loaded into this module or any that holds it.
        self._identity = None
        super()._load_from_state_dict(*args, **kwargs)

    def forward(self, examples: Tensor) -> Tensor:
        """Returns the embeddings of examples.

        Args:
            examples: float ``[S, *front_end.example_shape]`` (VGGish: ``[S, 1, 96, 64]``) as
                ``front_end.clip_examples`` makes them; S may be 0.

        Returns:
            float ``[S, embedding_dim]``; without a graph where the encoder is frozen.

        Raises:
            ValueError: another shape or type.
        """
        self.front_end.check(examples)
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
