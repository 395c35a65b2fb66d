"""Decoding with PyAV: broken packets are left out, sounds become blocks without gaps."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from transavs.audio.io import declared_and_present
from transavs.audio.waveform import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from transavs.video.clock import FilmClock, clock_of

logger = logging.getLogger(__name__)

# Lists of other files or addresses, and devices.
_REFERRING_FORMATS = frozenset(
    "hls applehttp concat dash imf sdp rtp rtsp sap webm_dash_manifest vobsub lavfi "
    "v4l2 video4linux2 alsa oss x11grab fbdev kmsgrab jack".split()
)
#: Of a picture, 8192 x 8192: a small file can promise sizes of which a few fill the memory.
MOST_PIXELS = 1 << 26
# A file whose packets fail this often in a row ends there.
_MOST_FAILURES = 200
# Timestamps of sound are rounded to milliseconds in some containers; what deviates by more than
# this is a gap or an overlap.
_TOLERANCE_SECONDS = 0.03
# In the place of rates that a file does not tell, or that are not allowed.
_SUBSTITUTE_RATE_HZ = 48_000


def open_container(path: Path, what: str = "film") -> Any:
    """Returns an opened film or sound file, which messages call ``what``.

    Playlists and the like, which refer to other files or addresses, are not read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: FFmpeg cannot read it.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {what} at {path}: check the path")
    if not path.is_file():
        raise ValueError(f"expected a {what}, but {path} is no file")
    try:
        # Absolute, so that no name is taken for an address such as "concat:a|b".
        return av.open(str(path.resolve()), options=_allowed())
    except FFmpegError as error:
        raise ValueError(
            f"cannot read {path} as a {what} ({error.strerror}): expected a file that FFmpeg "
            "reads, such as .mp4, .mov, .mkv, .webm or .avi, and whole: export or fetch it again"
        ) from error


@functools.cache
def _allowed() -> dict[str, str]:
    """Options that keep FFmpeg inside the one file: somebody else may have sent it."""
    formats = ",".join(sorted(av.formats_available - _REFERRING_FORMATS))
    return {
        "protocol_whitelist": "file",
        "format_whitelist": formats,
        "max_pixels": str(MOST_PIXELS),
    }


def read_clock(path: Path, what: str = "film") -> FilmClock:
    """Returns the clock of a film or sound file; raises as :func:`open_container` does."""
    with open_container(path, what) as container:
        streams = [*container.streams.video, *container.streams.audio]
        clock = clock_of(container, _demuxed(container, streams))
    if clock.joins:
        logger.warning(
            "%s: the timestamps begin again %d times; the parts follow each other",
            path,
            len(clock.joins),
        )
    return clock


def packets(container: Any, stream: Any, clock: FilmClock) -> Iterator[Any]:
    """Yields the packets of a stream with the times of the film's clock, the last of them empty."""
    position = 0
    for packet in _demuxed(container, stream):
        position = position if packet.pos is None else packet.pos
        clock.move(packet, position)
        yield packet


def _demuxed(container: Any, streams: Any) -> Iterator[Any]:
    """Yields packets as they are in the file, past places that cannot be read."""
    failures = 0
    while failures < _MOST_FAILURES:
        try:
            for packet in container.demux(streams):
                failures = 0
                yield packet
            return
        except FFmpegError:
            failures += 1
    logger.warning("%s cannot be read any further", container.name)


def decoded(container: Any, stream: Any, clock: FilmClock) -> Iterator[Any]:
    """Yields the frames of a stream; packets that cannot be decoded are left out, and counted."""
    broken = 0
    for packet in packets(container, stream, clock):
        try:
            frames = packet.decode()
        except FFmpegError:
            broken += 1
            continue
        yield from frames
    if broken:
        logger.warning(
            "%s: %d packets of its %s are damaged and were left out",
            container.name,
            broken,
            {"video": "picture", "audio": "sound"}[stream.type],
        )


def choose_track(container: Any, path: Path, track: int | None) -> Any:
    """Returns a sound stream of a container.

    Args:
        container: opened.
        path: of it, for the message.
        track: from 1 on; None takes the first.

    Raises:
        ValueError: no such track.
    """
    tracks = container.streams.audio
    number = 1 if track is None else track
    if not 1 <= number <= len(tracks):
        names = [
            f"{place} ({stream.codec_context.name}, {stream.metadata.get('language', 'unnamed')})"
            for place, stream in enumerate(tracks, start=1)
        ]
        held = f"the tracks {', '.join(names)}" if names else "no sound"
        raise ValueError(f"{path} has {held}: there is no sound track {number}")
    return tracks[number - 1]


