"""Speed, memory and size of a model, as ratios to the least that its encoders cost.

The limit is the model's own image backbone and audio encoder alone, measured in turn with the model
on the same input: what any model with these encoders has to do.
"""

from transavs.engine.benchmark.clips import labelled_seconds, random_clips, training_frames
from transavs.engine.benchmark.clock import PRECISIONS, Clock
from transavs.engine.benchmark.compiled import WORKS, measure_compiled
from transavs.engine.benchmark.cost import count_macs, count_parameters, measure_cost
from transavs.engine.benchmark.inference import measure_inference
from transavs.engine.benchmark.loader import measure_loader
from transavs.engine.benchmark.machine import describe_machine
from transavs.engine.benchmark.memory import measure_memory
from transavs.engine.benchmark.report import (
    format_benchmark,
    format_comparison,
    read_benchmark,
    write_benchmark,
)
from transavs.engine.benchmark.scaling import SWEEPS, Point, measure_scaling, sweep_points
from transavs.engine.benchmark.soak import format_soak, measure_soak, summarize_soak
from transavs.engine.benchmark.training import STAGES, measure_training

__all__ = [
    "PRECISIONS",
    "STAGES",
    "SWEEPS",
    "WORKS",
    "Clock",
    "Point",
    "count_macs",
    "count_parameters",
    "describe_machine",
    "format_benchmark",
    "format_comparison",
    "format_soak",
    "labelled_seconds",
    "measure_compiled",
    "measure_cost",
    "measure_inference",
    "measure_loader",
    "measure_memory",
    "measure_scaling",
    "measure_soak",
    "measure_training",
    "random_clips",
    "read_benchmark",
    "summarize_soak",
    "sweep_points",
    "training_frames",
    "write_benchmark",
]
