"""QueryWatch: sums over frames against a loop, and models without queries."""

import math

import pytest
import torch
from torch import nn

from transavs.engine.query_watch import QueryWatch
from transavs.losses import query_homogeneity
from transavs.structures import QueryOutput


class Criterion(nn.Module):
    def confidence(self, output: QueryOutput) -> torch.Tensor:
        return output.class_logits.softmax(-1)[..., 0]


class Model(nn.Module):
    """Clips are their own results."""

    def __init__(self) -> None:
        super().__init__()
        self.query_decoder = nn.Identity()
        self.criterion = Criterion()

    def forward(self, clips: list[QueryOutput], with_queries: bool = False) -> list[dict]:
        return [{"queries": clip} if with_queries else {} for clip in clips]


def answers(*frames: int) -> list[QueryOutput]:
    return [
        QueryOutput(torch.randn(n, 6, 3), torch.randn(n, 6, 2), torch.randn(n, 6, 4, 5))
        for n in frames
    ]


def test_sums_over_batches() -> None:
    model, batches = Model(), answers(2, 3)
    watch = QueryWatch(model, 0.4)
    assert watch(batches[:1]) + watch(batches[1:]) == [{}, {}]
    found = watch.scores()
    joined = QueryOutput(
        *(
            torch.cat([getattr(batch, name) for batch in batches])
            for name in ("queries", "class_logits", "mask_logits")
        )
    )
    confident = model.criterion.confidence(joined) > 0.4
    sums = query_homogeneity(joined.queries, joined.mask_logits, confident)
    assert sums["pairs"] > 5
    assert found["query_cosine"] == pytest.approx(float(sums["cosine"] / sums["pairs"]))
    assert found["query_overlap"] == pytest.approx(float(sums["overlap"] / sums["pairs"]))
    assert found["queries_confident"] == pytest.approx(float(confident.sum()) / 5)


def test_no_frame_with_two() -> None:
    model = Model()
    watch = QueryWatch(model, 1.0)
    watch(answers(2))
    found = watch.scores()
    assert math.isnan(found["query_cosine"]) and math.isnan(found["query_overlap"])
    assert found["queries_confident"] == 0


def test_nothing_evaluated() -> None:
    scores = QueryWatch(Model(), 0.5).scores()
    assert len(scores) == 3 and all(math.isnan(value) for value in scores.values())


@pytest.mark.parametrize("lacking", ["query_decoder", "criterion"])
def test_models_without_queries_are_left_alone(lacking: str) -> None:
    model = Model()
    delattr(model, lacking)
    watch = QueryWatch(model, 0.5)
    assert watch(answers(2)) == [{}] and watch.scores() == {}
