"""An exported file in the place of a model: it answers clips, so that any evaluator can ask it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transavs.engine.export.runtime import ExportedModel
from transavs.modeling.inference import resize_logits


class ExportedClipModel(nn.Module):
    """Answers clips as the model did that was exported, in evaluation alone.

    Args:
        exported: takes examples, not waveforms: those are what a mapper gives.
        image_format: of the clips' frames.

    Raises:
        ValueError: an exported model that hears something else.
    """

    def __init__(self, exported: ExportedModel, image_format: str) -> None:
        super().__init__()
        if exported.sound != "examples":
            raise ValueError(
                f"evaluating needs a model that was exported with --sound examples, got "
                f"{exported.sound!r}"
            )
        self.exported = exported
        self.image_format = image_format
        self.eval()

    def forward(self, clips: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Returns ``masks`` bool and ``scores`` float32 ``[F, height, width]`` of each clip."""
        return [self._answer(clip) for clip in clips]

    def _answer(self, clip: dict[str, Any]) -> dict[str, Tensor]:
        frames = clip["frames"]
        if self.image_format == "BGR":
            frames = frames.flip(1)
        found = self.exported(
            np.ascontiguousarray(frames[None].numpy()), clip["audio"][None].contiguous().numpy()
        )
        size = (frames.shape[-2], frames.shape[-1])
        wanted = (int(clip.get("height", size[0])), int(clip.get("width", size[1])))
        scores = torch.from_numpy(found["scores"][0])
        masks = torch.from_numpy(found["masks"][0])
        if wanted != size:
            scores = resize_logits(scores, size, size, wanted)
            masks = resize_logits(masks.float(), size, size, wanted) > 0.5
        return {"masks": masks, "scores": scores}
