"""VideoPredictor: masks of what sounds in a film, moment by moment, with flat memory."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from torch import Tensor

from transavs.audio import SAMPLE_RATE_HZ, build_front_end
from transavs.config import setup_cfg
from transavs.data.dataset_mapper import build_augmentation
from transavs.engine.audio_windows import AudioWindows, HeardWindow
from transavs.engine.known_classes import known_classes
from transavs.engine.moments import Moment, evenly, every_frame
from transavs.engine.query_tracks import QueryTracker
from transavs.engine.trained_model import ClipPrediction, load_trained_model, predict_clips
from transavs.video import FileSound, Film, Sound, WaveformSound, open_film
from transavs.video.decoding import holds_samples
from transavs.video.film import check_span

# The small model that comes with the package.
SHIPPED_CONFIG = "plus/demo_ms3.yaml"
SHIPPED_WEIGHTS = "demo_ms3.safetensors"

OWN_SOUND = "own"
SILENCE = "silence"
# What is heard: OWN_SOUND, SILENCE, a sound or film file, a mono waveform at 16 kHz, or a Sound.
SoundChoice = str | Path | Tensor | np.ndarray | Sound

_MOST_QUERIES = 8
# Moments closer to each other hear and see the same.
MOST_PER_SECOND = 1000.0
_BATCH_SIZE = 4
# An object that is silent for so long, in seconds, gets a new number when it sounds again.
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class SoundingObject:
    """One query that takes part in the mask of a moment.

    Attributes:
        track: number of the object through the film, from 1 on.
        query: which query it is.
        confidence: probability of its sounding class, in [0, 1].
        mask: bool ``[H, W]``, its pixels of the whole mask; no pixel belongs to two.
    """

    track: int
    query: int
    confidence: float
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class FramePrediction:
    """What the model says about a moment of a film.

    Attributes:
        number: of the moment, from 0 on.
        seconds: when it is, from the film's beginning.
        start: it stands for the film from this second
        end: to this one.
        image: uint8 ``[H, W, 3]``, RGB: the picture on screen.
        mask: bool ``[H, W]``: what sounds.
        score: float32 ``[H, W]`` in [0, 1].
        confidence: of the most confident query that something sounds, in [0, 1], whether or not it
            sufficed; for a model without queries the largest score.
        objects: the queries that sound, best first; empty for a model without queries.
        log_mel: float32 ``[1, windows, bands]`` (VGGish: ``[1, 96, 64]``), the example of the
            model's front-end at the moment: what was heard.
        heard: all examples that the model heard, and where they lie.
        class_map: int64 ``[H, W]``: 0 outside the mask, otherwise the number of the class, from 1
            on in the order of the model's classes. None for a model that tells none apart.
    """

    number: int
    seconds: float
    start: float
    end: float
    image: NDArray[Any]
    mask: NDArray[np.bool_]
    score: NDArray[np.float32]
    confidence: float
    objects: list[SoundingObject]
    log_mel: Tensor
    heard: HeardWindow
    class_map: NDArray[np.int64] | None = None


class VideoPredictor:
    """A trained model that is shown films.

    Args:
        cfg: a configuration, or the path or name of one; None takes the small model that comes with
            the package, with its weights.
        weights: checkpoint of the whole model; "" takes ``MODEL.WEIGHTS`` of the configuration.
        device: "cpu", "cuda" ...; None takes a GPU where there is one.
        batch_size: moments that the model is shown at once.

    Attributes:
        front_end: of the model's audio encoder.
        known_classes: names of the classes that it was trained on; () where nothing tells.

    Several threads may use one predictor; the model answers them in turn.

    Raises:
        FileNotFoundError: no such configuration or checkpoint.
        ValueError: weights without a configuration, weights that do not fit it, or a device that
            the machine lacks.
    """

    def __init__(
        self,
        cfg: CfgNode | str | Path | None = None,
        weights: str | Path = "",
        device: str | None = None,
        batch_size: int = _BATCH_SIZE,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"the batch size must be at least 1, got {batch_size}")
        if cfg is None:
            if weights:
                raise ValueError(
                    f"weights {weights} without a configuration: name the one that they were "
                    "trained with (config.yaml lies beside a checkpoint)"
                )
            cfg, weights = SHIPPED_CONFIG, SHIPPED_WEIGHTS
        if not isinstance(cfg, CfgNode):
            cfg = setup_cfg(str(cfg))
        self.cfg = _for_inference(cfg, device)
        self.weights = str(weights) or str(self.cfg.MODEL.WEIGHTS)
        self.model = load_trained_model(self.cfg, self.weights)
        self.front_end = build_front_end(self.cfg)
        self.windows = AudioWindows.of_model(self.model, self.front_end)
        self.known_classes = known_classes(self.cfg, self.weights)
        self.batch_size = batch_size
        self._augmentation = build_augmentation(self.cfg, is_train=False)
        self._turn = threading.Lock()

    def predict(
        self,
        film: str | Path | Film,
        *,
        sound: SoundChoice = OWN_SOUND,
        per_second: float | None = 1.0,
        start: float = 0.0,
        end: float | None = None,
    ) -> Generator[FramePrediction, None, None]:
        """Yields what the model says about the moments of a film, in order.

        The film is read as a stream: memory does not grow with its length.

        Args:
            film: a file that FFmpeg reads, a folder of pictures with a sound in it (one a
                second, ``FrameFolder`` takes other rates), or any ``transavs.video.Film``, such as
                an ``ArrayFilm``.
            sound: what the model hears: the film's own sound, silence, or another sound in its
                place, whose beginning is heard at the film's.
            per_second: moments a second, up to 1000: middles of equal parts of the film, each with
                the picture on screen then. None asks about every frame.
            start: of the part of the film, in seconds.
            end: of it; None is the film's end.

        Raises:
            FileNotFoundError: no such film or sound.
            ValueError: a film or sound that cannot be read, or a part that it does not have.
        """
        if per_second is not None and not 0 < per_second <= MOST_PER_SECOND:
            raise ValueError(
                f"expected moments a second above 0 and at most {MOST_PER_SECOND:g}, got "
                f"{per_second:g}"
            )
        if not isinstance(film, Film):
            film = open_film(film)
        check_span(start, end, film.duration, film.name)
        heard = open_sound(sound, film, self.front_end.sample_rate_hz)
        return self._predict(film, heard, per_second, start, end)

    def _predict(
        self,
        film: Film,
        sound: Sound,
        per_second: float | None,
        start: float,
        end: float | None,
    ) -> Generator[FramePrediction, None, None]:
        frames = film.frames(start, end)
        limit = film.duration if end is None else min(end, film.duration or end)
        moments = every_frame(frames) if per_second is None else evenly(frames, per_second, limit)
        tracker = QueryTracker(round(_PATIENCE_SECONDS * (per_second or film.frame_rate)))
        number = 0
        try:
            while batch := list(islice(moments, self.batch_size)):
                windows = [self.windows.hear(sound, m.seconds, film.duration) for m in batch]
                clips = [self._clip(m, window) for m, window in zip(batch, windows, strict=True)]
                with self._turn:
                    answers = predict_clips(self.model, clips, _MOST_QUERIES)
                for moment, window, answer in zip(batch, windows, answers, strict=True):
                    yield _prediction(number, moment, window, answer, tracker)
                    number += 1
        finally:
            sound.close()

    def _clip(self, moment: Moment, window: HeardWindow) -> dict[str, Any]:
        """One frame and what is heard with it, as the evaluation mapper would give them."""
        picture = moment.image
        if self._augmentation.image_format == "BGR":
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        height, width = picture.shape[:2]
        # In evaluation there is nothing to draw but the size.
        transform = self._augmentation.draw(height, width, np.random.default_rng(0))
        frame = transform.apply_frames([picture])[0]
        return {
            "frames": torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))[None]),
            "frame_index": torch.tensor([window.own]),
            "audio": window.audio,
            "height": height,
            "width": width,
        }


def open_sound(sound: SoundChoice, film: Film, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Sound:
    """Returns the sound that a choice means with a film, read at a sample rate.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file without sound or samples, a waveform that is none, or a sound of another
            class that is not to be had at that rate.
    """
    if isinstance(sound, Sound):
        return sound.at(sample_rate_hz)
    if isinstance(sound, Tensor | np.ndarray):
        return WaveformSound(sound).at(sample_rate_hz)
    if sound == OWN_SOUND:
        return film.sound().at(sample_rate_hz)
    if sound == SILENCE:
        return WaveformSound.silence().at(sample_rate_hz)
    path = Path(sound).expanduser()
    if not holds_samples(path):
        raise ValueError(f"{path} holds no samples: export the recording again")
    return FileSound(path, sample_rate_hz=sample_rate_hz)


def _for_inference(cfg: CfgNode, device: str | None) -> CfgNode:
    """A copy with the device, and without the weights that a model starts its training from."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # The checkpoint holds the audio encoder; its file of weights may be elsewhere by now.
    cfg.MODEL.AUDIO.WEIGHTS = ""
    cfg.freeze()
    return cfg


def _prediction(
    number: int, moment: Moment, window: HeardWindow, answer: ClipPrediction, tracker: QueryTracker
) -> FramePrediction:
    score = answer.scores[0].numpy()
    confidence = float(score.max())
    objects: Sequence[SoundingObject] = ()
    if answer.queries is not None:
        queries = answer.queries[0]
        confidence = max(queries.confidence, default=0.0)
        rows = [
            row for row, sounds in enumerate(queries.sounds) if sounds and queries.pixels[row].any()
        ]
        masks = [queries.pixels[row] for row in rows]
        tracks = tracker.update([queries.index[row] for row in rows], masks)
        objects = [
            SoundingObject(track, queries.index[row], queries.confidence[row], mask)
            for track, row, mask in zip(tracks, rows, masks, strict=True)
        ]
    return FramePrediction(
        number=number,
        seconds=moment.seconds,
        start=moment.start,
        end=moment.end,
        image=moment.image,
        mask=answer.masks[0].numpy(),
        score=score,
        confidence=confidence,
        objects=list(objects),
        log_mel=window.audio[window.own],
        heard=window,
        class_map=None if answer.class_maps is None else answer.class_maps[0].numpy(),
    )
