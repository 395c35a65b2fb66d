"""The clock of a film: one for pictures and sound, also where the file's timestamps begin again.

Transport streams and the like may be laid end to end (``cat a.ts b.ts``, the chapters of a DVD, a
broadcast whose clock was set): each part has timestamps of its own. They are found by reading the
packets once, without decoding any, and every part is moved behind the one before it, all its
streams by the same time, so that pictures and sound stay together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from av.format import Flags

# Microseconds, the unit of a container's own times.
_CONTAINER_UNIT = 1_000_000
# Where a file does not tell, or tells how fine its timestamps are instead.
_USUAL_FRAME_RATE = 25.0
_HIGHEST_FRAME_RATE = 1000.0
# So far, in seconds, the timestamps of a stream may step back without being another part's.
_BACK_SECONDS = 0.03
# Ahead of all streams, by more than a still picture or a pause of the sound explains.
_AHEAD_SECONDS = 10.0
# A film without sound may show a still picture for long.
_AHEAD_ALONE_SECONDS = 3600.0


@dataclass(frozen=True)
class FilmClock:
    """When a film begins, how long it lasts, and where its timestamps begin again.

    Attributes:
        origin: timestamp of the film's beginning, in seconds.
        duration: in seconds; None where the container does not tell.
        joins: of each part behind the first, its first byte and the seconds that are added to its
            timestamps, in the order of the file.
    """

    origin: float = 0.0
    duration: float | None = None
    joins: tuple[tuple[int, float], ...] = ()

    def move(self, packet: Any, position: int) -> None:
        """Adds to a packet's timestamps what its part needs.

        Args:
            packet: of the film, as it was read.
            position: its byte, or that of the last packet before it that has one.
        """
        if not self.joins:
            return
        part = bisect_right(self.joins, position, key=lambda join: join[0])
        shift = round(self.joins[part - 1][1] / packet.time_base) if part else 0
        pts = _presented(packet)
        packet.pts = None if pts is None else pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift


def frame_rate(stream: Any) -> float:
    """Returns the nominal pictures a second of a stream, where it does not tell a usual number."""
    rates = [stream.average_rate, stream.guessed_rate]
    if stream.container.format.name == "mpeg" and stream.codec_context.framerate:
        # FFmpeg counts timestamps there, and not every picture has one.
        rates = [stream.codec_context.framerate]
    rate = min((float(rate) for rate in rates if rate), default=0.0)
    return rate if 0 < rate <= _HIGHEST_FRAME_RATE else _USUAL_FRAME_RATE


def clock_of(container: Any, packets: Iterable[Any]) -> FilmClock:
    """Returns the clock of a container.

    Args:
        container: opened.
        packets: all of its pictures and sounds, in the order of the file; none are asked for where
            the format's timestamps cannot begin again.
    """
    origin = float(container.start_time or 0) / _CONTAINER_UNIT
    duration = container.duration
    seconds = float(duration) / _CONTAINER_UNIT if duration and duration > 0 else None
    if not container.format.flags & Flags.ts_discont.value:
        return FilmClock(origin, seconds)
    parts = _Parts()
    for packet in packets:
        parts.add(packet)
    if len(parts.spans) == 1:
        return FilmClock(origin, seconds)
    shifts = [0.0]
    for before, after in zip(parts.spans, parts.spans[1:], strict=False):
        common = before.keys() & after.keys()
        # The stream that goes on longest decides: nothing of the others is overlapped.
        gaps = [before[stream].end - after[stream].begin for stream in common]
        if not gaps:
            end = max(span.end for span in before.values())
            gaps = [end - min(span.begin for span in after.values())]
        shifts.append(shifts[-1] + max(gaps))
    end = shifts[-1] + max(span.end for span in parts.spans[-1].values())
    return FilmClock(origin, end - origin, tuple(zip(parts.begins, shifts[1:], strict=True)))


@dataclass
class _Span:
    """Timestamps of a stream in a part, in seconds."""

    begin: float
    end: float


@dataclass
class _Stream:
    """Where the reading of a stream has come to."""

    length: float
    part: int = 0
    position: int = 0
    last: float | None = None
    # Whether packets without timestamps followed.
    untimed: bool = False
    # A packet whose timestamp jumps, with that and its position: the one behind it tells whether
    # the clock does, or whether the packet is damaged.
    doubted: tuple[float, Any, int] | None = None


@dataclass
class _Parts:
    """Finds the parts: ``begins`` holds the first byte of all but the first."""

    begins: list[int] = field(default_factory=list)
    spans: list[dict[int, _Span]] = field(default_factory=lambda: [{}])
    streams: dict[int, _Stream] = field(default_factory=dict)

    def add(self, packet: Any) -> None:
        stream = self.streams.get(packet.stream.index)
        if stream is None:
            pictures = packet.stream.type == "video"
            stream = _Stream(1 / frame_rate(packet.stream) if pictures else 0.0)
            self.streams[packet.stream.index] = stream
        if packet.pos is not None:
            stream.position = packet.pos
        doubted, stream.doubted = stream.doubted, None
        if packet.dts is None:
            stream.untimed = True
            if doubted is not None:
                self._enter(stream, *doubted)
            if packet.pts is not None:
                self._extend(stream, packet)
            elif packet.size and (span := self.spans[stream.part].get(packet.stream.index)):
                span.end += stream.length
            return
        # Of pictures, the timestamps of decoding alone rise from packet to packet.
        seconds = float(packet.dts * packet.time_base)
        if not self._jumps(stream, stream.last, seconds):
            if self.begins and stream.position >= self.begins[-1]:
                stream.part = len(self.begins)
        elif doubted is None or self._jumps(stream, doubted[0], seconds):
            stream.doubted = (seconds, packet, stream.position)
            return
        else:
            self._enter(stream, *doubted)
        stream.last, stream.untimed = seconds, False
        self._extend(stream, packet)

    def _jumps(self, stream: _Stream, before: float | None, seconds: float) -> bool:
        if before is None:
            return False
        if seconds < before - _BACK_SECONDS or (stream.untimed and seconds <= before):
            return True
        together = [one.last or 0.0 for one in self.streams.values() if one.part == stream.part]
        limit = _AHEAD_SECONDS if len(self.streams) > 1 else _AHEAD_ALONE_SECONDS
        return seconds > max(before, *together) + limit

    def _enter(self, stream: _Stream, seconds: float, packet: Any, position: int) -> None:
        """Takes a stream into another part: the newest, if others alone have come there."""
        if stream.part < len(self.begins):
            self.begins[-1] = min(self.begins[-1], position)
        else:
            self.begins.append(position)
            self.spans.append({})
        stream.part = len(self.begins)
        stream.last = seconds
        self._extend(stream, packet)

    def _extend(self, stream: _Stream, packet: Any) -> None:
        pts = _presented(packet)
        begin = float((packet.dts if pts is None else pts) * packet.time_base)
        end = begin + (float((packet.duration or 0) * packet.time_base) or stream.length)
        span = self.spans[stream.part].setdefault(packet.stream.index, _Span(begin, end))
        span.begin, span.end = min(span.begin, begin), max(span.end, end)


def _presented(packet: Any) -> int | None:
    """Returns the pts of a packet; None for one that FFmpeg took from the part behind it."""
    if packet.pts is None or packet.dts is None:
        return cast("int | None", packet.pts)
    waits = float((packet.pts - packet.dts) * packet.time_base)
    return packet.pts if 0 <= waits <= _AHEAD_SECONDS else None
