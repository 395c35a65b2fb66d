"""What 8 bits change of an audio encoder's embeddings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transavs.audio import AudioEncoder
from transavs.audio.io import load_waveform
from transavs.engine.export.exporter import OPSET, quiet_exporter
from transavs.engine.export.int8 import quantize_audio_encoder

# So many examples at once, which bounds the memory.
_BATCH = 16


class _EncoderGraph(nn.Module):
    """An encoder alone, under the names that its weights have in a model's graph."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.audio_encoder = encoder
        self.eval()

    def forward(self, examples: Tensor) -> Tensor:
        encoder: Any = self.model.audio_encoder
        embedded: Tensor = encoder.embed(examples)
        return embedded


def examples_of_folder(encoder: AudioEncoder, folder: str | os.PathLike[str]) -> Tensor:
    """Returns the examples of all whole seconds of the ``.wav`` files of a folder, at least one
    of each, ``[S, *example_shape]``.

    Raises:
        ValueError: no folder, or no such file in it.
    """
    paths = sorted(Path(folder).glob("*.wav"))
    if not paths:
        raise ValueError(f"expected a folder with .wav files, found none in {os.fspath(folder)}")
    rate = encoder.front_end.sample_rate_hz
    found = []
    for path in paths:
        waveform = load_waveform(path, rate)
        found.append(encoder.front_end.clip_examples(waveform, max(1, len(waveform) // rate)))
    return torch.cat(found)


def embedding_error(encoder: AudioEncoder, examples: Tensor) -> dict[str, float]:
    """Compares embeddings in 8 bits, by :func:`quantize_audio_encoder`, with PyTorch's.

    Args:
        encoder: on the CPU.
        examples: ``[S, *example_shape]``.

    Returns:
        ``examples`` (S), ``silent`` (how many embeddings are zero before and after, which have no
        direction and are left out of the rest), ``relative_l2`` (of all others together:
        norm of the difference / norm), ``worst_relative_l2`` of one, ``cosine`` (mean) and
        ``worst_cosine``.

    Raises:
        ValueError: the encoder has no linear layer to quantise.
    """
    import onnxruntime

    graph = _EncoderGraph(encoder)
    with torch.no_grad(), quiet_exporter():
        program = torch.onnx.export(
            graph,
            (examples[:2].repeat(2, *[1] * (examples.ndim - 1)),),
            dynamo=True,
            dynamic_shapes={"examples": {0: torch.export.Dim("count")}},
            input_names=["examples"],
            output_names=["embeddings"],
            opset_version=OPSET,
            verbose=False,
        )
    proto, _ = quantize_audio_encoder(program.model_proto)  # type: ignore[union-attr]
    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    before, after = [], []
    with torch.no_grad():
        for part in examples.split(_BATCH):
            before.append(graph(part).double().numpy())
            after.append(session.run(None, {"examples": part.numpy()})[0].astype(np.float64))
    return compare_embeddings(np.concatenate(before), np.concatenate(after))


def compare_embeddings(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Returns the entries of :func:`embedding_error` for two arrays ``[S, D]``."""
    sizes, others = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    silent = (sizes == 0) & (others == 0)
    before, after, sizes, others = (array[~silent] for array in (before, after, sizes, others))
    if not len(sizes):
        raise ValueError("all embeddings are zero: their errors have no measure")
    errors = np.linalg.norm(after - before, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = errors / sizes
        cosines = np.nan_to_num((before * after).sum(1) / (sizes * others))
    return {
        "examples": len(silent),
        "silent": int(silent.sum()),
        "relative_l2": float(np.linalg.norm(errors) / np.linalg.norm(sizes)),
        "worst_relative_l2": float(relative.max()),
        "cosine": float(cosines.mean()),
        "worst_cosine": float(cosines.min()),
    }
