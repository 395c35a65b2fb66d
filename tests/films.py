"""Small films made by PyAV: what they show and sound like is a function of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from transavs.video.film import Film, FilmFrame

SIZE = (48, 64)
FRAME_RATE = 20
SAMPLE_RATE = 44_100

Picture = Callable[[float], np.ndarray]
#: Seconds of the samples, float64 [n] -> values in [-1, 1].
Voice = Callable[[np.ndarray], np.ndarray]


def flashes(seconds: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """White during the first tenth of every second, black otherwise."""
    return np.full((*size, 3), 255 if seconds % 1 < 0.1 - 1e-6 else 0, dtype=np.uint8)


def clicks(seconds: np.ndarray) -> np.ndarray:
    """A loud 20 ms at the beginning of every second."""
    return np.where(seconds % 1 < 0.02, 0.8 * np.sin(2 * np.pi * 1000 * seconds), 0.0)


def tone(frequency_hz: float) -> Voice:
    return lambda seconds: 0.5 * np.sin(2 * np.pi * frequency_hz * seconds)


def write_film(
    path: Path,
    seconds: float = 1.0,
    *,
    picture: Picture = flashes,
    voices: Sequence[Voice] = (clicks,),
    times: Sequence[float] | None = None,
    picture_start: float = 0.0,
    sound_start: float = 0.0,
    gap: tuple[float, float] = (0.0, 0.0),
    codec: str = "libx264",
    sound_codec: str = "aac",
    sample_rate: int = SAMPLE_RATE,
    matrix: Sequence[int] | None = None,
    aspect: tuple[int, int] = (1, 1),
    colorspace: int | None = None,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    frame_rate: int = FRAME_RATE,
    time_base: int = 10_000,
) -> Path:
    """Writes a film and returns its path.

    Args:
        path: its ending says the container.
        seconds: of pictures and sound.
        picture: what is seen at a time.
        voices: one for each sound track, mono.
        times: of the frames; None takes ``frame_rate`` a second.
        picture_start: timestamp of second 0 of the pictures.
        sound_start: likewise of the sounds.
        gap: no packet of sound begins between these seconds.
        codec, sound_codec: names of FFmpeg's encoders.
        sample_rate: of the sounds.
        matrix: how a player shall turn the pictures, the nine numbers of ISO 14496-12.
        aspect: width and height of a pixel.
        colorspace: FFmpeg's number of the colour matrix; None takes BT.601 and does not say so.
        options: of the picture encoder.
        pix_fmt: of the pictures.
        frame_rate: pictures a second, as the encoder is told.
        time_base: parts of a second that the pictures' timestamps count.
    """
    frame_times = times or [number / frame_rate for number in range(round(seconds * frame_rate))]
    with av.open(str(path), "w") as output:
        height, width = picture(0.0).shape[:2]
        if codec == "libx264":
            options = options or {"crf": "10"}
        film: Any = output.add_stream(codec, rate=frame_rate, options=options or {})
        film.height, film.width, film.pix_fmt = height, width, pix_fmt
        film.codec_context.time_base = Fraction(1, time_base)
        film.codec_context.gop_size = frame_rate // 2
        film.codec_context.sample_aspect_ratio = Fraction(*aspect)
        if matrix:
            film.set_display_matrix(matrix)
        tracks: list[Any] = []
        for _ in voices:
            track: Any = output.add_stream(sound_codec, rate=sample_rate)
            track.codec_context.layout = "mono"
            tracks.append(track)
        for track, voice in zip(tracks, voices, strict=True):
            for packet in _sound_packets(track, voice, seconds, sample_rate, sound_start):
                if not gap[0] <= float(packet.pts * packet.time_base) < gap[1]:
                    output.mux(packet)
        for moment in frame_times:
            frame = av.VideoFrame.from_ndarray(picture(moment), "rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace or 5)
            frame.pts = round((moment + picture_start) * time_base)
            frame.time_base = Fraction(1, time_base)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
    return path


def _sound_packets(
    track: Any, voice: Voice, seconds: float, sample_rate: int, start: float
) -> list[Any]:
    samples = voice(np.arange(round(seconds * sample_rate)) / sample_rate).astype(np.float32)
    packets = []
    for first in range(0, len(samples), 1024):
        part = samples[None, first : first + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", "mono")
        frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
        frame.pts = first + round(start * sample_rate)
        if track.codec_context.format.name != "fltp":
            frame = av.AudioResampler(track.codec_context.format.name).resample(frame)[0]
        packets += track.encode(frame)
    return packets + track.encode(None)


def flash_times(path: Path) -> list[float]:
    """When white pictures follow black ones, by FFmpeg's own timestamps."""
    times, before = [], 0.0
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            level = float(frame.to_ndarray(format="gray")[: SIZE[0]].mean())
            if level > 128 and before <= 128:
                times.append(frame.time - (film.start_time or 0) / 1e6)
            before = level
    return times


def click_times(path: Path, track: int = 0) -> list[float]:
    """When loud samples follow a tenth of a second of quiet, by FFmpeg's own timestamps."""
    times: list[float] = []
    last_loud = -1.0
    with av.open(str(path)) as film:
        for frame in film.decode(audio=track):
            samples = np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0)
            samples = samples / (1.0 if frame.format.name.startswith("flt") else 32768.0)
            begin = frame.time - (film.start_time or 0) / 1e6
            for sample in np.flatnonzero(samples > 0.3):
                moment = begin + sample / frame.sample_rate
                if moment - last_loud > 0.1:
                    times.append(moment)
                last_loud = moment
    return times


def film_flashes(frames: Sequence[FilmFrame]) -> list[float]:
    """When white pictures follow black ones, in what the film room reads."""
    white = [frame.image.mean() > 128 for frame in frames]
    return [
        frame.seconds
        for frame, now, before in zip(frames, white, [False, *white], strict=False)
        if now and not before
    ]


def film_clicks(film: Film, seconds: float = 20.0) -> list[float]:
    """When loud samples follow a tenth of a second of quiet, in what the film room hears."""
    sound = film.sound()
    window = sound.window(0, round(seconds * sound.sample_rate_hz)).abs().numpy()
    loud = np.flatnonzero(window > 0.3) / sound.sample_rate_hz
    sound.close()
    return [float(at) for at in loud[np.diff(loud, prepend=-1.0) > 0.1]]
