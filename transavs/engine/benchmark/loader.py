"""Cost of reading a clip: decode, augment, log-mel."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from transavs.data import AVSDatasetMapper
from transavs.data.audio_files import read_wav_examples
from transavs.data.image_files import read_frame
from transavs.engine.benchmark.clips import labelled_seconds, write_clip_files
from transavs.engine.benchmark.clock import Clock, measure_in_turn


def measure_loader(
    cfg: CfgNode, size: tuple[int, int], clock: Clock, repeats: int
) -> dict[str, Any]:
    """Returns the seconds that a clip costs before the model sees it, on one core.

    The clip is drawn and written to a temporary folder: frames as PNG, a mask for each labelled
    second, a wav file. It goes through the mapper of the configuration, for training (labelled
    frames, augmented) and for evaluation (all of them); targets are unions.

    Args:
        cfg: of the mapper.
        size: (H, W) of the files.
        clock: reads the time.
        repeats: of each part, in turn.

    Returns:
        ``train_clip`` and ``test_clip``, seconds of the mapper's whole work, and of its parts
        ``decode_frame`` (one) and ``sound`` (reading and log-mel of all seconds).
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.TRANSAVS.TARGETS, cfg.INPUT.AUDIO_SOURCE = "union", "wav"
    cfg.INPUT.NEGATIVE_AUDIO.SHARE = 0.0  # needs the sounds of a data set
    seconds = int(cfg.INPUT.CLIP_SECONDS)
    training, test = AVSDatasetMapper(cfg, is_train=True), AVSDatasetMapper(cfg, is_train=False)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        record = write_clip_files(folder, seconds, labelled_seconds(cfg), size)
        frame, sound = record["file_names"][0], record["audio_file"]

        def anew(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                os.utime(sound)  # a changed file: its examples are not remembered
                call()

            return run

        calls = {
            "train_clip": anew(lambda: training(record, rng)),
            "test_clip": anew(lambda: test(record, rng)),
            "decode_frame": lambda: read_frame(frame, cfg.INPUT.FORMAT),
            "sound": anew(lambda: read_wav_examples(sound, seconds)),
        }
        measured = measure_in_turn(calls, clock, repeats)
    return {name: statistics.median(values) for name, values in measured.items()}
