"""Films in files: any container and codec that FFmpeg reads."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation

from transavs.video.decoding import (
    MOST_PIXELS,
    choose_track,
    container_seconds,
    container_start,
    decoded,
    open_container,
)
from transavs.video.film import LONGEST_SIDE, Film, FilmFrame, Image, check_span, fitted_size
from transavs.video.sound import FileSound, Sound, WaveformSound

# Where a file does not tell.
_USUAL_FRAME_RATE = 25.0
# From this height on, pictures that do not tell their colour matrix have BT.709's.
_HIGH_DEFINITION = 720
_BT709, _BT601 = 1, 5
_UNSPECIFIED = 2
# How far before a start a film is read, if its container does not lead to a key frame before it.
_STEPS_BACK_SECONDS = (0.0, 5.0, 30.0)


class FilmFile(Film):
    """A film in a file.

    Pictures are turned as the file says (phones store upright films lying), pixels made square and
    frames larger than ``longest_side`` scaled down. A picture of another size amid the film is
    scaled to the size of the first. Damaged packets are left out: the picture before stays on
    screen, and where sound is missing there is silence. High dynamic range is not tone-mapped, and
    mirrored display matrices are not followed.

    Args:
        path: of the file.
        audio_track: from 1 on; None takes the first, if there is one.
        longest_side: of the pictures, in pixels; 0 for no limit.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, without any picture, or without that sound track.
    """

    def __init__(
        self,
        path: str | Path,
        audio_track: int | None = None,
        longest_side: int = LONGEST_SIDE,
    ) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.audio_track = audio_track
        with open_container(self.path) as container:
            self.has_sound = bool(container.streams.audio)
            if audio_track is not None:
                choose_track(container, self.path, audio_track)
            stream = self._picture_stream(container)
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                raise ValueError(
                    f"{path} is one picture, expected a film: for a picture a second, put them "
                    "into a folder, with a sound file"
                )
            self.origin = container_start(container)
            self.duration = container_seconds(container)
            rate = stream.average_rate or stream.guessed_rate
            self.frame_rate = float(rate) if rate else _USUAL_FRAME_RATE
            first = next(decoded(container, stream), None)
            if first is None:
                raise ValueError(
                    f"{path} holds no picture that can be decoded: export or fetch it again"
                )
            self._turns = round(_rotation(first) / 90) % 4
            ratio = stream.sample_aspect_ratio or Fraction(1)
            size = (float(first.height), first.width * float(ratio))
            if self._turns % 2:
                size = (size[1], size[0])
            self.height, self.width = fitted_size(*size, longest_side)

    def frames(self, start: float = 0.0, end: float | None = None) -> Iterator[FilmFrame]:
        check_span(start, end, self.duration, self.name)
        # The newest picture, whose time on screen the next one ends.
        waiting: tuple[float, Any] | None = None
        for seconds, frame in self._timed_from(start):
            if waiting is not None:
                if seconds <= waiting[0]:
                    continue
                if seconds > start:
                    yield self._shown(waiting, seconds, start, end)
            waiting = (seconds, frame)
            if end is not None and seconds >= end:
                return
        if waiting is not None:
            usual = 1 / self.frame_rate
            own = float((waiting[1].duration or 0) * waiting[1].time_base) or usual
            ends = waiting[0] + own
            yield self._shown(waiting, ends if ends > start else start + usual, start, end)

    def _shown(
        self, picture: tuple[float, Any], until: float, start: float, end: float | None
    ) -> FilmFrame:
        """A picture as it is seen from ``start`` on, until the next one or ``end``."""
        seconds = max(picture[0], start)
        until = until if end is None else min(until, end)
        return FilmFrame(seconds, until - seconds, self._picture(picture[1]))

    def _timed_from(self, start: float) -> Iterator[tuple[float, Any]]:
        """Yields the frames with their times, the first of them on screen at ``start``."""
        before: float | None = None
        for frame in self._decoded_from(start):
            if frame.pts is None:
                # Rounded, or the sums would come to lie a hair beside a start.
                before = 0.0 if before is None else round(before + 1 / self.frame_rate, 6)
            else:
                before = self._seconds(frame)
            yield before, frame

    def _decoded_from(self, start: float) -> Iterator[Any]:
        """Yields the frames from the last key frame before a second on.

        Some containers (.ts) only know roughly where that is: whether the first frame came early
        enough is looked at.
        """
        for back in _STEPS_BACK_SECONDS:
            if start <= back:
                break
            with open_container(self.path) as container:
                stream = self._picture_stream(container)
                try:
                    timestamp = int((start - back + self.origin) / stream.time_base)
                    container.seek(timestamp, stream=stream, backward=True)
                except FFmpegError:
                    break
                frames = decoded(container, stream)
                first = next(frames, None)
                if first is not None and first.pts is not None and self._seconds(first) <= start:
                    yield first
                    yield from frames
                    return
        with open_container(self.path) as container:
            yield from decoded(container, self._picture_stream(container))

    def _seconds(self, frame: Any) -> float:
        return float(frame.pts * frame.time_base) - self.origin

    def sound(self) -> Sound:
        if not self.has_sound:
            return WaveformSound.silence()
        return FileSound(self.path, self.audio_track, self.origin)

    def _picture_stream(self, container: Any) -> Any:
        for stream in container.streams.video:
            # Covers of albums are streams of one picture.
            if not stream.disposition & stream.disposition.attached_pic:
                context = stream.codec_context
                if context.width * context.height > MOST_PIXELS:
                    raise ValueError(
                        f"{self.path} has pictures of {context.width} x {context.height} pixels, "
                        f"more than the {MOST_PIXELS} that are read: scale it down"
                    )
                # For pictures that grow amid the film.
                context.options = {"max_pixels": str(MOST_PIXELS)}
                stream.thread_type = "AUTO"
                return stream
        raise ValueError(
            f"{self.path} holds no moving picture: expected a film, and all of it; export or "
            "fetch it again"
        )

    def _picture(self, frame: Any) -> Image:
        height, width = self.height, self.width
        if self._turns % 2:
            height, width = width, height
        shrinks = height * width < frame.height * frame.width
        matrix = frame.colorspace
        if matrix == _UNSPECIFIED:
            matrix = _BT709 if frame.height >= _HIGH_DEFINITION else _BT601
        try:
            small = frame.reformat(
                width,
                height,
                "rgb24",
                src_colorspace=matrix,
                interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            )
        except (ValueError, FFmpegError):
            # A matrix that FFmpeg's scaler does not know.
            small = frame.reformat(width, height, "rgb24")
        picture = small.to_ndarray()
        return np.ascontiguousarray(np.rot90(picture, self._turns)) if self._turns else picture


def _rotation(frame: Any) -> int:
    """Degrees counter-clockwise by which a picture must be turned to be upright."""
    return int(getattr(frame, "rotation", 0) or 0)
