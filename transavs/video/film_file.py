"""Films in files: any container and codec that FFmpeg reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation

from transavs.video.clock import frame_rate
from transavs.video.decoding import (
    MOST_PIXELS,
    choose_track,
    decoded,
    open_container,
    packets,
    read_clock,
)
from transavs.video.film import LONGEST_SIDE, Film, FilmFrame, Image, check_span, fitted_size
from transavs.video.sound import FileSound, Sound, WaveformSound

logger = logging.getLogger(__name__)

# These formats hold the times of decoding alone, and FFmpeg knows no others for these codecs.
_DECODING_TIMES = ("avi", "asf")
_REORDERED_CODECS = ("h264", "hevc", "vvc")
# A sound that goes on for longer than encoders make it shows that the last picture stays.
_SOUND_TAIL_SECONDS = 0.5
# Pictures that come out of a decoder later than this miss their beginning.
_LONGEST_DELAY_SECONDS = 1.0
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
    scaled to the size of the first. Where the timestamps begin again, the parts follow each other.
    Damaged packets are left out: the picture before stays on screen, and where sound is missing
    there is silence. The last picture stays as long as the sound does. High dynamic range is not
    tone-mapped, and mirrored display matrices are not followed.

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
        self.clock = read_clock(self.path)
        self.duration = self.clock.duration
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
            self.frame_rate = frame_rate(stream)
            first = next(decoded(container, stream, self.clock), None)
            if first is None:
                raise ValueError(
                    f"{path} holds no picture that can be decoded: export or fetch it again"
                )
            self._guessed = (
                container.format.name in _DECODING_TIMES
                and stream.codec_context.name in _REORDERED_CODECS
            )
            self._delay = 0.0
            if container.format.name == "avi":
                # It counts from the first packet, whatever its decoder waits for.
                delay = self._stamped(first) or 0.0
                self._delay = delay if 0 < delay <= _LONGEST_DELAY_SECONDS else 0.0
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
            if waiting is not None and seconds > start:
                yield self._shown(waiting, seconds, start, end)
            waiting = (seconds, frame)
            if end is not None and seconds >= end:
                return
        if waiting is not None:
            usual = 1 / self.frame_rate
            own = float((waiting[1].duration or 0) * waiting[1].time_base) or usual
            ends = waiting[0] + own
            if self.has_sound and (self.duration or 0.0) > ends + _SOUND_TAIL_SECONDS:
                ends = max(ends, self._sound_end())
            yield self._shown(waiting, ends if ends > start else start + usual, start, end)

    def _shown(
        self, picture: tuple[float, Any], until: float, start: float, end: float | None
    ) -> FilmFrame:
        """A picture as it is seen from ``start`` on, until the next one or ``end``."""
        seconds = max(picture[0], start)
        until = until if end is None else min(until, end)
        return FilmFrame(seconds, until - seconds, self._picture(picture[1]))

    def _sound_end(self) -> float:
        """Returns when the sound ends: a film that is cut short still tells its whole duration."""
        assert self.duration is not None
        ends = 0.0
        with open_container(self.path) as container:
            stream = choose_track(container, self.path, self.audio_track)
            if not self.clock.joins:
                with suppress(FFmpegError):
                    timestamp = int((self.duration + self.clock.origin) / stream.time_base)
                    container.seek(timestamp, stream=stream, backward=True)
            for packet in packets(container, stream, self.clock):
                if packet.pts is not None:
                    stamp = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    ends = max(ends, stamp - self.clock.origin)
        return ends

    def _timed_from(self, start: float) -> Iterator[tuple[float, Any]]:
        """Yields the frames with their times from the last key frame before a second on.

        Some containers (.ts) only know roughly where that is: whether the first frame came early
        enough is looked at. Where timestamps begin again, nothing can be looked up by them.
        """
        for back in _STEPS_BACK_SECONDS:
            if start <= back or self.clock.joins:
                break
            with open_container(self.path) as container:
                stream = self._picture_stream(container)
                try:
                    timestamp = int((start - back + self.clock.origin) / stream.time_base)
                    container.seek(timestamp, stream=stream, backward=True)
                except FFmpegError:
                    break
                frames = self._timed(container, stream, None)
                first = next(frames, None)
                if first is not None and first[0] <= start:
                    yield first
                    yield from frames
                    return
        with open_container(self.path) as container:
            yield from self._timed(container, self._picture_stream(container), 0.0)

    def _timed(
        self, container: Any, stream: Any, begin: float | None
    ) -> Iterator[tuple[float, Any]]:
        """Yields the frames with their rising times; those that do not tell follow the one before.

        Args:
            container: opened.
            stream: its pictures.
            begin: time of a first frame that does not tell; without one it cannot be placed.
        """
        before: float | None = None
        step, estimated = 1 / self.frame_rate, True
        left_out = 0
        # Other films may have been sought: pictures that lean on some before are no good then.
        every_one = self._guessed or bool(self.clock.joins)
        for frame in decoded(container, stream, self.clock):
            seconds = self._stamped(frame)
            if before is not None and seconds is not None and seconds > before:
                step = step if estimated else seconds - before
                estimated = False
            elif before is not None and (seconds is None or estimated or every_one):
                # Rounded, or the sums would come to lie a hair beside a start.
                seconds, estimated = round(before + step, 6), True
            elif before is not None:
                left_out += 1
                continue
            elif seconds is not None:
                estimated = False
            elif begin is not None:
                seconds = begin
            else:
                return
            before = seconds
            yield seconds, frame
        if left_out:
            logger.warning(
                "%s: %d pictures have times before those of others and were left out",
                self.name,
                left_out,
            )

    def _stamped(self, frame: Any) -> float | None:
        """Returns when a frame comes on screen, by its timestamps; None where it has none."""
        # A frame leaves the decoder with the packet that is decoded when it comes on screen.
        stamp = frame.dts if self._guessed else frame.pts
        if stamp is None:
            return None
        return float(stamp * frame.time_base) - self.clock.origin - self._delay

    def sound(self) -> Sound:
        if not self.has_sound:
            return WaveformSound.silence()
        return FileSound(self.path, self.audio_track, self.clock)

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
