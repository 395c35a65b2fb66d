"""Cost of a clip outside of the model: decode, augment, log-mel; scoring in evaluation."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from transavs.audio import build_front_end
from transavs.audio.embedding_store import entry_name, write_store
from transavs.data import AVSDatasetMapper
from transavs.engine.benchmark.clips import labelled_seconds, write_clip_files
from transavs.engine.benchmark.clock import Clock, measure_in_turn
from transavs.evaluation import score_clip
from transavs.utils.image_files import read_frame

#: Width of the cached features, VGGish's.
_FEATURES = 128


def measure_loader(
    cfg: CfgNode, size: tuple[int, int], clock: Clock, repeats: int
) -> dict[str, Any]:
    """Returns the seconds that a clip costs before and behind the model, on one core.

    The clip is drawn and written to a temporary folder: frames as PNG, a mask for each labelled
    second, a wav file. It goes through the mapper of the configuration, for training (labelled
    frames, augmented) and for evaluation (all of them); targets are unions. The same is measured
    with audio features out of ``INPUT.AUDIO_EMBEDDINGS`` in the place of the wav file.

    Args:
        cfg: of the mapper.
        size: (H, W) of the files.
        clock: reads the time.
        repeats: of each part, in turn.

    Returns:
        ``train_clip`` and ``test_clip``, seconds of the mapper's whole work, of its parts
        ``decode_frame`` (one) and ``sound`` (reading the file, and the front-end's examples of all
        seconds); ``train_clip_cached_sound``, ``test_clip_cached_sound`` and ``cached_sound``, the
        same with cached audio features when a process meets the file first, which is then hashed,
        and ``cached_sound_again``; ``score_clip``, of the evaluator's on all frames.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.TRANSAVS.TARGETS, cfg.INPUT.AUDIO_SOURCE = "union", "wav"
    cfg.INPUT.NEGATIVE_AUDIO.SHARE = 0.0  # needs the sounds of a data set
    cfg.INPUT.AUDIO_EMBEDDINGS = ""
    seconds = int(cfg.INPUT.CLIP_SECONDS)
    training, test = AVSDatasetMapper(cfg, is_train=True), AVSDatasetMapper(cfg, is_train=False)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        record = write_clip_files(folder, seconds, size)
        cfg.INPUT.AUDIO_EMBEDDINGS = _write_features(cfg, folder, record)
        cached_training = AVSDatasetMapper(cfg, is_train=True)
        cached_test = AVSDatasetMapper(cfg, is_train=False)
        frame, sound = record["file_names"][0], record["audio_file"]
        masks = record["mask_file_names"]
        labelled = labelled_seconds(cfg)
        # As the data set has it: test clips are labelled throughout, training clips perhaps not.
        masks = [mask if second in labelled else None for second, mask in enumerate(masks)]
        train_record = {**record, "mask_file_names": masks}
        answered = test(record, rng)
        scores = torch.rand(answered["union_masks"].shape)
        answer = {"masks": scores > 0.5, "scores": scores}

        def anew(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                os.utime(sound)  # a changed file: neither examples nor hash are remembered
                call()

            return run

        calls = {
            "train_clip": anew(lambda: training(train_record, rng)),
            "test_clip": anew(lambda: test(record, rng)),
            "decode_frame": lambda: read_frame(frame, cfg.INPUT.FORMAT),
            "sound": anew(lambda: test.audio.read(record)),
            "train_clip_cached_sound": anew(lambda: cached_training(train_record, rng)),
            "test_clip_cached_sound": anew(lambda: cached_test(record, rng)),
            "cached_sound": anew(lambda: cached_test.audio.read(record)),
            "cached_sound_again": lambda: cached_test.audio.read(record),
            "score_clip": lambda: score_clip(answered, answer),
        }
        measured = measure_in_turn(calls, clock, repeats)
    return {name: statistics.median(values) for name, values in measured.items()}


def _write_features(cfg: CfgNode, folder: str, record: dict[str, Any]) -> str:
    """Writes audio features of a record, as ``INPUT.AUDIO_EMBEDDINGS`` reads them; their file."""
    seconds = len(record["file_names"])
    path = os.path.join(folder, "features.safetensors")
    features = {entry_name(record["audio_file"], seconds): torch.zeros(seconds, _FEATURES)}
    write_store(path, features, f"measured; {build_front_end(cfg).version}")
    return path
