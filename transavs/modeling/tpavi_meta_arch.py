"""TPAVI, the baseline that came with AVSBench, as a meta-architecture beside TransAVS."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from torch import Tensor

from transavs.audio import AudioEncoder, build_audio_encoder
from transavs.losses import audio_visual_matching_loss, frame_bce_loss, union_masks
from transavs.modeling.clip_batch import ClipBatch, ClipModel, Size
from transavs.modeling.inference import resize_logits
from transavs.modeling.tpavi import STAGES, TPAVIDecoder, TPAVIOutput
from transavs.structures import ClipAudio


@META_ARCH_REGISTRY.register()
class TPAVI(ClipModel):
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
        avm_cut_mask: whether that loss cuts the predicted mask at 0.5.
        freeze_backbone: no gradients in the backbone, running statistics kept.
        feature_folder: where a frozen backbone's features are kept; "" keeps none.
        mask_threshold: a pixel is foreground where its score is above.
        num_sounding: classes of the targets from this one on (the background) do not sound.
    """

    frame_by_frame = False

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        decoder: TPAVIDecoder,
        audio_encoder: AudioEncoder,
        pixel_mean: list[float],
        pixel_std: list[float],
        avm_weight: float = 0.0,
        avm_cut_mask: bool = False,
        freeze_backbone: bool = False,
        feature_folder: str = "",
        mask_threshold: float = 0.5,
        num_sounding: int = 1,
    ) -> None:
        divisibility = max(shape.stride for shape in backbone.output_shape().values())
        super().__init__(
            backbone, pixel_mean, pixel_std, divisibility, freeze_backbone, feature_folder
        )
        # The layout of the backbone's features, so that none is converted on the way.
        self.decoder = decoder.to(memory_format=torch.channels_last)
        self.audio_encoder = audio_encoder
        self.avm_weight = avm_weight
        self.avm_cut_mask = avm_cut_mask
        self.mask_threshold = mask_threshold
        self.num_sounding = num_sounding

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
            "avm_cut_mask": node.AVM_CUT_MASK,
            "freeze_backbone": cfg.MODEL.BACKBONE.FREEZE,
            "feature_folder": cfg.MODEL.BACKBONE.CACHE,
            "mask_threshold": cfg.MODEL.TRANSAVS.INFERENCE.MASK_THRESHOLD,
            "num_sounding": cfg.MODEL.TRANSAVS.NUM_CLASSES,
        }

    def forward(self, clips: list[dict[str, Any]], with_queries: bool = False) -> Any:
        """Returns the losses in training, otherwise the masks: see ``ClipModel.forward``."""
        results = []
        for batch in self.batches(clips):
            output = self.segment(batch.images, self.listen(batch, shown_only=True))
            if self.training:
                return self.losses(output, batch)
            results += self.postprocess(output, batch)
        return results

    def segment(self, images: Tensor, audio: ClipAudio) -> TPAVIOutput:
        maps = self.image_features(images)
        output: TPAVIOutput = self.decoder(maps, audio.of_frames(), audio.frames)
        return output

    def losses(self, output: TPAVIOutput, batch: ClipBatch) -> dict[str, Tensor]:
        """Returns the weighted losses of a batch."""
        masks = union_masks(batch.targets(), self.num_sounding)
        losses = {"loss_mask": frame_bce_loss(output.mask_logits, masks)}
        if self.avm_weight:
            matching = audio_visual_matching_loss(
                output.mask_logits, output.audio, output.visual, self.avm_cut_mask
            )
            losses["loss_avm"] = matching * self.avm_weight
        return losses

    def candidates(self, output: TPAVIOutput) -> tuple[Tensor]:
        return (output.mask_logits,)

    def rule(
        self, logits: tuple[Tensor, ...], padded: Size, size: Size, wanted: Size
    ) -> dict[str, Tensor]:
        scores = resize_logits(logits[0][None], padded, size, wanted)[0].sigmoid()
        return {"masks": scores > self.mask_threshold, "scores": scores}
