"""Weights of others: files are read without running them, and every tensor is accounted for."""

from transavs.pretrained.conversion import Conversion, Skipped, WeightsFormat, convert
from transavs.pretrained.files import read_weights
from transavs.pretrained.formats import FORMATS, recognise

__all__ = [
    "FORMATS",
    "Conversion",
    "Skipped",
    "WeightsFormat",
    "convert",
    "read_weights",
    "recognise",
]
