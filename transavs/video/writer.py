"""Writes films: H.264 pictures at their own times, and a sound track beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av.error import FFmpegError

from transavs.utils.whole_files import WholeFile, cannot_write
from transavs.video.film import Image
from transavs.video.sound_track import SoundTrack

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# The first that this FFmpeg was built with; options for a good picture at a good speed.
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libopenh264": {},
    "mpeg4": {"qscale": "4"},
}
_TIME_BASE = Fraction(1, 90_000)
_SECONDS_BETWEEN_KEY_FRAMES = 2
_HIGH_DEFINITION = 720
_BT709, _BT601 = 1, 5


def check_container(path: str | os.PathLike[str]) -> str:
    """Returns FFmpeg's name of the container of a file that shall be written.

    Raises:
        ValueError: another ending than ours.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise ValueError(f"cannot write {path}: the ending must be one of {', '.join(CONTAINERS)}")
    return CONTAINERS[suffix]


class FilmWriter:
    """A film that is being written, under another name until it is whole.

    Leaving the ``with`` block finishes the film and gives it its name; leaving it by an error
    removes what was written. Whoever is stopped by Ctrl-C calls :meth:`close` and has a film that
    plays up to there.

    Args:
        path: .mp4, .mov or .mkv; an existing file is replaced at the end.
        height: of the pictures, even.
        width: likewise.
        frame_rate: nominal.
        sound: its track; None writes none.

    Raises:
        ValueError: another ending, or sound that the container does not take.
        OSError: cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        height: int,
        width: int,
        frame_rate: float,
        sound: SoundTrack | None = None,
    ) -> None:
        assert height % 2 == width % 2 == 0, (height, width)
        self.path = Path(path)
        container = check_container(path)
        options = {"movflags": "+faststart"} if container != "matroska" else {}
        self._file = WholeFile(path)
        self._output: Any = None
        self._closed = False
        self._packets: Iterator[tuple[float, Any]] = iter(())
        self._waiting: tuple[float, Any] | None = None
        self._matrix = _BT709 if height >= _HIGH_DEFINITION else _BT601
        with self._attempt():
            self._output = av.open(
                str(self._file.temporary), "w", format=container, options=options
            )
            self._stream = self._add_pictures(height, width, frame_rate)
            if sound is not None:
                self._packets = sound(self._output)
                next(self._packets)
                self._waiting = next(self._packets, None)

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        """Discards the film if what is done in it fails; FFmpeg's words become a sentence."""
        try:
            yield
        except FFmpegError as error:
            self._discard()
            if isinstance(error, ValueError):
                raise ValueError(
                    f"cannot write {self.path} ({error.strerror}): FFmpeg refuses a picture or a "
                    "part of the sound, as it does where a film is damaged: convert the film "
                    "first, for example with `ffmpeg -i IN -c:v libx264 -c:a aac OUT.mp4`"
                ) from error
            raise cannot_write(self.path, error) from error
        except BaseException:
            self._discard()
            raise

    def _add_pictures(self, height: int, width: int, frame_rate: float) -> Any:
        name = next(filter(_encodes, _ENCODERS))
        # Rates such as 29.97 are fractions of small numbers.
        rate = Fraction(max(frame_rate, 0.1)).limit_denominator(1001)
        stream = self._output.add_stream(name, rate=rate, options=_ENCODERS[name])
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.time_base = _TIME_BASE
        context.gop_size = max(1, round(_SECONDS_BETWEEN_KEY_FRAMES * frame_rate))
        context.colorspace = self._matrix
        return stream

    def write(self, image: Image, seconds: float, duration: float) -> None:
        """Adds a picture, and the sound up to it.

        Args:
            image: uint8 ``[height, width, 3]``, RGB.
            seconds: when it comes on screen, later than the one before.
            duration: for how long.
        """
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=self._matrix)
        frame.pts, frame.time_base = round(seconds / _TIME_BASE), _TIME_BASE
        frame.duration = round(duration / _TIME_BASE)
        with self._attempt():
            self._write_sound(seconds)
            self._output.mux(self._stream.encode(frame))

    def close(self, until: float | None = None) -> None:
        """Finishes the film.

        Args:
            until: the sound behind this second is left out; None writes all of it.
        """
        if self._closed:
            return
        with self._attempt():
            self._output.mux(self._stream.encode(None))
            self._write_sound(until)
            self._output.close()
            self._end_sound()
            self._closed = True
        self._file.finish()

    def discard(self) -> None:
        """Removes what was written; an existing file stays as it was."""
        if not self._closed:
            self._discard()

    def _write_sound(self, until: float | None) -> None:
        while self._waiting is not None and (until is None or self._waiting[0] <= until):
            self._output.mux(self._waiting[1])
            self._waiting = next(self._packets, None)

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _discard(self) -> None:
        self._closed = True
        self._end_sound()
        try:
            if self._output is not None:
                self._output.close()
        except (FFmpegError, ValueError, OSError):
            pass  # what is there goes away anyway
        self._file.discard()

    def _end_sound(self) -> None:
        """Closes the file that the sound comes from, also where it was not read to its end."""
        close = getattr(self._packets, "close", None)
        if close is not None:
            close()


def _encodes(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True
