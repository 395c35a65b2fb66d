"""Published weights as a start: which file is of which kind, and where each tensor belongs."""

from transavs.engine.starting_weights.conversion import Conversion, Left, WeightsFormat, convert
from transavs.engine.starting_weights.formats import FORMATS, recognise
from transavs.engine.starting_weights.reader import read_weights

__all__ = [
    "FORMATS",
    "Conversion",
    "Left",
    "WeightsFormat",
    "convert",
    "read_weights",
    "recognise",
]
