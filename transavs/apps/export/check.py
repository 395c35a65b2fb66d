"""Is an exported file the model? Both predict the same clips: compared, timed and evaluated."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import Tensor, nn

from transavs.apps.export.graph import ClipGraph, with_facts
from transavs.apps.export.runtime import ExportedModel
from transavs.engine.robustness import evaluate_loader
from transavs.engine.trainer import Trainer
from transavs.modeling import TransAVS
from transavs.modeling.compiling import compile_parts
from transavs.modeling.inference import resize_logits
from transavs.utils.timing import choose_timer, measure_in_turn, median_ratio

#: The largest differences that adding up in another order explains: of scores, of the queries'
#: class and mask probabilities, all in [0, 1], and of the share of pixels with another mask or
#: class, whose scores are nearly tied.
BOUNDS = {"scores": 1e-4, "queries": 1e-4, "pixels": 1e-3}
# Clips and frames of each trial.
_CASES = ((1, 1), (2, 3), (3, 4))
_CLASS_BIAS = "model.query_decoder.class_head.bias"


def check_export(graph: ClipGraph, proto: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Returns how far an exported graph is from its model, on random clips.

    Both predict as they are, and once more with "no object" made less likely until half of the
    queries claim to sound: on random clips a trained model claims little.

    Args:
        graph: what was exported; its model predicts through ``forward(clips)``.
        proto: the ``onnx.ModelProto``; its metadata change.
        facts: for the file.

    Returns:
        ``max_difference`` of the scores, ``max_query_difference`` of the queries' class and mask
        probabilities (scores may be cut at 1, and hide one), ``other_pixels`` (share of the pixels
        with another mask or class) and ``foreground`` (share of the pixels that the model marked),
        each of the worst case; ``cases`` (clips, frames, height, width of each) and ``bounds``.

    Raises:
        ValueError: onnxruntime cannot run the graph, or it is further from the model than that.
    """
    cases = [(clips, min(frames, graph.most_frames or frames)) for clips, frames in _CASES]
    most = {name: torch.zeros(()) for name in BOUNDS}
    foreground = 0.0
    for claims in (False, True) if isinstance(graph.model, TransAVS) else (False,):
        own_graph, own_proto = _with_claims(graph, proto) if claims else (graph, proto)
        exported = ExportedModel(with_facts(own_proto, facts))
        for number, (clips, frames) in enumerate(cases):
            inputs = own_graph.trial_inputs(clips, frames, seed=number + 1)
            expected = _predict(own_graph, *inputs)
            found = _run(exported, *(part.numpy() for part in inputs))
            foreground = max(foreground, float(expected["masks"].float().mean()))
            for name, values in expected.items():
                own = _probabilities(name, torch.from_numpy(found[name]))
                if name in ("masks", "class_maps"):
                    key, value = "pixels", (own != values).float().mean()
                else:
                    key, value = "queries", (own - values).abs().max()
                    key = "scores" if name == "scores" else key
                most[key] = torch.maximum(most[key], value)  # which keeps a NaN
    worst = {name: float(value) for name, value in most.items()}
    if not all(worst[key] <= bound for key, bound in BOUNDS.items()):
        raise ValueError(
            f"the exported model differs from the model: its scores by up to {worst['scores']:.2g} "
            f"(at most {BOUNDS['scores']:g} was expected), its queries' probabilities by "
            f"{worst['queries']:.2g} ({BOUNDS['queries']:g}), masks or classes in "
            f"{100 * worst['pixels']:.3g} % of the pixels ({100 * BOUNDS['pixels']:g} %). Nothing "
            "was written"
        )
    return {
        "max_difference": worst["scores"],
        "max_query_difference": worst["queries"],
        "other_pixels": worst["pixels"],
        "foreground": foreground,
        "cases": [[clips, frames, *graph.size] for clips, frames in cases],
        "bounds": BOUNDS,
    }


def _run(exported: ExportedModel, frames: Any, sound: Any) -> dict[str, Any]:
    try:
        return exported(frames, sound)
    except Exception as error:  # onnxruntime has exceptions of its own
        reason = " ".join(str(error).split())[:600]
        raise ValueError(
            f"this model cannot be exported for any number of clips and frames: with "
            f"{len(frames)} of {frames.shape[1]} frames onnxruntime fails ({reason}). Nothing was "
            "written"
        ) from error


@torch.no_grad()
def _predict(graph: ClipGraph, frames: Tensor, sound: Tensor) -> dict[str, Tensor]:
    """What the model predicts, and the probabilities of its queries, where it has any."""
    results = graph.model(graph.clips_of(frames, sound), with_queries=True)
    queries = [result.pop("queries") for result in results if "queries" in result]
    found = {name: torch.stack([result[name] for result in results]) for name in results[0]}
    for name in ("class_logits", "mask_logits") if queries else ():
        found[name] = torch.stack([getattr(own, name) for own in queries])
    return {name: _probabilities(name, values) for name, values in found.items()}


def _probabilities(name: str, values: Tensor) -> Tensor:
    """Logits as probabilities, all else as it is."""
    if name == "class_logits":
        return values.softmax(-1)
    return values.sigmoid() if name == "mask_logits" else values


