"""Time that a clip costs outside of the model: decoding, augmenting, log-mel, scoring."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import soundfile
import torch
from detectron2.config import CfgNode

from transavs.apps.benchmark.measure import Conditions, Record
from transavs.apps.benchmark.training import labelled_seconds
from transavs.audio import build_front_end
from transavs.audio.embedding_store import entry_name, write_store
from transavs.audio.waveform import SAMPLE_RATE_HZ
from transavs.data import AVSDatasetMapper
from transavs.evaluation import score_clip
from transavs.utils.image_files import read_frame
from transavs.utils.timing import measure_in_turn

#: Channels of the cached audio features, VGGish's.
_FEATURES = 128


def measure_loader(cfg: CfgNode, conditions: Conditions) -> Record:
    """Returns the seconds that a clip costs before and behind the model, on one core.

    The clip is drawn and written to a temporary folder. It goes through the mapper of the
    configuration, for training (labelled frames, augmented) and for evaluation (all frames);
    targets are unions.

    Returns:
        ``train_clip`` and ``test_clip``, of the mapper's whole work, and of its parts
        ``decode_frame`` (one) and ``sound`` (reading the file, and the log-mel of all seconds);
        ``train_clip_cached_sound``, ``test_clip_cached_sound`` and ``cached_sound``, the same with
        audio features out of ``INPUT.AUDIO_EMBEDDINGS`` when a process meets the wav file first,
        which is then hashed, and ``cached_sound_again``; ``score_clip``, of the evaluator's on all
        frames.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.TRANSAVS.TARGETS, cfg.INPUT.AUDIO_SOURCE = "union", "wav"
    cfg.INPUT.NEGATIVE_AUDIO.SHARE = 0.0  # it needs the audio of a whole data set
    cfg.INPUT.AUDIO_EMBEDDINGS = ""
    seconds = int(cfg.INPUT.CLIP_SECONDS)
    training, test = AVSDatasetMapper(cfg, is_train=True), AVSDatasetMapper(cfg, is_train=False)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        record = write_clip_files(folder, seconds, conditions.size)
        audio_file = record["audio_file"]
        features = {entry_name(audio_file, seconds): torch.zeros(seconds, _FEATURES)}
        cfg.INPUT.AUDIO_EMBEDDINGS = os.path.join(folder, "features.safetensors")
        version = f"measured; {build_front_end(cfg).version}"
        write_store(cfg.INPUT.AUDIO_EMBEDDINGS, features, version)
        cached_training = AVSDatasetMapper(cfg, is_train=True)
        cached_test = AVSDatasetMapper(cfg, is_train=False)
        # As the data set has it: test clips are labelled throughout, training clips perhaps not.
        labelled = labelled_seconds(cfg)
        masks = list(record["mask_file_names"])
        masks = [mask if second in labelled else None for second, mask in enumerate(masks)]
        train_record = {**record, "mask_file_names": masks}
        clip = test(record, rng)
        scores = torch.rand(clip["union_masks"].shape)
        prediction = {"masks": scores > 0.5, "scores": scores}

        def anew(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                os.utime(audio_file)  # a changed file: neither log-mel nor hash are remembered
                call()

            return run

        calls = {
            "train_clip": anew(lambda: training(train_record, rng)),
            "test_clip": anew(lambda: test(record, rng)),
            "decode_frame": lambda: read_frame(record["file_names"][0], cfg.INPUT.FORMAT),
            "sound": anew(lambda: test.audio.read(record)),
            "train_clip_cached_sound": anew(lambda: cached_training(train_record, rng)),
            "test_clip_cached_sound": anew(lambda: cached_test(record, rng)),
            "cached_sound": anew(lambda: cached_test.audio.read(record)),
            "cached_sound_again": lambda: cached_test.audio.read(record),
            "score_clip": lambda: score_clip(clip, prediction),
        }
        measured = measure_in_turn(calls, conditions.timer, conditions.repeats)
    return {name: statistics.median(values) for name, values in measured.items()}


def write_clip_files(folder: str, seconds: int, size: tuple[int, int]) -> dict[str, Any]:
    """Writes the files of one clip, drawn at random, and returns its record.

    Frames of ``size`` (H, W) are PNG files of smooth colours with some noise, which compress about
    as photographs do; each has a mask of one box. The audio is noise of two channels at 16 kHz, as
    in AVSBench.
    """
    rng = np.random.default_rng(0)
    mask = np.zeros(size, dtype=np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 255
    frames, masks = [], []
    for second in range(seconds):
        coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = smooth.astype(np.int16) + rng.integers(-4, 5, smooth.shape)
        frames.append(os.path.join(folder, f"frame_{second}.png"))
        masks.append(os.path.join(folder, f"mask_{second}.png"))
        for path, image in (
            (frames[-1], np.clip(noisy, 0, 255).astype(np.uint8)),
            (masks[-1], mask),
        ):
            if not cv2.imwrite(path, image):
                raise OSError(f"cannot write {path}: choose another temporary folder (TMPDIR)")
    audio_file = os.path.join(folder, "audio.wav")
    noise = rng.uniform(-0.5, 0.5, (seconds * SAMPLE_RATE_HZ, 2))
    soundfile.write(audio_file, noise, SAMPLE_RATE_HZ)
    return {
        "clip_id": "measured",
        "file_names": frames,
        "mask_file_names": masks,
        "audio_file": audio_file,
        "log_mel_file": None,
        "category": None,
    }
