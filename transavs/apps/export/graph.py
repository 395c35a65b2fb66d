"""A trained model as a function of tensors alone, and as the bytes of an ONNX file."""

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
from torch import Tensor, nn

from transavs.apps.export.log_mel import GraphLogMel
from transavs.apps.export.runtime import FORMAT, METADATA_KEY
from transavs.audio.front_end import VGGishLogMel
from transavs.audio.log_mel import samples_of_examples
from transavs.modeling import ClipModel, TransAVS
from transavs.structures import ClipAudio
from transavs.utils.fingerprint import fingerprint
from transavs.version import __version__

#: What a graph hears: samples, examples of the front-end, or embeddings of the encoder.
SOUNDS = ("waveform", "examples", "embeddings")
#: Of the files.
OPSET = 20
# Trial clips of the export; the graph holds for any number of clips and frames.
_TRIAL_CLIPS, _TRIAL_FRAMES = 2, 3
# A file of one piece has at most 2 GiB.
_MOST_BYTES = 2**31 - 1


class ClipGraph(nn.Module):
    """A model for clips that are equally long and have a frame a second.

    Args:
        cfg: the model's configuration.
        model: a ``ClipModel`` in evaluation mode.
        sound: out of ``SOUNDS``.
        size: (H, W) of the frames, which the graph is fixed to.

    Attributes:
        output_names: names of what ``forward`` returns, in order.
        most_frames: how many frames a clip may have at most; None for any number.

    Raises:
        ValueError: a model or a front-end that cannot be put into a graph.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, sound: str, size: tuple[int, int]) -> None:
        super().__init__()
        if not isinstance(model, ClipModel):
            raise ValueError(
                f"expected a ClipModel such as TransAVS, got {type(model).__name__}: other "
                "meta-architectures cannot be exported"
            )
        front_end = model.audio_encoder.front_end
        self.front_end: GraphLogMel | None = None
        if sound == "waveform":
            if not isinstance(front_end, VGGishLogMel):
                raise ValueError(
                    f"the front-end {front_end.version!r} cannot be put into a graph: export with "
                    "--sound examples or --sound embeddings"
                )
            self.front_end = GraphLogMel().to(model.device)
        self.model = model
        self.sound = sound
        self.size = size
        self.reversed_channels = cfg.INPUT.FORMAT == "BGR"
        self.most_frames: int | None = None
        self.output_names = ["scores", "masks"]
        if isinstance(model, TransAVS):
            if model.query_generator.context == "clip":
                self.most_frames = int(cfg.INPUT.CLIP_SECONDS)
            if model.num_sounding > 1:
                self.output_names.append("class_maps")
            self.output_names += ["class_logits", "mask_logits"]
        self.eval()

    def forward(self, frames: Tensor, sound: Tensor) -> tuple[Tensor, ...]:
        """Segments B clips of T frames.

        Args:
            frames: uint8 ``[B, T, 3, H, W]``, RGB.
            sound: float32: a waveform ``[B, L]``, examples ``[B, T, 1, 96, 64]`` (or what the
                encoder takes), or embeddings ``[B, T, D]``.

        Returns:
            ``output_names``: scores float32 and masks bool ``[B, T, H, W]``, class_maps int64
            likewise; class_logits ``[B, T, Q, K + 1]`` and mask_logits ``[B, T, Q, h, w]`` of the
            queries.
        """
        model, seconds = self.model, frames.shape[1]
        pictures = frames.flatten(0, 1)
        if self.reversed_channels:
            pictures = pictures.flip(1)
        images = model.normalize(pictures, self.size)
        if self.front_end is not None:
            sound = self.front_end(sound, seconds)
        if self.sound != "embeddings":
            encoder: Any = model.audio_encoder
            sound = encoder.embed(sound.flatten(0, 1)).unflatten(0, (-1, seconds))
        output = model.segment(images, ClipAudio.of_whole_clips(sound))
        padded = (images.shape[-2], images.shape[-1])
        found = model.rule(model.candidates(output), padded, self.size, self.size)
        if isinstance(model, TransAVS):
            last = output[0][-1]
            found |= {"class_logits": last.class_logits, "mask_logits": last.mask_logits}
        return tuple(found[name].unflatten(0, (-1, seconds)) for name in self.output_names)

    def trial_inputs(self, clips: int, frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Returns random frames and sound, the same for equal arguments.

        Pictures are smooth and sounds loud and soft, so that activations are as large as usual. A
        waveform is half a second short of the clip.
        """
        draw = torch.Generator().manual_seed(seed)
        coarse = torch.rand(clips * frames, 3, 6, 6, generator=draw)
        pictures = nn.functional.interpolate(coarse, self.size, mode="bilinear") * 255
        images = pictures.to(torch.uint8).unflatten(0, (clips, frames))
        if self.sound == "waveform":
            length = samples_of_examples(frames) - 8_000
            noise = torch.randn(clips, length, generator=draw)
            return images, (noise * torch.linspace(0, 0.3, length)).clamp(-1, 1)
        shape = self._sound_shape()
        return images, torch.randn(clips, frames, *shape, generator=draw)

    def clips_of(self, frames: Tensor, sound: Tensor) -> list[dict[str, Any]]:
        """Returns inputs of the graph as the clips that its model takes.

        A waveform passes through the front-end that data are read with.
        """
        encoder = self.model.audio_encoder
        clips = []
        for pictures, own in zip(frames, sound, strict=True):
            clip: dict[str, Any] = {
                "frames": pictures.flip(1) if self.reversed_channels else pictures
            }
            if self.sound == "waveform":
                clip["audio"] = encoder.front_end.clip_examples(own, len(pictures))
            elif self.sound == "examples":
                clip["audio"] = own
            else:
                clip |= {"audio_embeddings": own, "audio_embeddings_of": ("", encoder.identity())}
            clips.append(clip)
        return clips

    def facts(self) -> dict[str, Any]:
        """Returns what stands in the file and beside it: inputs, outputs, where they come from."""
        model: Any = self.model
        front_end = model.audio_encoder.front_end
        mean, std = (values.flatten().tolist() for values in (model.pixel_mean, model.pixel_std))
        order = -1 if self.reversed_channels else 1

        def tensor(dtype: str, *shape: int | str, **more: Any) -> dict[str, Any]:
            return {"dtype": dtype, "shape": ["batch", "frames", *shape], **more}

        heard = tensor("float32", *self._sound_shape())
        if self.sound == "waveform":
            heard["shape"] = ["batch", "samples"]
        outputs = {
            "scores": tensor("float32", *self.size, range=[0, 1]),
            "masks": tensor("bool", *self.size),
        }
        if isinstance(model, TransAVS):
            queries, classes = len(model.query_generator.time_mixture), model.num_sounding
            outputs |= {
                "class_maps": tensor(
                    "int64",
                    *self.size,
                    range=[0, int(classes)],
                    meaning="0 where the mask is false, else 1 + the class",
                ),
                "class_logits": tensor(
                    "float32", queries, model.query_decoder.class_head.out_features
                ),
                "mask_logits": tensor("float32", queries, "height / 4", "width / 4"),
            }
        return {
            "format": FORMAT,
            "transavs": __version__,
            "torch": torch.__version__,
            "opset": OPSET,
            "meta_architecture": type(model).__name__,
            "fingerprint": fingerprint(model),
            "sound": self.sound,
            "sample_rate_hz": front_end.sample_rate_hz,
            "front_end": front_end.version,
            "most_frames": self.most_frames,
            "normalisation": {
                "where": "in the graph: (frame - mean) / std for each channel, red first",
                "mean": mean[::order],
                "std": std[::order],
            },
            "inference_rule": getattr(model, "inference_rule", "threshold"),
            "mask_threshold": model.mask_threshold,
            "inputs": {
                "frames": tensor("uint8", 3, *self.size, channels="RGB", range=[0, 255]),
                self.sound: heard,
            },
            "outputs": {name: outputs[name] for name in self.output_names},
        }

    def _sound_shape(self) -> tuple[int, ...]:
        """The shape of what is heard in one second, of examples or embeddings."""
        encoder = self.model.audio_encoder
        if self.sound == "embeddings":
            return (encoder.embedding_dim,)
        return encoder.front_end.example_shape


def export_graph(graph: ClipGraph) -> Any:
    """Returns the ``onnx.ModelProto`` of a graph on the CPU, without metadata.

    Raises:
        ValueError: the model cannot be followed, or is too large for a file.
    """
    frames, sound = graph.trial_inputs(_TRIAL_CLIPS, min(_TRIAL_FRAMES, graph.most_frames or 99))
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if graph.most_frames != 1:
        axes[1] = torch.export.Dim("frames", min=1, max=graph.most_frames)
    sound_axes = dict(axes)
    if graph.sound == "waveform":
        sound_axes[1] = torch.export.Dim("samples", min=1)
    try:
        with torch.no_grad(), _quiet(), swin_of_any_batch():
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


def _window_reverse(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Maps ``[N * windows of a map, side, side, C]`` back to ``[N, height, width, C]``."""
    channels = windows.shape[-1]
    rows = windows.view(-1, height // side, width // side, side, side, channels).transpose(2, 3)
    return rows.reshape(-1, height, width, channels)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about its own workings away from users."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
