"""TPAVI, the baseline that came with AVSBench, as a meta-architecture beside TransAVS."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from transavs.audio import build_audio_encoder
from transavs.losses import audio_visual_matching_loss, frame_bce_loss, union_masks
from transavs.modeling.clip_checks import check_clips, frame_seconds
from transavs.modeling.clip_frames import batch_frames
from transavs.modeling.inference import resize_logits
from transavs.modeling.tpavi import STAGES, TPAVIDecoder, TPAVIOutput
from transavs.structures import FrameTargets


@META_ARCH_REGISTRY.register()
class TPAVI(nn.Module):
    """The baseline of "Audio-Visual Segmentation" (arXiv 2207.05042), written from its description.

    It takes the clips of TransAVS and gives the same answers. Its attention runs over the frames
    that a clip is given with, and the sound of their seconds. In evaluation these are all T of
    them. In training the mapper gives the labelled ones: all in MS3; in S4 one, which then attends
    to itself, where the official code runs all five and takes the loss on the first. The attention
    is a mean over places and seconds, so that its scale does not depend on their number.

    Clips of different sizes in a training batch are padded to the largest, as in TransAVS: padding
    has the mean colour, takes part in attention and batch norm, and is background to the loss. In
    evaluation such clips are fed one by one. The recipe has one size, where neither happens.

    Two layers of the official network are missing, because no step of it uses them: a second copy
    of the last two stages of its ResNet, and the coarsest stage's first residual unit.

    Args:
        backbone: frames -> features res2 to res5 at strides 4 to 32.
        decoder: features and audio embeddings -> one mask a frame.
        audio_encoder: log-mel examples ``[S, 1, 96, 64]`` -> embeddings ``[S, D]``.
        pixel_mean: per channel, in the order of the frames.
        pixel_std: likewise.
        avm_weight: of the audio-visual matching loss; 0 leaves it out.
        freeze_backbone: no gradients in the backbone, running statistics kept.
        mask_threshold: a pixel is foreground where its score is above.
        num_sounding: classes of the targets from this one on (the background) do not sound.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        decoder: TPAVIDecoder,
        audio_encoder: nn.Module,
        pixel_mean: list[float],
        pixel_std: list[float],
        avm_weight: float = 0.0,
        freeze_backbone: bool = False,
        mask_threshold: float = 0.5,
        num_sounding: int = 1,
    ) -> None:
        super().__init__()
        # As in TransAVS; the decoder follows, so that no layout is converted on the way.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.decoder = decoder.to(memory_format=torch.channels_last)
        self.audio_encoder = audio_encoder
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.size_divisibility = max(shape.stride for shape in backbone.output_shape().values())
        self.avm_weight = avm_weight
        self.freeze_backbone = freeze_backbone
        self.mask_threshold = mask_threshold
        self.num_sounding = num_sounding
        if freeze_backbone:
            self.backbone.requires_grad_(False).eval()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.TPAVI
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        missing = [stage for stage in STAGES if stage not in shapes]
        if missing:
            raise ValueError(
                f"TPAVI reads the features {', '.join(STAGES)}, but the backbone "
                f"{cfg.MODEL.BACKBONE.NAME} gives {', '.join(shapes)}; for a ResNet set "
                f"MODEL.RESNETS.OUT_FEATURES to {list(STAGES)}"
            )
        audio_encoder = build_audio_encoder(cfg)
        return {
            "backbone": backbone,
            "decoder": TPAVIDecoder(
                [shapes[stage].channels for stage in STAGES],
                audio_encoder.embedding_dim,
                node.CHANNELS,
                node.STAGES,
                node.NORM,
            ),
            "audio_encoder": audio_encoder,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "avm_weight": node.AVM_WEIGHT,
            "freeze_backbone": cfg.MODEL.BACKBONE.FREEZE,
            "mask_threshold": cfg.MODEL.TRANSAVS.INFERENCE.MASK_THRESHOLD,
            "num_sounding": cfg.MODEL.TRANSAVS.NUM_CLASSES,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> TPAVI:
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(self, clips: list[dict[str, Any]]) -> Any:
        """Segments the sounding objects of B clips.

        Args:
            clips: as :class:`transavs.modeling.TransAVS` takes them.

        Returns:
            In training a dict of weighted losses: ``loss_mask``, and ``loss_avm`` where it has a
            weight. In evaluation, for each clip,
            ``{"masks": bool [F, height, width], "scores": float32 [F, height, width]}``.
        """
        check_clips(clips, self.training)
        if not self.training and len({clip["frames"].shape[-2:] for clip in clips}) > 1:
            # Padding would reach the norms and the attention: no answer may depend on neighbours.
            return [self([clip])[0] for clip in clips]
        seconds = [frame_seconds(clip) for clip in clips]
        images, sizes = batch_frames(clips, self.pixel_mean, self.pixel_std, self.size_divisibility)
        output = self._predict(images, clips, seconds)
        if self.training:
            return self._losses(output, clips)
        return self._postprocess(output.mask_logits, clips, sizes)

    def _predict(
        self, images: Tensor, clips: list[dict[str, Any]], seconds: list[Tensor]
    ) -> TPAVIOutput:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_backbone):
            maps = self.backbone(images)
        # Only the seconds that a frame shows.
        examples = torch.cat([clip["audio"][own] for clip, own in zip(clips, seconds, strict=True)])
        embeddings = self.audio_encoder(examples.to(self.device, non_blocking=True))
        output: TPAVIOutput = self.decoder(maps, embeddings, [len(own) for own in seconds])
        return output

    def _losses(self, output: TPAVIOutput, clips: list[dict[str, Any]]) -> dict[str, Tensor]:
        targets = FrameTargets.pack(
            [mask for clip in clips for mask in clip["target_masks"]],
            [label for clip in clips for label in clip["target_classes"]],
            (output.mask_logits.shape[-2], output.mask_logits.shape[-1]),
            self.device,
        )
        masks = union_masks(targets, self.num_sounding)
        losses = {"loss_mask": frame_bce_loss(output.mask_logits, masks)}
        if self.avm_weight:
            matching = audio_visual_matching_loss(output.mask_logits, output.audio, output.visual)
            losses["loss_avm"] = matching * self.avm_weight
        return losses

    def _postprocess(
        self, mask_logits: Tensor, clips: list[dict[str, Any]], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        padded = (mask_logits.shape[-2], mask_logits.shape[-1])
        results = []
        lengths = [len(clip["frames"]) for clip in clips]
        for clip, size, logits in zip(clips, sizes, mask_logits.split(lengths), strict=True):
            wanted = (int(clip.get("height", size[0])), int(clip.get("width", size[1])))
            scores = resize_logits(logits, padded, size, wanted).sigmoid()
            results.append({"masks": scores > self.mask_threshold, "scores": scores})
        return results
