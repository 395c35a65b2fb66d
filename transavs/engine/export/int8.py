"""The audio encoder's linear layers in 8 bits: VGGish holds 67 of its 72 million weights there."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

# Below this many weights nothing is gained.
_LEAST_WEIGHTS = 4096
_PREFIX = "model.audio_encoder."


def quantize_audio_encoder(proto: Any) -> tuple[Any, dict[str, float]]:
    """Returns a graph whose audio encoder multiplies in 8 bits, by onnxruntime's dynamic scheme.

    Weights are int8 with a scale for each output channel, inputs are quantised when they arrive.
    Convolutions stay as they are.

    Args:
        proto: the ``onnx.ModelProto``; not changed.

    Returns:
        The new graph, and ``layers``, ``weights`` (how many were quantised), ``bytes_before`` and
        ``bytes_after`` of the graph.

    Raises:
        ValueError: there is no such layer.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    counts = {t.name: _count(t) for t in proto.graph.initializer if t.name.startswith(_PREFIX)}
    layers = [
        node
        for node in proto.graph.node
        if node.op_type in ("Gemm", "MatMul")
        and any(counts.get(name, 0) >= _LEAST_WEIGHTS for name in node.input)
    ]
    if not layers:
        raise ValueError(
            "this model's graph has no linear layer of an audio encoder to quantise: leave "
            "--int8-audio out"
        )
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    # onnxruntime quantises matrix products, which it makes of these under names of its own.
    names = [node.name for node in layers]
    names += [f"{name}_MatMul" for name in names]
    result = _quantize(quantize_dynamic, changed, names, QuantType.QInt8)
    return result, {
        "layers": len(layers),
        "weights": sum(max(counts.get(name, 0) for name in node.input) for node in layers),
        "bytes_before": proto.ByteSize(),
        "bytes_after": result.ByteSize(),
    }


def _quantize(quantize_dynamic: Any, proto: Any, names: list[str], kind: Any) -> Any:
    import onnx

    # Its remarks go to the root logger, and are about layers that stay as they are.
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "quantized.onnx")
            quantize_dynamic(
                proto, path, nodes_to_quantize=names, per_channel=True, weight_type=kind
            )
            return onnx.load(path)
    finally:
        logging.disable(disabled)


def _count(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
