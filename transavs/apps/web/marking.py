"""From a video to the files that the page shows: marked video, timeline and masks."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from transavs.audio import EXAMPLE_SECONDS, log_mel_examples, samples_of_examples
from transavs.engine.predictor import FramePrediction, VideoPredictor, open_sound
from transavs.tools.film_overlay import (
    OverlayOptions,
    OverlaySummary,
    draw_prediction,
    write_overlay,
)
from transavs.video.film import Film
from transavs.visualization import TimelineMoment, draw_timeline

RESULT_FILES = ("video.mp4", "timeline.png", "masks.zip", "masks.json")


def mark_video(
    predictor: VideoPredictor,
    video: Film,
    audio: str | Path,
    options: OverlayOptions,
    folder: Path,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[OverlaySummary, float]:
    """Writes ``RESULT_FILES`` into a folder that is there; see ``write_overlay``.

    Returns:
        What was written, and the mean share of a frame that is marked, in [0, 1].
    """
    shown: list[TimelineMoment] = []
    areas: list[float] = []
    with zipfile.ZipFile(folder / "masks.zip", "w") as masks:

        def note(one: FramePrediction) -> None:
            png = cv2.imencode(".png", one.mask.astype(np.uint8) * 255)[1]
            masks.writestr(f"masks/{round(1000 * one.seconds):09d}.png", png.tobytes())
            areas.append(float(one.mask.mean()))
            frame = Image.fromarray(draw_prediction(one.image, one, options.view))
            frame.thumbnail((320, 320))
            shown.append(TimelineMoment(one.start, one.end, np.asarray(frame), one.confidence))

        summary = write_overlay(
            predictor,
            video,
            folder / "video.mp4",
            replace(options, save_masks=folder / "masks.json"),
            sound=audio,
            progress=progress,
            should_stop=should_stop,
            on_moment=note,
        )
    if not shown:
        return summary, 0.0
    first, hop = samples_of_examples(1), samples_of_examples(2) - samples_of_examples(1)
    heard = open_sound(audio, video)
    try:
        # One by one: spectra of a long video are large.
        count = math.ceil(summary.seconds / EXAMPLE_SECONDS)
        patches = [log_mel_examples(heard.window(n * hop, first)) for n in range(count)]
    finally:
        heard.close()
    timeline = draw_timeline(shown, torch.cat(patches), summary.seconds)
    Image.fromarray(timeline).save(folder / "timeline.png")
    return summary, float(np.mean(areas))