class SoundBlocks:
    """The samples of a track, in blocks that follow each other from the film's beginning.

    Args:
        path: of the file.
        track: from 1 on; None takes the first.
        clock: of the film that the track belongs to; None reads the file's own.
        allowed_rates: sample rates that the blocks may have; None allows all that the audio room
            can resample.
        most_channels: more are mixed down to two; None keeps all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, no such track, or a sample rate that no recording has; while it
            is read, NaN or infinite samples of a file that holds the samples themselves.

    Attributes:
        sample_rate: of the blocks, in Hz.
        channels: of the blocks.
        is_raw: whether the file holds the samples themselves, as wav files do.

    Iterating yields float32 ``[channels, n]``, full scale at 1, at most a second at a time. At the
    end of a wav file that holds less than its header announces, a warning counts what is missing.
    """

    def __init__(
        self,
        path: Path,
        track: int | None = None,
        clock: FilmClock | None = None,
        allowed_rates: tuple[int, ...] | None = None,
        most_channels: int | None = None,
    ) -> None:
        self._clock = clock or read_clock(path, "sound")
        self._container = open_container(path, "sound")
        try:
            self._stream = choose_track(self._container, path, track)
        except ValueError:
            self._container.close()
            raise
        self._path = path
        context = self._stream.codec_context
        self.sample_rate = int(context.sample_rate or 0)
        self.is_raw = context.name.startswith(("pcm_", "wavpack"))
        rate = self.sample_rate
        if rate and not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
            self._container.close()
            raise ValueError(
                f"{path} has a sound of {rate} Hz, expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}: "
                "convert it, for example with `ffmpeg -i IN -ar 16000 OUT`"
            )
        if not rate or (allowed_rates and rate not in allowed_rates):
            self.sample_rate = _SUBSTITUTE_RATE_HZ
        self.channels = int(context.channels or 1)
        self._layout = context.layout.name if context.channels else "mono"
        many = most_channels is not None and self.channels > most_channels
        if many or not _is_known(self._layout):
            self.channels, self._layout = 2, "stereo"

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        rate = self.sample_rate
        position = 0
        for seconds, samples in self._decoded():
            begin = position
            if seconds is not None:
                begin = round((seconds - self._clock.origin) * rate)
            if abs(begin - position) <= _TOLERANCE_SECONDS * rate:
                begin = position
            while begin > position:
                gap = min(begin - position, rate)
                yield np.zeros((self.channels, gap), dtype=np.float32)
                position += gap
            late = samples[:, position - begin :]
            finite = np.isfinite(late)
            if not finite.all():
                if self.is_raw:
                    raise ValueError(
                        f"{self._path} holds samples that are NaN or infinite, at second "
                        f"{position / rate:.2f}: repair or re-export the recording"
                    )
                late = np.where(finite, late, np.float32(0))  # of a damaged packet
            for first in range(0, late.shape[1], rate):
                yield late[:, first : first + rate]
            position += late.shape[1]
        self._tell_of_missing()

    def _tell_of_missing(self) -> None:
        """Warns about a wav file that is cut short; FFmpeg takes what is there for the whole."""
        declared, present = declared_and_present(self._path) or (0, 0)
        bytes_per_second = (self._stream.codec_context.bit_rate or 0) / 8
        if 0 < present < declared and bytes_per_second:
            logger.warning(
                "%s is cut short: its header announces %.2f s of sound, the last %.2f s are "
                "missing; silence takes their place",
                self._path,
                declared / bytes_per_second,
                (declared - present) / bytes_per_second,
            )

    def close(self) -> None:
        self._container.close()

    def _decoded(self) -> Iterator[tuple[float | None, NDArray[Any]]]:
        """Yields samples ``[channels, n]`` with their timestamps in seconds, where known."""
        resampler, wanted = None, None
        for frame in decoded(self._container, self._stream, self._clock):
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
            if kind == ("fltp", self._layout, self.sample_rate):
                yield seconds, frame.to_ndarray()
                continue
            if kind != wanted:
                resampler = av.AudioResampler("fltp", self._layout, self.sample_rate)
                wanted = kind
            assert resampler is not None
            # Our own account of time comes from the frames that go in.
            frame.pts = None
            for part in resampler.resample(frame):
                yield seconds, part.to_ndarray()
                seconds = None


def _is_known(layout: str) -> bool:
    try:
        av.AudioLayout(layout)
    except ValueError:
        return False
    return True