@torch.no_grad()
def _with_claims(graph: ClipGraph, proto: Any) -> tuple[ClipGraph, Any]:
    """Copies in which half of the queries of some clips claim to sound."""
    logits = graph(*graph.trial_inputs(2, 1))[-2]
    lead = logits[..., -1] - logits[..., :-1].amax(-1)
    graph, changed = copy.deepcopy(graph), copy.deepcopy(proto)
    bias = graph.get_parameter(_CLASS_BIAS)
    bias[-1] -= lead.median()
    own = [tensor for tensor in changed.graph.initializer if tensor.name == _CLASS_BIAS]
    assert len(own) == 1, f"{len(own)} tensors {_CLASS_BIAS} in the graph"
    own[0].raw_data = bias.numpy().astype("<f4").tobytes()
    return graph, changed


def measure_latency(
    graph: ClipGraph, content: bytes, frames: int, repeats: int, compiled: bool
) -> dict[str, Any]:
    """Returns the processor time of one clip in each runtime, on one thread, measured in turn.

    Every runtime gets what the file takes: of a waveform, PyTorch computes the examples as well.

    Args:
        graph: what was exported, on the CPU.
        content: of the file.
        frames: T of the clip.
        repeats: of each runtime.
        compiled: measure ``torch.compile`` as well, which needs a C++ compiler and a minute.

    Returns:
        ``frames``, ``size``, ``repeats``, and ``runtimes``: name -> ``seconds`` (median) and
        ``ratio`` to PyTorch (median over the repeats).
    """
    inputs = graph.trial_inputs(1, frames)
    exported = ExportedModel(content, threads=1)
    models = {"torch": graph.model}
    if compiled:
        models["torch.compile"] = copy.deepcopy(graph.model)
        compile_parts(models["torch.compile"])
    calls: dict[str, Callable[[], object]] = {
        name: lambda own=own: own(graph.clips_of(*inputs))  # type: ignore[misc]
        for name, own in models.items()
    }
    frames_array, sound_array = (part.numpy() for part in inputs)
    calls["onnxruntime"] = lambda: exported(frames_array, sound_array, "scores", "masks")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            timer = choose_timer(torch.device("cpu"), threads=1)
            seconds = measure_in_turn(calls, timer, repeats, warmup=2)
    finally:
        torch.set_num_threads(threads)
    runtimes = {
        name: {
            "seconds": statistics.median(own),
            "ratio": median_ratio(own, seconds["torch"]),
        }
        for name, own in seconds.items()
    }
    return {"frames": frames, "size": list(graph.size), "repeats": repeats, "runtimes": runtimes}


def format_latency(latency: dict[str, Any]) -> str:
    """Returns the table that the command prints."""
    rows = [
        [name, f"{1000 * own['seconds']:.1f}", f"{own['ratio']:.2f}"]
        for name, own in latency["runtimes"].items()
    ]
    height, width = latency["size"]
    return (
        f"One clip of {latency['frames']} frames of {height} x {width}, one thread, median of "
        f"{latency['repeats']}\n"
        + tabulate(rows, ["runtime", "ms a clip", "ratio to torch"], disable_numparse=True)
    )


class ExportedClipModel(nn.Module):
    """A file in the place of its model, so that an evaluator can ask it about clips.

    Args:
        exported: takes examples, which is what a mapper gives.
        image_format: of the clips' frames.
    """

    def __init__(self, exported: ExportedModel, image_format: str) -> None:
        super().__init__()
        self.exported = exported
        self.image_format = image_format

    def forward(self, clips: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Returns ``masks`` bool and ``scores`` float32 ``[F, height, width]`` of each clip."""
        results = []
        for clip in clips:
            frames = clip["frames"].flip(1) if self.image_format == "BGR" else clip["frames"]
            audio = clip["audio"][None].contiguous().numpy()
            found = self.exported(np.ascontiguousarray(frames[None].numpy()), audio)
            size = (frames.shape[-2], frames.shape[-1])
            wanted = (int(clip.get("height", size[0])), int(clip.get("width", size[1])))
            scores, masks = torch.from_numpy(found["scores"]), torch.from_numpy(found["masks"])
            if wanted != size:
                scores = resize_logits(scores, size, size, wanted)
                masks = resize_logits(masks, size, size, wanted) > 0.5
            results.append({"masks": masks[0], "scores": scores[0]})
        return results


def evaluate_export(cfg: CfgNode, graph: ClipGraph, content: bytes, name: str) -> dict[str, Any]:
    """Returns ``M_J`` and ``M_F`` of the model and of its file on a data set, and prints them."""
    found: dict[str, Any] = {"data_set": name}
    exported = ExportedClipModel(ExportedModel(content), cfg.INPUT.FORMAT)
    for runtime, model in (("torch", graph.model), ("onnxruntime", exported)):
        loader = Trainer.build_test_loader(cfg, name)
        scores = evaluate_loader(cfg, model, loader, Trainer.build_evaluator(cfg, name))["avs"]
        found[runtime] = {key: float(scores[key]) for key in ("M_J", "M_F")}
        print(
            f"{name}, {runtime}: M_J {found[runtime]['M_J']:.2f}, M_F {found[runtime]['M_F']:.2f} "
            f"({scores['M_F_group']} clips a threshold)"
        )
    return found
