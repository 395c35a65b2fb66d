"""QueryWatch: sums over frames against a loop, models without queries, hooks that are taken off."""

import math

import pytest
import torch
from torch import nn

from transavs.engine.query_watch import QueryWatch
from transavs.losses import query_homogeneity
from transavs.structures import QueryOutput


class Decoder(nn.Module):
    def forward(self, output: QueryOutput) -> list[QueryOutput]:
        # The last layer counts; this one must not.
        first = QueryOutput(output.queries, output.class_logits + 9, output.mask_logits)
        return [first, output]


class Criterion(nn.Module):
    def confidence(self, output: QueryOutput) -> torch.Tensor:
        return output.class_logits.softmax(-1)[..., 0]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_decoder = Decoder()
        self.criterion = Criterion()

    def forward(self, output: QueryOutput) -> QueryOutput:
        return self.query_decoder(output)[-1]


def answers(*frames: int) -> list[QueryOutput]:
    return [
        QueryOutput(torch.randn(n, 6, 3), torch.randn(n, 6, 2), torch.randn(n, 6, 4, 5))
        for n in frames
    ]


def test_sums_over_batches() -> None:
    model, batches = Model(), answers(2, 3)
    with QueryWatch(model, 0.4) as watch:
        for batch in batches:
            model(batch)
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
    with QueryWatch(model, 1.0) as watch:
        model(answers(2)[0])
    found = watch.scores()
    assert math.isnan(found["query_cosine"]) and math.isnan(found["query_overlap"])
    assert found["queries_confident"] == 0


def test_nothing_evaluated() -> None:
    with QueryWatch(Model(), 0.5) as watch:
        pass
    assert all(math.isnan(value) for value in watch.scores().values())


def test_the_hook_goes_also_after_an_error_and_into_the_wrapper() -> None:
    model = Model()
    wrapper = nn.Module()
    wrapper.module = model
    with pytest.raises(RuntimeError), QueryWatch(wrapper, 0.5):
        assert model.query_decoder._forward_hooks
        raise RuntimeError("out of memory")
    assert not model.query_decoder._forward_hooks


@pytest.mark.parametrize("lacking", ["query_decoder", "criterion"])
def test_models_without_queries_are_left_alone(lacking: str) -> None:
    model = Model()
    delattr(model, lacking)
    with QueryWatch(model, 0.5) as watch:
        assert not any(module._forward_hooks for module in model.modules())
    assert watch.scores() == {}
