"""Clips with a model's answers, and their scores by the evaluator."""

from __future__ import annotations

import torch

from transavs.evaluation import AVSEvaluator

TOP_ROW = torch.tensor([[[1, 1], [0, 0]]]).bool()
SCORES_A = torch.tensor([[[0.3, 0.3], [0.1, 0.1]]])
SCORES_B = torch.tensor([[[0.9, 0.9], [0.5, 0.5]]])


def make_pair(clip_id, scores, union_masks, labelled=None, masks=None):
    """A clip dict of the evaluation mapper and the model's output for it."""
    if labelled is None:
        labelled = torch.ones(len(scores), dtype=torch.bool)
    clip = {"clip_id": clip_id, "union_masks": union_masks, "labelled": labelled}
    return clip, {"masks": scores > 0.5 if masks is None else masks, "scores": scores}


def random_pairs(count, frames=3, seed=0):
    """Clips of different difficulty and size; about a quarter of the frames are empty."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(count):
        size = (frames, 6 + index % 3, 8)
        targets = torch.rand(size, generator=generator) < 0.4
        targets &= (torch.rand(frames, generator=generator) < 0.75)[:, None, None]
        noise = torch.rand(size, generator=generator)
        weight = float(torch.rand((), generator=generator))
        scores = (1 - weight) * noise + weight * targets.float()
        pairs.append(make_pair(f"clip_{index:02d}", scores, targets))
    return pairs


def class_pairs(count, seed=0, classes=5, lengths=(5, 10)):
    """Clips with class maps, of two lengths, of which some frames have no label."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(count):
        size = (lengths[index % 2], 4, 6)
        truth = torch.randint(0, classes, size, generator=generator)
        noise = torch.randint(0, classes, size, generator=generator)
        found = torch.where(torch.rand(size, generator=generator) < 0.5, truth, noise)
        labelled = torch.rand(size[0], generator=generator) < 0.8
        clip, output = make_pair(f"clip_{index:02d}", (found > 0).float(), truth > 0, labelled)
        clip["class_maps"], output["class_maps"] = truth.to(torch.uint8), found
        pairs.append((clip, output))
    return pairs


CLASS_ARGUMENTS = {"num_classes": 5, "longest_clip": 10}


def evaluate(pairs, batch=1, **kwargs):
    evaluator = AVSEvaluator(**kwargs)
    evaluator.reset()
    for start in range(0, len(pairs), batch):
        inputs, outputs = zip(*pairs[start : start + batch], strict=True)
        evaluator.process(list(inputs), list(outputs))
    return evaluator.evaluate()["avs"]
