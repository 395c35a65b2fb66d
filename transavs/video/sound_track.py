"""The sound of a film that is written: packets copied from a file, or a sound encoded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from transavs.video.clock import FilmClock
from transavs.video.decoding import (
    SoundBlocks,
    choose_track,
    open_container,
    packets,
    read_clock,
)
from transavs.video.sound import Sound

# What .mp4, .mov and .mkv all hold and players play.
COPIED_CODECS = ("aac", "mp3", "ac3", "eac3", "alac")
_ENCODER = "aac"
_BIT_RATE = 128_000
_ENCODER_RATES_HZ = (96_000, 88_200, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 11_025, 8_000)

# Adds its stream to an opened output, and returns its packets with their times (seconds from the
# beginning of the film that is written), in rising order.
SoundTrack = Callable[[Any], Iterator[tuple[float, Any]]]


def copied_track(
    path: Path, track: int | None, clock: FilmClock | None, start: float, end: float | None
) -> SoundTrack | None:
    """Returns a track of a file as it is; None where it has to be encoded anew.

    Args:
        path: of the file.
        track: from 1 on; None takes the first.
        clock: of the film that the track belongs to; None reads the file's own.
        start: the written film begins at this second of it.
        end: and ends here; None at its end.
    """
    clock = clock or read_clock(path, "sound")
    with open_container(path, "sound") as container:
        context = choose_track(container, path, track).codec_context
        # AAC out of streams (.ts) describes itself in every packet instead.
        if context.name not in COPIED_CODECS or (context.name == "aac" and not context.extradata):
            return None
        # Parts meet within a packet; samples can be placed there, packets cannot.
        if clock.joins:
            return None

    def track_packets(output: Any) -> Iterator[tuple[float, Any]]:
        with open_container(path) as container:
            source = choose_track(container, path, track)
            stream = output.add_stream_from_template(source)
            yield 0.0, None  # the stream is there; what follows is for after the header
            newest: int | None = None
            shift = round((clock.origin + start) / source.time_base)
            for packet in packets(container, source, clock):
                if packet.dts is None or packet.pts is None:
                    continue
                # No container takes packets whose times step back, as damage makes them.
                if newest is not None and packet.dts <= newest:
                    continue
                newest = packet.dts
                seconds = float(packet.pts * packet.time_base) - clock.origin
                if end is not None and seconds >= end:
                    return
                if start > 0 and seconds < start:
                    continue
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                yield seconds - start, packet

    return track_packets


def encoded_track(
    sound: tuple[Path, int | None, FilmClock | None] | Sound, start: float, end: float | None
) -> SoundTrack:
    """Returns a sound as an AAC track.

    Args:
        sound: a file, its track and the clock of its film, as in
            :func:`copied_track`; or a sound, which is silent without end behind its own.
        start: the written film begins at this second of it.
        end: and ends here; None at its end.
    """

    def track_packets(output: Any) -> Iterator[tuple[float, Any]]:
        if isinstance(sound, Sound):
            rate, channels, blocks = sound.sample_rate_hz, 1, _windows(sound)
        else:
            decoder = SoundBlocks(*sound, allowed_rates=_ENCODER_RATES_HZ, most_channels=2)
            rate, channels, blocks = decoder.sample_rate, decoder.channels, iter(decoder)
        try:
            yield from _encoded(output, blocks, rate, channels, (start, end))
        finally:
            if not isinstance(sound, Sound):
                decoder.close()

    return track_packets


def _encoded(
    output: Any,
    blocks: Iterator[NDArray[np.float32]],
    rate: int,
    channels: int,
    span: tuple[float, float | None],
) -> Iterator[tuple[float, Any]]:
    """Yields the packets of blocks ``[channels, n]`` between two seconds."""
    start, end = span
    layout = "mono" if channels == 1 else "stereo"
    stream = output.add_stream(_ENCODER, rate=rate)
    stream.codec_context.layout = layout
    stream.codec_context.bit_rate = _BIT_RATE
    yield 0.0, None
    first = round(start * rate)
    last = None if end is None else round(end * rate)
    position = 0
    for block in blocks:
        begin, position = position, position + block.shape[1]
        kept = block[:, max(0, first - begin) :]
        begin = max(begin, first)
        if last is not None:
            kept = kept[:, : max(0, last - begin)]
        if kept.shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(kept), "fltp", layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = begin - first
            yield from _timed(stream.encode(frame))
        if last is not None and position >= last:
            break
    yield from _timed(stream.encode(None))


def _timed(packets: list[Any]) -> Iterator[tuple[float, Any]]:
    for packet in packets:
        yield float(packet.pts * packet.time_base), packet


def _windows(sound: Sound) -> Iterator[NDArray[np.float32]]:
    for position in count(0, sound.sample_rate_hz):
        yield sound.window(position, sound.sample_rate_hz).numpy()[None]
