"""TransAVS, the meta-architecture: the paper's Figure 2 in one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from transavs.audio import AudioEncoder, build_audio_encoder
from transavs.losses import (
    AudioVisualAlignmentLoss,
    SetCriterion,
    build_criterion,
    num_classes,
)
from transavs.modeling.clip_batch import ClipBatch, ClipModel, Size
from transavs.modeling.inference import RULES, non_void_queries, resize_logits
from transavs.modeling.pixel_decoder import build_pixel_decoder
from transavs.modeling.query_decoder import QueryDecoder
from transavs.modeling.query_generator import AudioQueryGenerator
from transavs.structures import ClipAudio, PixelFeatures, QueryOutput

#: Outputs of the decoder layers, the last one last, and what the pixel decoder gave.
Segmentation = tuple[list[QueryOutput], PixelFeatures]

# Statistics go to the event storage this often: each is a transfer from the device.
_LOG_PERIOD = 20


@META_ARCH_REGISTRY.register()
class TransAVS(ClipModel):
    """Audio-visual segmentation with audio queries (TransAVS, arXiv 2305.07223).

    Args:
        backbone: frames -> features at strides 4 to 32.
        pixel_decoder: features -> three maps and the per-pixel embedding.
        audio_encoder: examples, such as log-mels ``[S, 1, 96, 64]``, -> embeddings ``[S, D]``.
        query_generator: embeddings -> queries.
        query_decoder: queries and maps -> classes and masks.
        criterion: the losses.
        pixel_mean: per channel, in the order of the frames.
        pixel_std: likewise.
        size_divisibility: frames are padded to a multiple of this.
        deep_supervision: losses after every decoder layer.
        freeze_backbone: no gradients in the backbone, running statistics kept.
        feature_folder: where a frozen backbone's features are kept; "" keeps none.
        inference_rule: "argmax" or "semantic_sum".
        mask_threshold: of the inference rule.
        num_sounding: of the decoder's classes, the first that sound; None: all.
        agreement_loss: of sound and picture; None leaves it out.
        agreement_weight: its weight.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_decoder: nn.Module,
        audio_encoder: AudioEncoder,
        query_generator: AudioQueryGenerator,
        query_decoder: QueryDecoder,
        criterion: SetCriterion,
        pixel_mean: list[float],
        pixel_std: list[float],
        size_divisibility: int = 32,
        deep_supervision: bool = True,
        freeze_backbone: bool = False,
        feature_folder: str = "",
        inference_rule: str = "argmax",
        mask_threshold: float = 0.5,
        num_sounding: int | None = None,
        agreement_loss: AudioVisualAlignmentLoss | None = None,
        agreement_weight: float = 0.0,
    ) -> None:
        super().__init__(
            backbone, pixel_mean, pixel_std, size_divisibility, freeze_backbone, feature_folder
        )
        self.pixel_decoder = pixel_decoder
        self.audio_encoder = audio_encoder
        self.query_generator = query_generator
        self.query_decoder = query_decoder
        self.criterion = criterion
        self.deep_supervision = deep_supervision
        self.inference_rule = inference_rule
        self.mask_threshold = mask_threshold
        self.num_sounding = criterion.num_classes if num_sounding is None else num_sounding
        self.agreement_loss = agreement_loss
        self.agreement_weight = agreement_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.TRANSAVS
        backbone = build_backbone(cfg)
        audio_encoder = build_audio_encoder(cfg)
        agreement_loss = None
        if node.AGREEMENT_WEIGHT:
            agreement_loss = AudioVisualAlignmentLoss(audio_encoder.embedding_dim, node.HIDDEN_DIM)
        return {
            "backbone": backbone,
            "pixel_decoder": build_pixel_decoder(cfg, backbone.output_shape()),
            "audio_encoder": audio_encoder,
            "query_generator": AudioQueryGenerator(
                node.NUM_QUERIES,
                audio_encoder.embedding_dim,
                node.HIDDEN_DIM,
                node.NUM_HEADS,
                node.FEEDFORWARD_DIM,
                node.QUERY_ENCODER_LAYERS,
                context=node.AUDIO_CONTEXT,
                clip_seconds=cfg.INPUT.CLIP_SECONDS,
                window=node.AUDIO_WINDOW,
                learned_position=node.QUERY_POSITION == "learned",
                dropout=node.DROPOUT,
            ),
            "query_decoder": QueryDecoder(
                num_classes(cfg),
                node.HIDDEN_DIM,
                node.NUM_HEADS,
                node.FEEDFORWARD_DIM,
                node.DECODER_LAYERS,
                masked_attention=node.MASKED_ATTENTION,
                dropout=node.DROPOUT,
                head=node.HEAD,
            ),
            "criterion": build_criterion(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": node.SIZE_DIVISIBILITY,
            "deep_supervision": node.DEEP_SUPERVISION,
            "freeze_backbone": cfg.MODEL.BACKBONE.FREEZE,
            "feature_folder": cfg.MODEL.BACKBONE.CACHE,
            "inference_rule": node.INFERENCE.RULE,
            "mask_threshold": node.INFERENCE.MASK_THRESHOLD,
            "num_sounding": node.NUM_CLASSES,
            "agreement_loss": agreement_loss,
            "agreement_weight": node.AGREEMENT_WEIGHT,
        }

    def forward(self, clips: list[dict[str, Any]], with_queries: bool = False) -> Any:
        """Returns the losses in training, otherwise the masks: see ``ClipModel.forward``."""
        results = []
        for batch in self.batches(clips):
            audio = self.listen(batch)
            output = self.segment(batch.images, audio)
            if self.training:
                return self.losses(output, audio, batch)
            queries = output[0][-1] if with_queries else None
            results += self.postprocess(output, batch, queries)
        return results

    def segment(self, images: Tensor, audio: ClipAudio) -> Segmentation:
        maps = self.image_features(images)
        queries, position = self.query_generator(audio.embeddings, audio.clip, audio.second)
        features = self.pixel_decoder(maps)
        all_layers = self.training and self.deep_supervision
        outputs = self.query_decoder(queries, position, features, all_layers=all_layers)
        return outputs, features

    def losses(self, output: Segmentation, audio: ClipAudio, batch: ClipBatch) -> dict[str, Tensor]:
        """Returns the weighted losses of a batch, and logs what the queries do."""
        (outputs, features), targets = output, batch.targets()
        # delta of Eq. (18) follows the trainer's iteration, which resuming restores.
        storage = get_event_storage() if has_event_storage() else None
        iteration = storage.iter if storage else 0
        losses, statistics = self.criterion(outputs, targets, iteration)
        if storage and iteration % _LOG_PERIOD == 0:
            alike = self.criterion.homogeneity(outputs[-1], iteration)
            if alike["pairs"]:
                for name in ("cosine", "overlap"):
                    statistics[name] = alike[name] / alike["pairs"]
            for name, value in statistics.items():
                storage.put_scalar(f"queries/{name}", float(value), smoothing_hint=False)
        if self.agreement_loss is not None:
            alignment = self.agreement_loss(
                audio.of_frames(), features.mask_features, targets, self.num_sounding
            )
            losses["loss_agreement"] = alignment * self.agreement_weight
        return losses

    def candidates(self, output: Segmentation) -> tuple[Tensor, Tensor]:
        last = output[0][-1]
        if self.inference_rule == "argmax":
            return non_void_queries(last.class_logits, last.mask_logits)
        return last.class_logits, last.mask_logits

    def rule(
        self, logits: tuple[Tensor, ...], padded: Size, size: Size, wanted: Size
    ) -> dict[str, Tensor]:
        """Eq. (14) and (15): see ``transavs/modeling/inference.py``."""
        class_logits, mask_logits = logits
        resized = resize_logits(mask_logits, padded, size, wanted)
        found = RULES[self.inference_rule](
            class_logits, resized, self.mask_threshold, self.num_sounding
        )
        result = {"masks": found.masks, "scores": found.scores}
        if self.num_sounding > 1:
            result["class_maps"] = torch.where(found.masks, found.classes + 1, 0)
        return result
