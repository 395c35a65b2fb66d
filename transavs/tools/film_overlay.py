"""Writes a film with what sounds in it marked: picture by picture, with the sound kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from transavs.engine.predictor import (
    OWN_SOUND,
    SILENCE,
    FramePrediction,
    SoundChoice,
    VideoPredictor,
    open_sound,
)
from transavs.video import (
    FilmFile,
    FilmFrame,
    FilmWriter,
    FrameFolder,
    Sound,
    SoundTrack,
    copied_track,
    encoded_track,
    open_film,
    open_mask_files,
)
from transavs.video.clock import FilmClock
from transavs.video.film import LONGEST_SIDE, Film, Image, check_span
from transavs.video.mask_files import MaskFiles
from transavs.visualization import (
    PREDICTION_COLOR,
    FilmStrip,
    paint_masks,
    score_heat_map,
    strip_height,
    track_color,
)

VIEWS = ("mask", "objects", "score")
# Some containers round their times to milliseconds.
_ROUNDED_SECONDS = 0.002
# Opacity of the score's colours.
_HEAT = 0.6


@dataclass(frozen=True)
class OverlayOptions:
    """How a film shall be marked.

    Attributes:
        per_second: how often the model is asked; its masks stay until the next are there.
        every_frame: ask it about every frame instead.
        start: of the part of the film that is written, in seconds.
        end: of it; None is the film's end.
        strip: the sound and the model's confidence under the picture.
        view: what is drawn over the pictures, one of ``VIEWS``: "mask" in one colour, "objects" in
            a colour each, which they keep, or the "score" from black (0) to light yellow (1).
        threshold: masks are where the score is above it, in [0, 1); None takes the model's own
            rule. Pixels that change their side belong to no object.
        save_masks: a folder for PNGs, or a .json; None saves none.
    """

    per_second: float = 1.0
    every_frame: bool = False
    start: float = 0.0
    end: float | None = None
    strip: bool = False
    view: str = "mask"
    threshold: float | None = None
    save_masks: str | Path | None = None

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"the view must be one of {', '.join(VIEWS)}, got {self.view!r}")
        if self.threshold is None:
            return
        if not 0 <= self.threshold < 1:
            raise ValueError(f"the threshold must lie in [0, 1), got {self.threshold:g}")
        if self.view == "objects":
            raise ValueError("objects have the model's own masks: leave the threshold out")


@dataclass(frozen=True)
class OverlaySummary:
    """What was written.

    Attributes:
        frames: pictures.
        moments: how often the model was asked.
        seconds: of film.
        marked: share of the moments with a mask, in [0, 1].
        stopped: it was stopped before its end; without any picture yet, nothing was written.
        sound: "copied", "encoded anew" or "none".
    """

    frames: int
    moments: int
    seconds: float
    marked: float
    stopped: bool
    sound: str


def write_overlay(
    predictor: VideoPredictor,
    film: str | Path | Film,
    output: str | Path,
    options: OverlayOptions | None = None,
    *,
    sound: SoundChoice = OWN_SOUND,
    audio_track: int | None = None,
    longest_side: int = LONGEST_SIDE,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_moment: Callable[[FramePrediction], None] | None = None,
) -> OverlaySummary:
    """Writes a film with masks over its pictures.

    Args:
        predictor: the model.
        film: a file, a folder of pictures, or a film.
        output: .mp4, .mov or .mkv; it has the film's own pictures and times.
        options: None takes the defaults.
        sound: what the model hears, and what is heard in the film that is written, see
            ``VideoPredictor.predict``.
        audio_track: of a film file, from 1 on; None takes the first.
        longest_side: of the pictures; larger ones are scaled down.
        progress: is told the seconds of film that are done, after each picture.
        should_stop: is asked before each picture; the film ends there and is playable. Nothing is
            written if it has no picture yet.
        on_moment: is told each new prediction, with the options' threshold in its mask.

    Raises:
        FileNotFoundError, ValueError, OSError: see the predictor and the writer.
    """
    options = options or OverlayOptions()
    output = Path(output).expanduser()
    if options.save_masks is not None:
        options = replace(options, save_masks=Path(options.save_masks).expanduser())
    if isinstance(sound, str | Path) and sound not in (OWN_SOUND, SILENCE):
        sound = Path(sound).expanduser()
    if not isinstance(film, Film):
        film = open_film(film, audio_track, longest_side)
    check_span(options.start, options.end, film.duration, film.name)
    _check_places(film, sound, output, options.save_masks)
    track, kept = _sound_track(film, sound, options)
    height = film.height + (strip_height(film.height) if options.strip else 0)
    with ExitStack() as stack:
        strip = None
        if options.strip:
            heard = open_sound(sound, film, predictor.front_end.sample_rate_hz)
            stack.callback(heard.close)
            strip = FilmStrip(
                heard.window, film.width, strip_height(film.height), predictor.front_end
            )
        masks = (
            stack.enter_context(open_mask_files(options.save_masks))
            if (options.save_masks)
            else None
        )
        writer = stack.enter_context(FilmWriter(output, height, film.width, film.frame_rate, track))
        shots = _shots(predictor, film, sound, options)
        stack.callback(shots.close)
        frames = moments = marked = 0
        now, stopped = options.start, False
        newest = -1
        for frame, prediction in shots:
            if should_stop is not None and should_stop():
                stopped = True
                break
            prediction = _thresholded(prediction, options.threshold)
            if prediction.number != newest:
                newest, moments = prediction.number, moments + 1
                marked += bool(prediction.mask.any())
                if masks is not None:
                    save_masks(masks, prediction)
                if on_moment is not None:
                    on_moment(prediction)
                if strip is not None:
                    strip.add_confidence(prediction.start, prediction.end, prediction.confidence)
            picture = draw_prediction(frame.image, prediction, options.view)
            if strip is not None:
                picture = np.concatenate([picture, strip.draw(frame.seconds)])
            writer.write(picture, frame.seconds - options.start, frame.duration)
            frames, now = frames + 1, frame.seconds + frame.duration
            if progress is not None:
                progress(now - options.start)
        if frames == 0:
            writer.discard()
            if not stopped:
                raise ValueError(
                    f"{film.name} shows no picture from second {options.start:g} to "
                    f"{'its end' if options.end is None else format(options.end, 'g')}: choose "
                    "another part"
                )
        # Another sound may be longer than the film, and a film's own ends when it ends.
        own = isinstance(film, FilmFile) and isinstance(sound, str) and sound == OWN_SOUND
        writer.close(until=None if own and not stopped else now - options.start)
    return OverlaySummary(
        frames, moments, now - options.start, marked / max(moments, 1), stopped, kept
    )


def _check_places(
    film: Film, sound: SoundChoice, output: Path, save_masks: str | Path | None
) -> None:
    """Raises ValueError where what is written would take the place of what is read."""
    if isinstance(film, FilmFile) and _same(film.path, output):
        raise ValueError(f"the film {output} would be written over itself: name another output")
    if isinstance(sound, str | Path) and _same(Path(sound), output):
        raise ValueError(f"the sound {sound} would be written over: name another output")
    if save_masks is not None and isinstance(film, FrameFolder) and _same(film.folder, save_masks):
        raise ValueError(
            f"the masks would lie among the pictures of {film.folder}: name another folder"
        )


def _same(path: Path, other: str | Path) -> bool:
    return path.exists() and Path(other).exists() and path.samefile(other)


def draw_prediction(picture: Image, prediction: FramePrediction, view: str = "mask") -> Image:
    """Returns a picture with what the model says about a moment over it.

    Args:
        picture: uint8 ``[H, W, 3]``, RGB, of the prediction's size.
        prediction: of the moment.
        view: see :class:`OverlayOptions`.
    """
    if view == "score":
        heat = score_heat_map(prediction.score)
        blended: Image = cv2.addWeighted(picture, 1 - _HEAT, heat, _HEAT, 0.0)
        return blended
    if view == "objects" and prediction.objects:
        parts: list[NDArray[np.bool_]] = [thing.mask for thing in prediction.objects]
        return paint_masks(picture, parts, [track_color(one.track) for one in prediction.objects])
    return paint_masks(picture, [prediction.mask], [PREDICTION_COLOR])


def _thresholded(prediction: FramePrediction, threshold: float | None) -> FramePrediction:
    if threshold is None:
        return prediction
    return replace(prediction, mask=prediction.score > threshold, objects=[])


def _shots(
    predictor: VideoPredictor, film: Film, sound: SoundChoice, options: OverlayOptions
) -> Generator[tuple[FilmFrame, FramePrediction], None, None]:
    """Yields every picture of the film with the prediction that stands for it."""
    per_second = None if options.every_frame else options.per_second
    predictions = predictor.predict(
        film, sound=sound, per_second=per_second, start=options.start, end=options.end
    )
    try:
        if options.every_frame:
            for one in predictions:
                yield FilmFrame(one.start, one.end - one.start, one.image), one
            return
        # The film is read twice: the model looks half a second ahead, and pictures are large.
        current = next(predictions, None)
        coming = next(predictions, None)
        nearly = min(_ROUNDED_SECONDS, 0.25 / options.per_second)
        for frame in film.frames(options.start, options.end):
            while coming is not None and frame.seconds >= coming.start - nearly:
                current, coming = coming, next(predictions, None)
            if current is None:
                return
            yield frame, current
            # A picture that stays is shown again with the masks of each moment that it fills.
            ends = frame.seconds + frame.duration
            while coming is not None and coming.seconds < ends - nearly:
                current, coming = coming, next(predictions, None)
                yield FilmFrame(current.start, ends - current.start, current.image), current
        while coming is not None:
            current, coming = coming, next(predictions, None)
            yield FilmFrame(current.start, current.end - current.start, current.image), current
    finally:
        predictions.close()


def save_masks(masks: MaskFiles, prediction: FramePrediction) -> None:
    """Adds what the model says about a moment to the files of masks."""
    objects = [(one.track, one.confidence, one.mask) for one in prediction.objects]
    masks.add(prediction.number, prediction.seconds, prediction.mask, objects)


def _sound_track(
    film: Film, sound: SoundChoice, options: OverlayOptions
) -> tuple[SoundTrack | None, str]:
    """Returns the sound of the film that is written, and how it comes there."""
    start, end = options.start, options.end
    source: tuple[Path, int | None, FilmClock | None] | Sound | None = None
    if isinstance(sound, str) and sound == OWN_SOUND:
        if isinstance(film, FilmFile) and film.has_sound:
            source = (film.path, film.audio_track, film.clock)
        elif isinstance(film, FrameFolder) and film.has_sound and film.sound_file is not None:
            source = (film.sound_file, None, None)
        elif film.has_sound:
            source = film.sound()
    elif isinstance(sound, str | Path):
        source = None if sound == SILENCE else (Path(sound), None, None)
    else:
        source = open_sound(sound, film)
        if source.is_silence:
            source = None
    if source is None:
        return None, "none"
    if not isinstance(source, Sound):
        track = copied_track(*source, start, end)
        if track is not None:
            return track, "copied"
    return encoded_track(source, start, end), "encoded anew"
