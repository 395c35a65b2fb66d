"""Speed of a model in PyTorch, compiled, and in onnxruntime, measured in turn."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_context
from tabulate import tabulate

from transavs.engine.export.check import clips_of
from transavs.engine.export.exporter import trial_inputs
from transavs.engine.export.graph import ClipGraph
from transavs.engine.export.runtime import ExportedModel
from transavs.modeling.compiling import compile_parts
from transavs.utils.timing import choose_timer, measure_in_turn, median_ratio

Latency = dict[str, Any]


def measure_latency(
    cfg: CfgNode,
    graph: ClipGraph,
    contents: Mapping[str, bytes],
    size: tuple[int, int],
    frames: int,
    repeats: int = 5,
    compiled: bool = True,
) -> Latency:
    """Returns the time for one clip in each runtime, on one thread.

    Every runtime gets what the file takes: of a waveform, PyTorch computes the examples as well.

    Args:
        cfg: of the model.
        graph: of the model, on the CPU.
        contents: name of a runtime -> content of an exported file.
        size: (H, W) of the frames.
        frames: T of the clip.
        repeats: of each, in turn.
        compiled: measure ``torch.compile`` as well, which needs a C++ compiler and a minute.

    Returns:
        ``frames``, ``size``, ``repeats``, and ``runtimes``: name -> ``seconds`` (median, of
        processor time) and ``ratio`` to PyTorch (median over the repeats).
    """
    pictures, sound = trial_inputs(graph, 1, frames, size)
    arrays = (pictures.numpy(), sound.numpy())
    calls: dict[str, Callable[[], object]] = {}

    def in_torch(own: Any) -> Callable[[], object]:
        return lambda: own(clips_of(cfg, graph, pictures, sound))

    calls["torch"] = in_torch(graph.model)
    if compiled:
        own = copy.deepcopy(graph.model)
        compile_parts(own)
        calls["torch.compile"] = in_torch(own)
    for name, content in contents.items():
        exported = ExportedModel(content, threads=1)
        calls[name] = lambda exported=exported: exported(*arrays, "scores", "masks")  # type: ignore[misc]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with inference_context(graph.model), torch.no_grad():
            timer = choose_timer(torch.device("cpu"), threads=1)
            seconds = measure_in_turn(calls, timer, repeats, warmup=2)
    finally:
        torch.set_num_threads(threads)
    return {
        "frames": frames,
        "size": list(size),
        "repeats": repeats,
        "runtimes": {
            name: {
                "seconds": statistics.median(own),
                "ratio": median_ratio(own, seconds["torch"]),
            }
            for name, own in seconds.items()
        },
    }


def format_latency(latency: Latency) -> str:
    """Returns the table that the tool prints."""
    rows = [
        [name, f"{1000 * own['seconds']:.1f}", f"{own['ratio']:.2f}"]
        for name, own in latency["runtimes"].items()
    ]
    heads = ["runtime", "ms a clip", "ratio to torch"]
    height, width = latency["size"]
    return (
        f"One clip of {latency['frames']} frames of {height} x {width}, one thread, median of "
        f"{latency['repeats']}\n" + tabulate(rows, heads, disable_numparse=True)
    )
