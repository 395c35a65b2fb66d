"""Is an exported model the model? Both are asked about the same clips."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from transavs.audio import AudioEncoder
from transavs.engine.export.exporter import trial_inputs, with_facts
from transavs.engine.export.graph import ClipGraph
from transavs.engine.export.runtime import ExportedModel
from transavs.modeling.meta_arch import TransAVS
from transavs.structures import QueryOutput


@dataclass(frozen=True)
class Bounds:
    """How far an exported model may be from its model.

    Attributes:
        mean: difference of two score maps, and of the queries' class and mask probabilities, on
            average over a batch of clips; all are in [0, 1].
        scores: largest difference of two score maps.
        queries: largest difference of such probabilities.
        pixels: share of those that may have another mask or class: their scores are nearly tied.
    """

    mean: float
    scores: float = 1.0
    queries: float = 1.0
    pixels: float = 1.0


#: The same numbers, added up in another order.
SAME = Bounds(mean=1e-4, scores=1e-4, queries=1e-4, pixels=1e-3)
#: With an audio encoder in 8 bits: what shows that nothing is broken. A query that is of two minds
#: about its class may change it, and with it all that it marks of a frame.
INT8 = Bounds(mean=0.05)
# Clips and frames of each trial.
_CASES = ((1, 1), (2, 3), (3, 4))
_QUERIES = ("class_logits", "mask_logits")
_CLASS_BIAS = "model.query_decoder.class_head.bias"


def check_export(
    cfg: CfgNode,
    graph: ClipGraph,
    proto: Any,
    facts: dict[str, Any],
    size: tuple[int, int],
    bounds: Bounds = SAME,
) -> dict[str, Any]:
    """Returns how far an exported graph is from its model, on random clips.

    Both answer as they are, and once more with "no object" made less likely until half of the
    queries claim to sound: on random clips a trained model claims little.

    Args:
        cfg: of the model.
        graph: what was exported; its model answers through ``forward(clips)``.
        proto: the ``onnx.ModelProto``; comes back unchanged.
        facts: for the file.
        size: (H, W).
        bounds: what may differ.

    Returns:
        ``mean_difference`` and ``max_difference`` of the scores, ``mean_query_difference`` and
        ``max_query_difference`` of the queries' class and mask probabilities (scores may be cut at
        1, and hide one), ``cases`` (clips, frames, height, width of each), ``foreground`` (share of
        the pixels that the model marked), ``other_pixels`` (share of the pixels with another mask
        or class), each of the worst case, and the ``bounds``.

    Raises:
        ValueError: onnxruntime cannot run the graph, or it is further from the model than that.
    """
    most = facts["most_frames"]
    cases = [(clips, min(frames, most or frames)) for clips, frames in _CASES]
    differences, of_queries, foreground, others = [], [(0.0, 0.0)], [], []
    for claims in (False, True) if "class_logits" in facts["outputs"] else (False,):
        own_graph, own_proto = _with_claims(graph, proto, size) if claims else (graph, proto)
        exported = ExportedModel(with_facts(own_proto, facts))
        for number, (clips, frames) in enumerate(cases):
            pictures, sound = trial_inputs(own_graph, clips, frames, size, seed=number + 1)
            found = _run(exported, pictures.numpy(), sound.numpy())
            expected = _ask(cfg, own_graph, pictures, sound)
            scores = expected["scores"].numpy()
            differences.append(_mean_and_most(found["scores"], scores))
            of_queries += [
                _mean_and_most(_probabilities(name, found[name]), expected[name].numpy())
                for name in _QUERIES
                if name in expected
            ]
            foreground.append(float(expected["masks"].float().mean()))
            others += [
                float((found[name] != expected[name].numpy()).mean())
                for name in ("masks", "class_maps")
                if name in found and name in expected
            ]
    (mean, worst), (query_mean, query) = np.max(differences, 0), np.max(of_queries, 0)
    other = np.max(others)
    if not (
        np.max((mean, query_mean)) <= bounds.mean
        and worst <= bounds.scores
        and query <= bounds.queries
        and other <= bounds.pixels
    ):
        raise ValueError(
            f"the exported model differs from the model: its scores by {mean:.2g} on average (at "
            f"most {bounds.mean:g} was expected) and up to {worst:.2g} ({bounds.scores:g}), its "
            f"queries' probabilities by {query_mean:.2g} ({bounds.mean:g}) and up to {query:.2g} "
            f"({bounds.queries:g}), masks or classes in {100 * other:.3g} % of the pixels "
            f"({100 * bounds.pixels:g} %). Nothing was written"
        )
    return {
        "mean_difference": float(mean),
        "max_difference": float(worst),
        "mean_query_difference": float(query_mean),
        "max_query_difference": float(query),
        "bounds": asdict(bounds),
        "cases": [[clips, frames, *size] for clips, frames in cases],
        "foreground": max(foreground),
        "other_pixels": float(other),
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


def clips_of(cfg: CfgNode, graph: ClipGraph, frames: Tensor, sound: Tensor) -> list[dict[str, Any]]:
    """Returns the inputs of a graph as the clips that its model takes.

    A waveform passes through the front-end that data are read with.
    """
    encoder: AudioEncoder = graph.model.audio_encoder  # type: ignore[assignment]
    clips = []
    for pictures, own in zip(frames, sound, strict=True):
        if cfg.INPUT.FORMAT == "BGR":
            pictures = pictures.flip(1)
        clip: dict[str, Any] = {"frames": pictures}
        if graph.sound == "waveform":
            clip["audio"] = encoder.front_end.clip_examples(own, len(pictures))
        elif graph.sound == "examples":
            clip["audio"] = own
        else:
            clip |= {"audio_embeddings": own, "audio_embeddings_of": ("", encoder.identity())}
        clips.append(clip)
    return clips


@torch.no_grad()
def _ask(cfg: CfgNode, graph: ClipGraph, frames: Tensor, sound: Tensor) -> dict[str, Tensor]:
    """What the model answers, and the probabilities of its queries, where it has any."""
    seen: list[QueryOutput] = []
    model: Any = graph.model
    hook = None
    if isinstance(model, TransAVS):
        hook = model.query_decoder.register_forward_hook(
            lambda module, inputs, outputs: seen.append(outputs[-1])
        )
    try:
        answers = model(clips_of(cfg, graph, frames, sound))
    finally:
        if hook is not None:
            hook.remove()
    found = {name: torch.stack([own[name] for own in answers]) for name in answers[0]}
    for output in seen:
        for name in _QUERIES:
            logits = getattr(output, name).unflatten(0, frames.shape[:2])
            found[name] = torch.from_numpy(_probabilities(name, logits.numpy()))
    return found


def _mean_and_most(found: Any, expected: Any) -> tuple[float, float]:
    difference = np.abs(found - expected)
    return float(difference.mean()), float(difference.max())


def _probabilities(name: str, logits: Any) -> Any:
    """Of class or mask logits, float32."""
    values = torch.from_numpy(logits)
    return (values.softmax(-1) if name == "class_logits" else values.sigmoid()).numpy()


@torch.no_grad()
def _with_claims(graph: ClipGraph, proto: Any, size: tuple[int, int]) -> tuple[ClipGraph, Any]:
    """Copies in which half of the queries of some clips claim to sound."""
    logits = graph(*trial_inputs(graph, 2, 1, size))[-2]
    lead = logits[..., -1] - logits[..., :-1].amax(-1)
    graph, changed = copy.deepcopy(graph), copy.deepcopy(proto)
    bias = graph.get_parameter(_CLASS_BIAS)
    bias[-1] -= lead.median()
    own = [tensor for tensor in changed.graph.initializer if tensor.name == _CLASS_BIAS]
    assert len(own) == 1, f"{len(own)} tensors {_CLASS_BIAS} in the graph"
    own[0].raw_data = bias.numpy().astype("<f4").tobytes()
    return graph, changed
