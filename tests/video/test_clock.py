"""Films whose timestamps begin again: every picture, one clock, pictures and sound together."""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from films import film_clicks, film_flashes, write_film

from transavs.video import FilmFile
from transavs.video.clock import FilmClock, clock_of

KINDS = {
    "ts": ("film.ts", {"codec": "libx264", "sound_codec": "aac"}),
    "broadcast": ("film.ts", {"codec": "mpeg2video", "sound_codec": "ac3"}),
    "dvd": ("film.vob", {"codec": "mpeg2video", "sound_codec": "ac3"}),
    # FFmpeg gives a timestamp to one picture in many.
    "h264 in vob": ("film.vob", {"codec": "libx264", "sound_codec": "mp2"}),
}
RATE = 25


def joined(folder, kind, *parts):
    """Writes films of (seconds, first timestamp, options), and one that holds all their bytes."""
    name, codecs = KINDS[kind]
    content = b""
    for seconds, start, options in parts:
        path = write_film(
            folder / f"part_{name}",
            seconds,
            picture_start=start,
            sound_start=start,
            sample_rate=48_000,
            frame_rate=RATE,
            time_base=RATE,
            options=options,
            **codecs,
        )
        content += path.read_bytes()
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("starts", [(0, 0, 0), (0, 1000, 0), (1000, 0, 50)])
def test_parts_follow_each_other(tmp_path, caplog, kind, starts):
    b_frames = {"bf": "2"}
    seconds = (2, 3, 1)
    options = (b_frames, {"bf": "0"}, b_frames)
    path = joined(tmp_path, kind, *zip(seconds, starts, options, strict=True))
    film = FilmFile(path)
    assert "the timestamps begin again 2 times" in caplog.text and str(path) in caplog.text
    frames = list(film.frames())
    times = np.array([frame.seconds for frame in frames])
    assert len(frames) == 6 * RATE
    assert np.all(np.diff(times) > 0) and np.diff(times).max() < 0.15
    assert film.duration == pytest.approx(6, abs=0.2)
    flashes, clicks = film_flashes(frames), film_clicks(film)
    assert len(flashes) == 6 and clicks == pytest.approx(flashes, abs=0.03)
    # Whatever part is asked for, it is the same film.
    later = [frame for frame in film.frames(2.5) if frame.seconds > 2.5]
    assert [frame.seconds for frame in later] == pytest.approx(times[times > 2.5])
    assert np.array_equal(later[-1].image, frames[-1].image)


FORMAT = SimpleNamespace(flags=av.format.Flags.ts_discont.value, name="mpegts")
FILM = SimpleNamespace(start_time=0, duration=0, format=FORMAT)


def packets(*rows):
    """Packets of a picture stream (0) and a sound stream (1): (stream, seconds), a byte each."""
    streams = [
        SimpleNamespace(index=0, type="video", average_rate=10, guessed_rate=10, container=FILM),
        SimpleNamespace(index=1, type="audio"),
    ]
    for position, (stream, seconds) in enumerate(rows):
        stamp = None if seconds is None else round(seconds * 1000)
        yield SimpleNamespace(
            stream=streams[stream],
            pts=stamp,
            dts=stamp,
            pos=position,
            size=1,
            duration=100,
            time_base=Fraction(1, 1000),
        )


def joins(*rows):
    return clock_of(FILM, packets(*rows)).joins


class TestWhatIsNoOtherPart:
    def test_one_damaged_packet(self):
        assert not joins((0, 0.0), (0, 0.1), (0, 5000.0), (1, 0.1), (0, 0.3), (1, 0.2), (0, 0.4))

    def test_a_still_picture_with_sound(self):
        sound = [(1, number / 10) for number in range(300)]
        assert not joins((0, 0.0), (0, 0.1), *sound, (0, 30.0), (0, 30.1))

    def test_a_still_picture_without_sound(self):
        assert not joins((0, 0.0), (0, 0.1), (0, 60.0), (0, 60.1))

    def test_a_format_whose_times_rise(self):
        film = SimpleNamespace(start_time=2e6, duration=3e6, format=SimpleNamespace(flags=0))
        assert clock_of(film, packets((0, 1.0), (0, 0.0), (0, 0.1))) == FilmClock(2.0, 3.0)


def test_the_stream_that_goes_on_longest_decides():
    """The sound of the second part is read before the last pictures of the first."""
    first = [(0, 0.0), (1, 0.0), (0, 0.1), (1, 0.1), (0, 0.2), (0, 0.3)]
    second = [(1, 7.2), (1, 7.3), (0, 7.1), (0, 7.2), (1, 7.4)]
    for ahead in (-10, 100):
        parts = [*first, *((stream, seconds + ahead) for stream, seconds in second)]
        assert joins(*parts) == ((6, pytest.approx(0.4 - 7.1 - ahead)),)
