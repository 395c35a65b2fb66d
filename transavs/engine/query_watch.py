"""Watches, while a model is evaluated, how alike the confident queries of its frames are."""

from __future__ import annotations

import math
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from transavs.losses import query_homogeneity
from transavs.structures import QueryOutput

_SUMS = ("cosine", "overlap", "pairs", "confident", "frames")


class QueryWatch(nn.Module):
    """A model in evaluation whose queries are noted whenever it predicts clips.

    A model without ``query_decoder`` and ``criterion`` predicts as it is.

    Args:
        model: also in the wrapper of several processes.
        threshold: delta; queries more confident of sounding than this are compared.
    """

    def __init__(self, model: nn.Module, threshold: float) -> None:
        super().__init__()
        self._model = model
        inner = getattr(model, "module", model)
        criterion: Any = getattr(inner, "criterion", None)
        watches = hasattr(inner, "query_decoder") and hasattr(criterion, "confidence")
        self._confidence: Any = criterion.confidence if watches else None
        self._threshold = threshold
        # Frame by frame, to be summed once and exactly: in whatever order, in however many parts.
        self._values: dict[str, list[float]] = {key: [] for key in _SUMS}

    def forward(self, clips: list[dict[str, Any]]) -> Any:
        """Returns what the model does."""
        if self._confidence is None:
            return self._model(clips)
        results = self._model(clips, with_queries=True)
        for result in results:
            self._note(result.pop("queries"))
        return results

    def scores(self) -> dict[str, float]:
        """Returns what was seen in all processes together; all of them must call it.

        Returns:
            ``queries_confident``, their mean number a frame; ``query_cosine`` and
            ``query_overlap``, means over all pairs of confident queries of one frame of their
            cosine and of the Jaccard index of their masks (see
            :func:`transavs.losses.query_homogeneity`). NaN where there is nothing to divide by;
            {} for a model without queries.
        """
        if self._confidence is None:
            return {}
        gathered = comm.all_gather(self._values)
        total = {
            key: math.fsum(value for values in gathered for value in values[key]) for key in _SUMS
        }
        return {
            "query_cosine": _ratio(total["cosine"], total["pairs"]),
            "query_overlap": _ratio(total["overlap"], total["pairs"]),
            "queries_confident": _ratio(total["confident"], total["frames"]),
        }

    @torch.no_grad()
    def _note(self, output: QueryOutput) -> None:
        confident: Tensor = self._confidence(output) > self._threshold
        for frame in range(len(confident)):
            one = slice(frame, frame + 1)
            found = query_homogeneity(output.queries[one], output.mask_logits[one], confident[one])
            for key, value in found.items():
                self._values[key].append(float(value))
            self._values["confident"].append(float(confident[one].sum()))
            self._values["frames"].append(1.0)


def _ratio(total: float, count: float) -> float:
    return total / count if count else math.nan
