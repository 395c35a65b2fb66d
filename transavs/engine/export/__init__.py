"""Models as ONNX files: exported, checked against PyTorch, run without it, and timed."""

from transavs.engine.export.check import INT8, SAME, Bounds, check_export
from transavs.engine.export.exported_clips import ExportedClipModel
from transavs.engine.export.exporter import (
    check_packages,
    describe,
    export_graph,
    most_frames,
    with_facts,
)
from transavs.engine.export.graph import SOUNDS, ClipGraph
from transavs.engine.export.int8 import quantize_audio_encoder
from transavs.engine.export.int8_error import embedding_error, examples_of_folder
from transavs.engine.export.latency import format_latency, measure_latency
from transavs.engine.export.runtime import ExportedModel

__all__ = [
    "INT8",
    "SAME",
    "SOUNDS",
    "Bounds",
    "ClipGraph",
    "ExportedClipModel",
    "ExportedModel",
    "check_export",
    "check_packages",
    "describe",
    "embedding_error",
    "examples_of_folder",
    "export_graph",
    "format_latency",
    "measure_latency",
    "most_frames",
    "quantize_audio_encoder",
    "with_facts",
]
