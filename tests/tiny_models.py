"""Configurations and clips small enough to train a step in a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from transavs.audio import AUDIO_ENCODER_REGISTRY, HTSAT
from transavs.config import setup_cfg

SECONDS = 5

#: A ResNet-50 of a sixteenth of the width, the small audio encoder, five queries.
TINY = (
    "MODEL.DEVICE", "cpu",
    "MODEL.WEIGHTS", "",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "16",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "4",
    "MODEL.AUDIO.NAME", "SmallVGGish",
    "MODEL.AUDIO.WEIGHTS", "",
    "MODEL.TRANSAVS.NUM_QUERIES", "5",
    "MODEL.TRANSAVS.HIDDEN_DIM", "32",
    "MODEL.TRANSAVS.NUM_HEADS", "4",
    "MODEL.TRANSAVS.FEEDFORWARD_DIM", "32",
    "MODEL.TRANSAVS.QUERY_ENCODER_LAYERS", "1",
    "MODEL.TRANSAVS.DECODER_LAYERS", "3",
    "MODEL.TRANSAVS.THRESHOLD_PERIOD", "2",
    "INPUT.MIN_SIZE_TRAIN", "(32,40)",
    "INPUT.MIN_SIZE_TEST", "32",
    "INPUT.CROP.SIZE", "[32,32]",
    "SOLVER.MAX_ITER", "6",
    "SOLVER.IMS_PER_BATCH", "2",
    "SOLVER.CHECKPOINT_PERIOD", "3",
    "SOLVER.BASE_LR", "0.001",
    "TEST.EVAL_PERIOD", "0",
    "TEST.PICTURE_PERIOD", "0",
    "DATALOADER.NUM_WORKERS", "0",
)  # fmt: skip

#: In place of the ResNet, a Swin of five blocks.
TINY_SWIN = (
    "MODEL.BACKBONE.NAME", "build_swin_backbone",
    "MODEL.SWIN.PRETRAIN_IMG_SIZE", "32",
    "MODEL.SWIN.EMBED_DIM", "8",
    "MODEL.SWIN.DEPTHS", "[1,1,2,1]",
    "MODEL.SWIN.NUM_HEADS", "[1,1,2,2]",
    "MODEL.SWIN.WINDOW_SIZE", "4",
)  # fmt: skip


class NarrowHTSAT(HTSAT):
    """HTS-AT of an eighth of the width."""

    def __init__(self) -> None:
        super().__init__(embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))


def register_narrow_htsat(monkeypatch: Any) -> tuple[str, str]:
    """Returns the options that name :class:`NarrowHTSAT`, which is known until the test ends."""
    monkeypatch.setitem(AUDIO_ENCODER_REGISTRY._obj_map, "NarrowHTSAT", NarrowHTSAT)
    return ("MODEL.AUDIO.NAME", "NarrowHTSAT")


def tiny_cfg(*opts: object, config: str = "s4_R50.yaml") -> CfgNode:
    """Returns a shipped configuration made tiny, with further ``KEY VALUE`` overrides."""
    return setup_cfg(config, [*TINY, *map(str, opts)])


def tiny_model(*opts: object) -> Any:
    """Returns the TransAVS of :func:`tiny_cfg` in training mode, the same for every call."""
    torch.manual_seed(0)
    return build_model(tiny_cfg(*opts)).train()


def random_clip(
    frame_height: int = 32,
    frame_width: int = 32,
    /,
    frames: int = SECONDS,
    seconds: int = SECONDS,
    masks: int | list[int] = 1,
    seed: int = 0,
    **extra: Any,
) -> dict[str, Any]:
    """Returns a clip as the training mapper makes it, of random pictures, sounds and masks.

    Args:
        frame_height, frame_width: in pixels.
        frames: how many; they show the first seconds.
        seconds: of sound.
        masks: true masks of each frame, or of all of them.
        seed: two clips with the same are equal.
        extra: further entries, such as the ``height`` of the wanted masks.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = [masks] * frames if isinstance(masks, int) else masks
    return {
        "frames": torch.randint(
            0, 256, (frames, 3, frame_height, frame_width), dtype=torch.uint8, generator=generator
        ),
        "frame_index": torch.arange(frames),
        "audio": torch.randn(seconds, 1, 96, 64, generator=generator),
        "target_masks": [
            torch.rand(count, frame_height, frame_width, generator=generator) > 0.5
            for count in counts
        ],
        "target_classes": [torch.zeros(count, dtype=torch.int64) for count in counts],
        **extra,
    }


def make_confident(model: Any) -> None:
    """Lets every query claim to sound, so that the query losses have pairs to act on."""
    with torch.no_grad():
        model.query_decoder.class_head.bias.copy_(torch.tensor([3.0, 0.0]))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
