"""Trains and asks models on the pretended device and on the CPU, and prints both as JSON.

A process of its own, started by ``test_devices.py``: ``python on_pretended_device.py FOLDER``.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

import pretended_device
import tiny_models
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from pretended_device import NAME, WAITS, PretendedDevice

from transavs.audio import AUDIO_ENCODER_REGISTRY
from transavs.engine.nonfinite import NonFiniteWatch
from transavs.engine.optimizer import build_optimizer
from transavs.engine.query_watch import QueryWatch
from transavs.engine.steps import MixedPrecisionSteps, TrainingSteps
from transavs.engine.trained_model import predict_clips
from transavs.evaluation import AVSEvaluator

SCALED, FAULTY = "losses scaled as for fp16", "a clip that is not finite"
TPAVI = ("MODEL.META_ARCHITECTURE", "TPAVI", "MODEL.TPAVI.CHANNELS", 8)
MODELS: dict[str, tuple[object, ...]] = {
    "paper": (),
    SCALED: (),
    FAULTY: (),
    "masked attention": ("MODEL.TRANSAVS.MASKED_ATTENTION", True),
    "deformable": ("MODEL.PIXEL_DECODER.NAME", "MSDeformAttnPixelDecoder"),
    "background, agreement, mask cross-entropy": (
        "MODEL.TRANSAVS.BACKGROUND_TARGET", True, "MODEL.TRANSAVS.AGREEMENT_WEIGHT", 1.0,
        "MODEL.TRANSAVS.TARGETS", "union", "MODEL.TRANSAVS.MASK_BCE_WEIGHT", 5.0,
    ),
    "own second": ("MODEL.TRANSAVS.AUDIO_CONTEXT", "second"),
    "three seconds": (
        "MODEL.TRANSAVS.AUDIO_CONTEXT", "window", "MODEL.TRANSAVS.AUDIO_WINDOW", 3,
    ),
    "several classes": (
        "MODEL.TRANSAVS.NUM_CLASSES", 3, "MODEL.TRANSAVS.INFERENCE.RULE", "semantic_sum",
    ),
    "Swin": tiny_models.TINY_SWIN,
    "timm, frozen": (
        "MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "mobilenetv3_small_050",
        "MODEL.BACKBONE.FREEZE", True,
    ),
    "HTS-AT": ("MODEL.AUDIO.NAME", "NarrowHTSAT"),
    "without sound": ("MODEL.AUDIO.NAME", "NoAudio"),
    "TPAVI": (*TPAVI, "MODEL.TPAVI.AVM_WEIGHT", 0.5),
}  # fmt: skip


STEPS, SECONDS = 2, tiny_models.SECONDS


def clips(model: Any, training: bool) -> list[dict[str, Any]]:
    found = [tiny_models.random_clip(64, 64, seed=seed, clip_id=f"clip_{seed}") for seed in (1, 2)]
    for clip in found:
        front_end = model.audio_encoder.front_end
        noise = torch.randn(SECONDS * front_end.sample_rate_hz, generator=torch.Generator())
        clip["audio"] = front_end.clip_examples(0.1 * noise, SECONDS)
        if not training:
            masks, _ = clip.pop("target_masks"), clip.pop("target_classes")
            clip["union_masks"] = torch.cat(masks)
            clip["labelled"] = torch.ones(len(masks), dtype=torch.bool)
    return found


def build(options: tuple[object, ...], device: str) -> tuple[Any, CfgNode]:
    """The same weights on any device."""
    cfg = tiny_models.tiny_cfg(*options)
    torch.manual_seed(0)
    model: Any = build_model(cfg)
    if hasattr(model, "query_decoder"):
        with torch.no_grad():
            model.query_decoder.class_head.bias[0] += 3.0
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    return model.to(device), cfg


def train(name: str, device: str) -> dict[str, Any]:
    """Losses of some steps, sums of the weights behind them, and waits of the last one.

    For ``SCALED`` the pretended device scales losses as for fp16; autocast changes nothing there.
    For ``FAULTY`` the last step is left out.
    """
    model, cfg = build(MODELS[name], device)
    model.train()
    watch = NonFiniteWatch("skip" if name == FAULTY else "stop", 1)
    batches = [clips(model, True) for _ in range(STEPS)]
    if name == FAULTY:
        batches[-1][1]["audio"][0] = 1e38  # overflows in the encoder
    parts = (model, batches, build_optimizer(cfg, model), watch)
    if name == SCALED and device == NAME:
        steps: TrainingSteps = MixedPrecisionSteps(*parts, device=device, precision="fp16")
    else:
        steps = TrainingSteps(*parts)
    with EventStorage() as storage:
        for iteration in range(STEPS):
            steps.iter = storage.iter = iteration
            WAITS.clear()
            steps.run_step()
            waits = dict(WAITS)
        steps.state_dict()
    losses = {
        name: [value for value, _ in history.values()]
        for name, history in storage.histories().items()
        if "loss" in name
    }
    weights = {name: float(value.double().sum()) for name, value in model.named_parameters()}
    return {"losses": losses, "weights": weights, "waits": waits, "skipped": watch.skipped}


def ask(options: tuple[object, ...], device: str) -> dict[str, Any]:
    """Scores of the evaluation, how alike queries are, and waits of the model and the scoring."""
    model, _ = build(options, device)
    model.eval()
    asked = clips(model, False)
    evaluator = AVSEvaluator(clip_order=[clip["clip_id"] for clip in asked])
    evaluator.reset()
    with torch.no_grad():
        WAITS.clear()
        answers = model(asked)
        waits = dict(WAITS)
        WAITS.clear()
        evaluator.process(asked, answers)
        scoring = dict(WAITS)
        queries = QueryWatch(model, 0.5)
        queries(asked)
        noted = predict_clips(model, asked, most_queries=5)
    sums = [float(answer[name].double().sum()) for answer in answers for name in sorted(answer)]
    for frame in (frame for answer in noted for frame in answer.queries or []):
        sums += [*frame.confidence, *map(float, frame.sounds), float(frame.pixels.sum())]
    return {
        "scores": evaluator.evaluate()["avs"] | queries.scores(), "sums": sums, "waits": waits,
        "scoring": scoring,
    }  # fmt: skip


def both(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, options in MODELS.items():
        try:
            trained = train(name, device)
            found[name] = {"train": trained, "ask": ask(options, device)}
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    return found


def main() -> None:
    AUDIO_ENCODER_REGISTRY._obj_map["NarrowHTSAT"] = tiny_models.NarrowHTSAT
    pretended_device.register()
    found = {"cpu": both("cpu")}
    with PretendedDevice():
        found[NAME] = both(NAME)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
