"""The formats of published weights, by name and by what their tensors are called."""

from __future__ import annotations

from collections.abc import Iterable

from transavs.engine.starting_weights.audio_encoders import (
    CLAPWeights,
    HTSATWeights,
    VGGishWeights,
    YAMNetWeights,
)
from transavs.engine.starting_weights.conversion import WeightsFormat
from transavs.engine.starting_weights.image_backbones import (
    MSRAResNet,
    SwinImageNet,
    TorchvisionResNet,
)
from transavs.engine.starting_weights.mask2former import Mask2Former
from transavs.engine.starting_weights.own_checkpoint import OwnCheckpoint

# More particular ones first: a Mask2Former checkpoint also holds a ResNet.
FORMATS: dict[str, WeightsFormat] = {
    kind.name: kind
    for kind in (
        Mask2Former(),
        OwnCheckpoint(),
        TorchvisionResNet(),
        MSRAResNet(),
        CLAPWeights(),
        HTSATWeights(),
        SwinImageNet(),
        VGGishWeights(),
        YAMNetWeights(),
    )
}


def recognise(names: Iterable[str]) -> WeightsFormat | None:
    """Returns the format of a file by the names of its tensors; None for another one."""
    names = set(names)
    for kind in FORMATS.values():
        if kind.recognises(names):
            return kind
    return None
