"""From a film to what the page shows: the marked film, its timeline and its masks."""

from __future__ import annotations

import math
import shutil
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
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
    save_masks,
    write_overlay,
)
from transavs.video import PngMasks, RleMasks
from transavs.video.film import Film
from transavs.visualization import TimelineMoment, draw_timeline

_TIMELINE_WIDTH = 960
# The timeline shows no picture larger than this.
_SMALL_SIDE = 320


@dataclass(frozen=True)
class MarkedFilm:
    """What was made.

    Attributes:
        summary: of the film.
        area: mean share of the picture that is marked, in [0, 1].
    """

    summary: OverlaySummary
    area: float


def mark_film(
    predictor: VideoPredictor,
    film: Film,
    sound: str | Path,
    options: OverlayOptions,
    folder: Path,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> MarkedFilm:
    """Writes ``film.mp4``, ``timeline.png``, ``masks.json`` and ``masks.zip`` into a folder.

    Args:
        predictor: the model.
        film: of which the options' ``end`` says how much is taken.
        sound: what is heard, see ``VideoPredictor.predict``.
        options: ``start`` must be 0.
        folder: exists.
        progress: is told the seconds that are done.
        should_stop: ends the work.

    Raises:
        FileNotFoundError, ValueError, OSError: see the predictor and the writer.
    """
    moments: list[TimelineMoment] = []
    areas: list[float] = []
    with ExitStack() as stack:
        pngs = stack.enter_context(PngMasks(folder / "masks"))
        run_lengths = stack.enter_context(RleMasks(folder / "masks.json"))

        def note(prediction: FramePrediction) -> None:
            save_masks(pngs, prediction)
            save_masks(run_lengths, prediction)
            areas.append(float(prediction.mask.mean()))
            picture = _small(draw_prediction(prediction.image, prediction, options.view))
            moments.append(
                TimelineMoment(prediction.start, prediction.end, picture, prediction.confidence)
            )

        summary = write_overlay(
            predictor,
            film,
            folder / "film.mp4",
            options,
            sound=sound,
            progress=progress,
            should_stop=should_stop,
            on_moment=note,
        )
    if moments:
        timeline = _timeline(film, sound, moments, summary.seconds)
        Image.fromarray(timeline).save(folder / "timeline.png")
    _zip(folder / "masks", folder / "masks.zip")
    return MarkedFilm(summary, float(np.mean(areas)) if areas else 0.0)


def _timeline(
    film: Film, sound: str | Path, moments: list[TimelineMoment], seconds: float
) -> np.ndarray:
    count = math.ceil(seconds / EXAMPLE_SECONDS)
    hop = samples_of_examples(2) - samples_of_examples(1)
    heard = open_sound(sound, film)
    try:
        # One by one: spectra of a long film are large.
        windows = [heard.window(n * hop, samples_of_examples(1)) for n in range(count)]
    finally:
        heard.close()
    examples = torch.cat([log_mel_examples(window) for window in windows])
    return draw_timeline(moments, examples, seconds, _TIMELINE_WIDTH)


def _small(picture: np.ndarray) -> np.ndarray:
    scale = _SMALL_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _zip(folder: Path, path: Path) -> None:
    # PNGs are compressed already.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"masks/{file.name}")
    shutil.rmtree(folder)
