"""The rising confidence threshold of the two query losses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepwiseThreshold:
    """delta of TransAVS (arXiv 2305.07223), Eq. (18), as a pure function of the iteration.

    ``delta = a + (b - a) / S * floor(iteration / n_iter)`` with S = max_iter / n_iter steps, so
    that delta reaches b at the end of training; it is held at b beyond that. ``start == end``
    gives the fixed thresholds of the paper's Table 3. Being a pure function, it needs no state
    in checkpoints and is exact after resuming.

    Attributes:
        start: a, the threshold at iteration 0, a probability.
        end: b, the threshold at ``max_iter``.
        period: n_iter, iterations between two steps.
        max_iter: length of the training.
    """

    start: float
    end: float
    period: int
    max_iter: int

    def __post_init__(self) -> None:
        if self.period < 1 or self.max_iter < 1:
            raise ValueError(
                f"period and max_iter must be at least 1, got {self.period} and {self.max_iter}"
            )

    def __call__(self, iteration: int) -> float:
        """Returns delta at ``iteration`` (0-based)."""
        progress = iteration // self.period * self.period / self.max_iter
        return self.start + (self.end - self.start) * min(progress, 1.0)
