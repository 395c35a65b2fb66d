"""Written films: pictures and sounds at their times, whole or not at all."""

import av
import films
import numpy as np
import pytest
import torch
from films import FRAME_RATE, SIZE, click_times, flash_times, write_film

from transavs.utils.whole_files import WholeFile
from transavs.video import (
    FilmFile,
    FilmWriter,
    WaveformSound,
    copied_track,
    encoded_track,
    writer,
)
from transavs.video.writer import check_container

FRAME = 1 / FRAME_RATE


def rewrite(film, output, track, start=0.0, end=None):
    with FilmWriter(output, film.height, film.width, film.frame_rate, track) as writer:
        for frame in film.frames(start, end):
            writer.write(frame.image, frame.seconds - start, frame.duration)
    return output


@pytest.mark.parametrize("how", ["copied", "encoded"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_flashes_and_clicks_stay_together(tmp_path, how, suffix):
    film = FilmFile(write_film(tmp_path / "film.mp4", 3.0))
    source = (film.path, None, film.clock)
    track = copied_track(*source, 0, None) if how == "copied" else encoded_track(source, 0, None)
    output = rewrite(film, tmp_path / f"out{suffix}", track)
    flashes, clicks = flash_times(output), click_times(output)
    assert len(flashes) == len(clicks) == 3
    assert np.abs(np.subtract(flashes, clicks)).max() < 0.5 * FRAME
    # Matroska does not know of the delay of an AAC encoder, 23 ms.
    assert flashes == pytest.approx([0.0, 1.0, 2.0], abs=0.025)


@pytest.mark.parametrize("how", ["copied", "encoded"])
def test_a_part_of_a_film_with_late_streams(tmp_path, how):
    """Timestamps, not counts: pictures begin 0.25 s and sounds 0.4 s after the film."""
    path = tmp_path / "film.mkv"
    write_film(path, 4.0, picture_start=0.25, sound_start=0.25)
    film = FilmFile(path)
    source = (film.path, None, film.clock)
    track = (copied_track if how == "copied" else _encoded)(*source, 1.4, 3.6)
    output = rewrite(film, tmp_path / "out.mp4", track, 1.4, 3.6)
    flashes, clicks = flash_times(output), click_times(output)
    assert len(flashes) == len(clicks) == 2
    assert np.abs(np.subtract(flashes, clicks)).max() < 0.5 * FRAME


def _encoded(path, track, origin, start, end):
    return encoded_track((path, track, origin), start, end)


def test_times_of_a_variable_rate_stay(tmp_path):
    times = [0.0, 0.05, 0.3, 0.35, 1.4]
    film = FilmFile(write_film(tmp_path / "film.mp4", 1.5, times=times))
    output = rewrite(film, tmp_path / "out.mp4", None)
    assert [frame.seconds for frame in FilmFile(output).frames()] == pytest.approx(times, abs=1e-3)
    assert not FilmFile(output).has_sound


def test_a_waveform_becomes_a_track(tmp_path):
    film = FilmFile(write_film(tmp_path / "film.mp4", 1.0, voices=()))
    tone = torch.from_numpy(films.tone(1000)(np.arange(80_000) / 16_000)).float()
    output = tmp_path / "out.mp4"
    track = encoded_track(WaveformSound(tone), 0.0, None)
    with FilmWriter(output, film.height, film.width, film.frame_rate, track) as writer:
        for frame in film.frames():
            writer.write(frame.image, frame.seconds, frame.duration)
        writer.close(until=1.0)
    written = FilmFile(output)
    assert written.duration == pytest.approx(1.0, abs=0.1)
    spectrum = torch.fft.rfft(written.sound().window(0, 16_000)).abs()
    assert abs(int(spectrum.argmax()) - 1000) <= 1


def test_what_cannot_be_copied(tmp_path):
    """PCM has no place in .mp4, and AAC of streams describes itself elsewhere."""
    plain = write_film(tmp_path / "film.mkv", 0.2, sound_codec="pcm_s16le")
    stream = write_film(tmp_path / "film.ts", 0.2)
    assert copied_track(plain, None, None, 0, None) is None
    assert copied_track(stream, None, None, 0, None) is None


@pytest.mark.parametrize(("height", "matrix"), [(480, 5), (720, 1)])
def test_colors_stay_and_are_declared(tmp_path, height, matrix):
    values = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [120, 120, 120]], np.uint8)
    image = np.repeat(values, 32, axis=0)[None].repeat(height, axis=0)
    with FilmWriter(tmp_path / "out.mp4", height, 128, 25) as writer:
        writer.write(np.ascontiguousarray(image), 0.0, 0.04)
    found = next(FilmFile(tmp_path / "out.mp4").frames()).image.astype(int)
    for bar, value in enumerate(values.astype(int)):
        assert np.abs(found[height // 2, 32 * bar + 16] - value).max() <= 6
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == matrix


class TestWhole:
    IMAGE = np.zeros((48, 64, 3), np.uint8)

    def test_nothing_is_left_of_a_failure(self, tmp_path):
        (tmp_path / "out.mp4").write_bytes(b"before")
        with pytest.raises(RuntimeError), FilmWriter(tmp_path / "out.mp4", 48, 64, 25) as writer:
            writer.write(self.IMAGE, 0.0, 0.04)
            raise RuntimeError
        assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
        assert (tmp_path / "out.mp4").read_bytes() == b"before"

    def test_a_track_that_fails(self, tmp_path):
        def track(output):
            raise ValueError("no such sound")

        with pytest.raises(ValueError, match="no such sound"):
            FilmWriter(tmp_path / "out.mp4", 48, 64, 25, track)
        assert not list(tmp_path.iterdir())

    def test_a_name_appears_at_the_end(self, tmp_path):
        with FilmWriter(tmp_path / "folder" / "out.mp4", 48, 64, 25) as writer:
            writer.write(self.IMAGE, 0.0, 0.04)
            assert not (tmp_path / "folder" / "out.mp4").exists()
        assert [file.name for file in (tmp_path / "folder").iterdir()] == ["out.mp4"]

    def test_a_folder_in_the_way(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError):
            FilmWriter(tmp_path / "file" / "out.mp4", 48, 64, 25)

    @pytest.mark.parametrize("name", ["out.gif", "out", "out.webm"])
    def test_other_endings(self, name):
        with pytest.raises(ValueError, match="one of .mp4, .mov, .mkv"):
            check_container(name)


def test_a_name_like_an_address_is_a_file(tmp_path, monkeypatch):
    film = FilmFile(write_film(tmp_path / "film.mp4", 0.2))
    monkeypatch.chdir(tmp_path)
    rewrite(film, "pipe:1.mp4", None)
    assert {file.name for file in tmp_path.iterdir()} == {"film.mp4", "pipe:1.mp4"}


def test_a_folder_is_no_film(tmp_path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*out.mp4 \(it is a folder\)"):
        FilmWriter(tmp_path / "out.mp4", *SIZE, FRAME_RATE)
    assert not list((tmp_path / "out.mp4").iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch, suffix):
    def full(path):
        whole = WholeFile(path)
        whole.temporary.unlink()
        whole.temporary.symlink_to("/dev/full")
        return whole

    path = write_film(tmp_path / "film.mp4", 1.0)
    film = FilmFile(path)
    monkeypatch.setattr(writer, "WholeFile", full)
    output = tmp_path / f"out{suffix}"
    with pytest.raises(OSError, match=f"cannot write .*out{suffix} .No space left on device"):
        rewrite(film, output, copied_track(path, None, film.clock, 0, None))
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_what_ffmpeg_refuses_is_not_laid_on_the_disk(tmp_path):
    def backwards(output):
        for seconds, packet in copied_track(path, None, None, 0, None)(output):
            if packet is not None and seconds > 0.5:
                packet.dts = 0
            yield seconds, packet

    path = write_film(tmp_path / "film.mp4", 1.0)
    with pytest.raises(ValueError, match=r"cannot write .*out.mp4") as caught:
        rewrite(FilmFile(path), tmp_path / "out.mp4", backwards)
    assert "room" not in str(caught.value) and "convert the film" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
