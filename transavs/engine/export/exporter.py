"""From a model to the bytes of an ONNX file that says what it takes and what it gives."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.backbone import swin
from torch import nn

from transavs.audio.log_mel import samples_of_examples
from transavs.engine.export.graph import ClipGraph
from transavs.engine.export.runtime import FORMAT, METADATA_KEY
from transavs.modeling.meta_arch import TransAVS
from transavs.utils.fingerprint import fingerprint
from transavs.version import __version__

logger = logging.getLogger(__name__)

# Trial clips of the export; the graph holds for any number of clips and frames.
_TRIAL_CLIPS = 2
_TRIAL_FRAMES = 3
#: Of the files.
OPSET = 20
# A file of one piece has at most 2 GiB.
_MOST_BYTES = 2**31 - 1


def check_packages() -> None:
    """Raises ValueError where the extra ``export`` is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f'{error.name} is not installed: pip install "transavs[export]" brings what exporting '
            "needs"
        ) from error


def export_graph(graph: ClipGraph, size: tuple[int, int], most_frames: int | None) -> Any:
    """Returns the ``onnx.ModelProto`` of a graph, without metadata.

    Args:
        graph: in evaluation mode, on the CPU.
        size: (H, W) of the frames, which the graph is fixed to.
        most_frames: T is at most this; None: any.

    Raises:
        ValueError: the model cannot be followed, or is too large for a file.
    """
    frames, sound = trial_inputs(graph, _TRIAL_CLIPS, min(_TRIAL_FRAMES, most_frames or 99), size)
    batch = torch.export.Dim("batch")
    axes: dict[int, Any] = {0: batch}
    if most_frames != 1:
        axes[1] = torch.export.Dim("frames", min=1, max=most_frames)
    sound_axes = dict(axes)
    if graph.sound == "waveform":
        sound_axes[1] = torch.export.Dim("samples", min=1)
    try:
        with torch.no_grad(), quiet_exporter(), swin_of_any_batch():
            program = torch.onnx.export(
                graph,
                (frames, sound),
                dynamo=True,
                dynamic_shapes={"frames": axes, "sound": sound_axes},
                input_names=["frames", graph.sound],
                output_names=graph.output_names,
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:600]
        raise ValueError(f"this model cannot be exported ({reason})") from error
    proto = program.model_proto  # type: ignore[union-attr]
    if proto.ByteSize() > _MOST_BYTES:
        raise ValueError("the model is larger than 2 GiB, more than an ONNX file can hold")
    return proto


def trial_inputs(
    graph: ClipGraph, clips: int, frames: int, size: tuple[int, int], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns random frames and sound for a graph, the same for equal arguments.

    Pictures are smooth and sounds loud and soft, so that activations are as large as usual. A
    waveform is half a second short of the clip.
    """
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(clips * frames, 3, 6, 6, generator=draw)
    pictures = nn.functional.interpolate(coarse, size, mode="bilinear") * 255
    images = pictures.to(torch.uint8).unflatten(0, (clips, frames))
    encoder: Any = graph.model.audio_encoder
    if graph.sound == "waveform":
        length = samples_of_examples(frames) - 8_000
        noise = torch.randn(clips, length, generator=draw)
        return images, (noise * torch.linspace(0, 0.3, length)).clamp(-1, 1)
    shape = encoder.front_end.example_shape
    if graph.sound == "embeddings":
        shape = (encoder.embedding_dim,)
    return images, torch.randn(clips, frames, *shape, generator=draw)


def most_frames(cfg: CfgNode, model: nn.Module) -> int | None:
    """Returns how many frames a clip may have at most; None for any number."""
    whole_clip = isinstance(model, TransAVS) and model.query_generator.context == "clip"
    return int(cfg.INPUT.CLIP_SECONDS) if whole_clip else None


def describe(
    cfg: CfgNode,
    graph: ClipGraph,
    size: tuple[int, int],
    names: dict[str, Any],
) -> dict[str, Any]:
    """Returns the facts that stand in the file and beside it.

    Args:
        cfg: of the model.
        graph: what was exported.
        size: (H, W).
        names: further entries, such as what the model and its classes are called.
    """
    model: Any = graph.model
    front_end = model.audio_encoder.front_end
    picture = list(size)
    every: list[int | str] = ["batch", "frames"]
    reversed_channels = graph.image_format == "BGR"
    mean, std = (values.flatten().tolist() for values in (model.pixel_mean, model.pixel_std))
    sound_shape = {
        "waveform": ["batch", "samples"],
        "examples": [*every, *front_end.example_shape],
        "embeddings": [*every, model.audio_encoder.embedding_dim],
    }[graph.sound]
    outputs: dict[str, Any] = {
        "scores": {"dtype": "float32", "shape": [*every, *picture], "range": [0, 1]},
        "masks": {"dtype": "bool", "shape": [*every, *picture]},
        "class_maps": {
            "dtype": "int64",
            "shape": [*every, *picture],
            "range": [0, int(model.num_sounding)],
            "meaning": "0 where the mask is false, else 1 + the class",
        },
    }
    if isinstance(model, TransAVS):
        queries = len(model.query_generator.time_mixture)
        classes = model.query_decoder.class_head.out_features
        outputs["class_logits"] = {"dtype": "float32", "shape": [*every, queries, classes]}
        outputs["mask_logits"] = {
            "dtype": "float32",
            "shape": [*every, queries, "height / 4", "width / 4"],
        }
    return {
        "format": FORMAT,
        "transavs": __version__,
        "torch": torch.__version__,
        "opset": OPSET,
        "meta_architecture": type(model).__name__,
        "fingerprint": fingerprint(model),
        "sound": graph.sound,
        "sample_rate_hz": front_end.sample_rate_hz,
        "front_end": front_end.version,
        "most_frames": most_frames(cfg, model),
        "normalisation": {
            "where": "in the graph: (frame - mean) / std for each channel, red first",
            "mean": mean[::-1] if reversed_channels else mean,
            "std": std[::-1] if reversed_channels else std,
        },
        "inference_rule": getattr(model, "inference_rule", "threshold"),
        "mask_threshold": model.mask_threshold,
        "inputs": {
            "frames": {
                "dtype": "uint8",
                "shape": [*every, 3, *picture],
                "channels": "RGB",
                "range": [0, 255],
            },
            graph.sound: {"dtype": "float32", "shape": sound_shape},
        },
        "outputs": {name: outputs[name] for name in graph.output_names},
        **names,
    }


def with_facts(proto: Any, facts: dict[str, Any]) -> bytes:
    """Returns the content of the file: the graph with its facts as metadata."""
    del proto.metadata_props[:]
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(facts)
    return bytes(proto.SerializeToString())


@contextmanager
def swin_of_any_batch() -> Iterator[None]:
    """Lets detectron2's Swin be followed for any number of pictures: it computes that number as a
    float, which would stay in the graph as a constant."""
    theirs = swin.window_reverse
    swin.window_reverse = _window_reverse
    try:
        yield
    finally:
        swin.window_reverse = theirs


def _window_reverse(windows: torch.Tensor, side: int, height: int, width: int) -> torch.Tensor:
    """Maps ``[N * windows of a map, side, side, C]`` back to ``[N, height, width, C]``."""
    channels = windows.shape[-1]
    rows = windows.view(-1, height // side, width // side, side, side, channels).transpose(2, 3)
    return rows.reshape(-1, height, width, channels)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keeps the exporter's remarks about its own workings away from users."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.fx", "torch.export")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
