"""A trained model as a function of tensors alone, which ``torch.export`` can follow."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transavs.audio import AudioEncoder
from transavs.audio.front_end import VGGishLogMel
from transavs.engine.export.front_end import GraphLogMel
from transavs.engine.export.rules import RULES
from transavs.modeling.meta_arch import TransAVS
from transavs.modeling.tpavi_meta_arch import TPAVI

#: What a graph hears: samples, examples of the front-end, or embeddings of the encoder.
SOUNDS = ("waveform", "examples", "embeddings")


class ClipGraph(nn.Module):
    """The answers of a model for clips that are equally long and have a frame a second.

    Args:
        model: a TransAVS or a TPAVI in evaluation mode.
        sound: out of ``SOUNDS``.
        image_format: of the model's frames, "RGB" or "BGR"; those of the graph are RGB.

    Raises:
        ValueError: a model or a front-end that cannot be put into a graph.
    """

    def __init__(self, model: nn.Module, sound: str, image_format: str) -> None:
        super().__init__()
        if not isinstance(model, TransAVS | TPAVI):
            raise ValueError(
                f"expected a TransAVS or a TPAVI, got {type(model).__name__}: other "
                "meta-architectures cannot be exported"
            )
        if sound not in SOUNDS:
            raise ValueError(f"the sound must be one of {', '.join(SOUNDS)}, got {sound!r}")
        encoder: AudioEncoder = model.audio_encoder
        self.front_end: GraphLogMel | None = None
        if sound == "waveform":
            if not isinstance(encoder.front_end, VGGishLogMel):
                raise ValueError(
                    f"the front-end {encoder.front_end.version!r} of {type(encoder).__name__} has "
                    "no form as a graph: export from its examples or embeddings instead"
                )
            self.front_end = GraphLogMel().to(model.device)
        self.model = model
        self.sound = sound
        self.image_format = image_format
        self.eval()

    @property
    def output_names(self) -> list[str]:
        """Names of what ``forward`` returns, in order."""
        names = ["scores", "masks"]
        if isinstance(self.model, TransAVS):
            if self.model.num_sounding > 1:
                names.append("class_maps")
            names += ["class_logits", "mask_logits"]
        return names

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
        seconds = frames.shape[1]
        images, crop = self._images(frames)
        embeddings = self._embeddings(sound, seconds)
        maps = self.model.backbone(images)
        answers = (
            self._segment(maps, embeddings, images, crop)
            if isinstance(self.model, TransAVS)
            else self._segment_tpavi(maps, embeddings, seconds, crop)
        )
        return tuple(answer.unflatten(0, (-1, seconds)) for answer in answers)

    def _images(self, frames: Tensor) -> tuple[Tensor, tuple[int, int]]:
        model: Any = self.model
        pictures = frames.flatten(0, 1)
        if self.image_format == "BGR":
            pictures = pictures.flip(1)
        height, width = pictures.shape[-2:]
        multiple = model.size_divisibility
        images = (pictures.float() - model.pixel_mean) / model.pixel_std
        missing = (-height % multiple, -width % multiple)
        if missing != (0, 0):
            images = F.pad(images, (0, missing[1], 0, missing[0]))
        return images.contiguous(memory_format=torch.channels_last), (height, width)

    def _embeddings(self, sound: Tensor, seconds: int) -> Tensor:
        if self.sound == "embeddings":
            return sound
        if self.front_end is not None:
            sound = self.front_end(sound, seconds)
        encoder: Any = self.model.audio_encoder
        embedded: Tensor = encoder.embed(sound.flatten(0, 1)).unflatten(0, (-1, seconds))
        return embedded

    def _segment(
        self, maps: dict[str, Tensor], embeddings: Tensor, images: Tensor, crop: tuple[int, int]
    ) -> list[Tensor]:
        model: Any = self.model
        queries, position = model.query_generator.forward_whole_clips(embeddings)
        features = model.pixel_decoder(maps)
        output = model.query_decoder(queries, position, features, all_layers=False)[-1]
        masks, scores, classes = RULES[model.inference_rule](
            output.class_logits,
            output.mask_logits,
            (images.shape[-2], images.shape[-1]),
            crop,
            model.mask_threshold,
            model.num_sounding,
        )
        answers = [scores, masks]
        if model.num_sounding > 1:
            answers.append(torch.where(masks, classes + 1, 0))
        return [*answers, output.class_logits, output.mask_logits]

    def _segment_tpavi(
        self, maps: dict[str, Tensor], embeddings: Tensor, seconds: int, crop: tuple[int, int]
    ) -> list[Tensor]:
        model: Any = self.model
        output = model.decoder(maps, embeddings.flatten(0, 1), seconds)
        scores = output.mask_logits[..., : crop[0], : crop[1]].sigmoid()
        return [scores, scores > model.mask_threshold]
