"""A trained TransAVS as the start of another: from S4 to MS3, or to the classes of AVSS."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from transavs.engine.shipped import TRAINING_ONLY
from transavs.engine.starting_weights.conversion import Left, WeightsFormat

_DIFFERENT = {
    "query_decoder.class_head.": "the class head is for other classes",
    "query_generator.time_mixture": "the clips have another length",
}


class OwnCheckpoint(WeightsFormat):
    """A checkpoint of this project; its class head and clip length may differ."""

    name = "transavs"
    description = (
        "a trained TransAVS (model_best.pth), for a configuration with other classes or another "
        "clip length: from S4 to AVSS. Where nothing differs, MODEL.WEIGHTS takes it as it is"
    )
    foreign = False
    parts = (
        "backbone.",
        "pixel_decoder.",
        "audio_encoder.",
        "query_generator.",
        "query_decoder.",
    )
    mend = (
        "Only the classes and the clip length may differ: use the backbone, decoders, queries and "
        "audio encoder of its config.yaml"
    )

    def recognises(self, names: set[str]) -> bool:
        return {"query_generator.time_mixture", "query_decoder.class_head.weight"} <= names

    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        if name.startswith(TRAINING_ONLY):
            return Left("needed in training alone, and starts fresh")
        return {name: tensor}

    def may_differ(self, target: str) -> str | None:
        reasons = [why for start, why in _DIFFERENT.items() if target.startswith(start)]
        return reasons[0] if reasons else None
