"""A model simple enough to know its scores by hand, and a tree of clips to ask it about.

``ListeningModel`` marks the dog of ``avsbench_trees.object_map`` in every second that is not
silent, whatever sounds. It has a query decoder like TransAVS: query 0 holds the dog, query 1 the
cow (with 30 % confidence, so never marked), query 2 nothing. Queries 0 and 1 are 45 degrees apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import avsbench_trees
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from transavs.audio import SILENCE_LOG_MEL
from transavs.modeling.inference import argmax_rule, resize_logits
from transavs.structures import QueryOutput

# Multiples of 16, so that the objects' edges fall between cells of stride 4.
SIZE = (32, 32)
CLIPS = ("loud_a", "loud_b", "quiet")
# Pixels of each object, and of the model's mask: resizing rounds its four corners off.
OBJECT_PIXELS = 16 * 12
MARKED_PIXELS = OBJECT_PIXELS - 4
MARKED_SHARE = MARKED_PIXELS / (SIZE[0] * SIZE[1])
# Of a loud clip against its ground truth: dog, dog, dog and cow, cow, nothing.
LOUD_JACCARD = (
    MARKED_PIXELS / OBJECT_PIXELS,
    MARKED_PIXELS / OBJECT_PIXELS,
    MARKED_PIXELS / (2 * OBJECT_PIXELS),
    0.0,
    1.0 - MARKED_SHARE,
)
QUIET_JACCARD = (0.0, 0.0, 0.0, 0.0, 1.0)
QUERIES = ((1.0, 0.0), (1.0, 1.0), (0.0, 0.0))


class FixedQueries(nn.Module):
    """The query decoder: masks of fixed places, believed where it is loud."""

    def __init__(self) -> None:
        super().__init__()
        labels = torch.from_numpy(avsbench_trees.object_map(SIZE))[::4, ::4]
        masks = torch.stack([labels == 1, labels == 2, labels > 2])
        self.mask_logits = nn.Parameter(masks * 20.0 - 10.0)

    def forward(self, loud: Tensor) -> list[QueryOutput]:
        frames = len(loud)
        confidence = torch.full((frames, 3), 0.1)
        confidence[:, 1] = 0.3
        confidence[loud, 0] = 0.9
        class_logits = torch.stack([confidence, 1 - confidence], dim=-1).log()
        mask_logits = self.mask_logits.expand(frames, -1, -1, -1)
        queries = torch.tensor(QUERIES).expand(frames, -1, -1)
        return [QueryOutput(queries, class_logits, mask_logits)]


class Criterion(nn.Module):
    """What is asked of the criterion in evaluation."""

    def confidence(self, output: QueryOutput) -> Tensor:
        return output.class_logits.softmax(-1)[..., 0]


@META_ARCH_REGISTRY.register()
class ListeningModel(nn.Module):
    num_sounding = 1

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.query_decoder = FixedQueries()
        self.criterion = Criterion()

    def forward(self, clips: list[dict[str, Any]], with_queries: bool = False) -> list[Any]:
        results = []
        for clip in clips:
            loud = clip["audio"].flatten(1).mean(1) > SILENCE_LOG_MEL + 0.01
            output = self.query_decoder(loud)[-1]
            size = (int(clip["height"]), int(clip["width"]))
            logits = resize_logits(output.mask_logits, SIZE, SIZE, size)
            found = argmax_rule(output.class_logits, logits, 0.5, 1)
            result = {"masks": found.masks, "scores": found.scores}
            results.append(result | ({"queries": output} if with_queries else {}))
        return results


def write_clips(root: Path, names: tuple[str, ...] = CLIPS) -> Path:
    """Writes the demo's MS3 with ``names`` as its test clips; "quiet" has a silent wav.

    S4 beside it has one clip, of a bird, which lends its sound.
    """
    folder = root / "transavs_demo" / "Multi-sources"
    avsbench_trees.write_ms3(folder, {"test": names}, SIZE)
    folders = {name: ("test", f"test/{name}") for name in names}
    avsbench_trees.write_objects(folder / "ms3_data", folders, SIZE)
    for name in set(names) & {"quiet"}:
        wav = folder / "ms3_data" / "audio_wav" / "test" / f"{name}.wav"
        avsbench_trees.write_wav(wav, np.zeros(80000))
    lender = folder.with_name("Single-source")
    avsbench_trees.write_s4(lender, {"test": [("bird", "sings")]}, SIZE)
    place = {"bird/sings": ("test", "test/bird/sings")}
    avsbench_trees.write_objects(lender / "s4_data", place, SIZE, ("bird", "crow"))
    return root


def write_config(folder: Path) -> Path:
    """Writes a configuration of the model and, beside it, its weights as ``model.pth``."""
    path = folder / "config.yaml"
    path.write_text(
        "MODEL:\n  META_ARCHITECTURE: ListeningModel\n  DEVICE: cpu\n  WEIGHTS: ''\n"
        f"INPUT:\n  FORMAT: RGB\n  MIN_SIZE_TEST: {SIZE[0]}\n"
        "DATASETS:\n  TEST: ('demo_ms3_test',)\nDATALOADER:\n  NUM_WORKERS: 0\nVERSION: 2\n"
    )
    torch.save({"model": ListeningModel(None).state_dict()}, folder / "model.pth")
    return path


def write_options(folder: Path) -> list[str]:
    """Writes the same, and returns the options by which commands take the model."""
    config = write_config(folder)
    return ["--config-file", str(config), "--weights", str(folder / "model.pth")]
