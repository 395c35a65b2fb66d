"""Folders of pictures and arrays as films."""

import cv2
import numpy as np
import PIL.Image
import pytest
import soundfile
import torch

from transavs.video import ArrayFilm, FilmFile, FrameFolder, open_film


def write_folder(folder, count=12, sounds=("sound.wav",)):
    folder.mkdir()
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"clip_{number}.png"), np.full((20, 30, 3), number, np.uint8))
    for name in sounds:
        soundfile.write(folder / name, np.full(16_000 * count, 0.5), 16_000)
    return folder


def test_a_folder_in_the_order_of_its_numbers(tmp_path):
    folder = write_folder(tmp_path / "clip")
    (folder / "clip_12.png").rename(folder / "²12.png")  # a digit, but no decimal one
    film = open_film(folder)
    assert isinstance(film, FrameFolder)
    frames = list(film.frames())
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(1, 13))
    assert [frame.seconds for frame in frames] == [float(second) for second in range(12)]
    assert (film.height, film.width, film.duration, film.frame_rate) == (20, 30, 12.0, 1.0)
    assert film.has_sound
    assert film.sound().window(0, 100).allclose(torch.tensor(0.5))


def test_parts_of_a_folder(tmp_path):
    film = FrameFolder(write_folder(tmp_path / "clip", 4), frame_rate=10)
    assert film.duration == 0.4
    assert [frame.seconds for frame in film.frames(0.3)] == [0.3]
    assert [frame.seconds for frame in film.frames(0.15, 0.3)] == pytest.approx([0.15, 0.2])
    with pytest.raises(ValueError, match="ends at second 0.40"):
        next(film.frames(0.4))


@pytest.mark.parametrize(
    ("rate", "seconds", "told"),
    [(1, 12, False), (1, 12.9, False), (1, 2, True), (6, 2, False), (1, 60, True)],
)
def test_pictures_and_sound_of_different_lengths(tmp_path, caplog, rate, seconds, told):
    folder = write_folder(tmp_path / "clip", sounds=())
    soundfile.write(folder / "sound.wav", np.full(int(16_000 * seconds), 0.5), 16_000)
    film = open_film(folder, folder_rate=rate)
    assert film.frame_rate == rate and film.duration == 12 / rate
    warning = f"12 pictures at 1 a second last 12.0 s, but the sound {folder}/sound.wav lasts "
    assert (warning in caplog.text) == told
    assert (f"--folder-fps {12 / seconds:g}" in caplog.text) == told


def test_pictures_are_upright(tmp_path):
    folder = write_folder(tmp_path / "clip", 1)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = PIL.Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    stored.save(folder / "clip_1.png", exif=exif)
    film = open_film(folder)
    assert (film.height, film.width) == (30, 20)


def test_sound_from_elsewhere_and_none(tmp_path):
    folder = write_folder(tmp_path / "clip", 2, sounds=())
    film = FrameFolder(folder)
    assert not film.has_sound and not film.sound().window(0, 9).any()
    soundfile.write(tmp_path / "other.flac", np.full(8_000, 0.25), 8_000)
    film = FrameFolder(folder, tmp_path / "other.flac")
    assert film.has_sound and film.sound().window(8_000, 9).allclose(torch.tensor(0.25), atol=1e-3)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_sound_of_no_samples_is_none(tmp_path, suffix):
    folder = write_folder(tmp_path / "clip", 2, sounds=())
    soundfile.write(folder / f"sound{suffix}", np.zeros(0), 16_000)
    film = FrameFolder(folder)
    assert not film.has_sound and film.sound().is_silence


class TestFoldersWithout:
    def test_pictures(self, tmp_path):
        with pytest.raises(ValueError, match="holds no pictures"):
            open_film(tmp_path)

    def test_a_clear_sound(self, tmp_path):
        with pytest.raises(ValueError, match=r"several sounds \(a.wav, b.wav\)"):
            FrameFolder(write_folder(tmp_path / "clip", 1, ("b.wav", "a.wav")))

    def test_one_size(self, tmp_path):
        folder = write_folder(tmp_path / "clip", 2)
        cv2.imwrite(str(folder / "clip_2.png"), np.zeros((30, 20, 3), np.uint8))
        with pytest.raises(ValueError, match="clip_2.png is 20 x 30 pixels, .*clip_1.png.*EXIF"):
            list(FrameFolder(folder).frames())

    def test_readable_pictures(self, tmp_path):
        folder = write_folder(tmp_path / "clip", 2)
        (folder / "clip_2.png").write_bytes(b"no picture")
        with pytest.raises(ValueError, match="clip_2.png is no readable .* export it again"):
            list(FrameFolder(folder).frames())

    def test_whole_pictures(self, tmp_path):
        """OpenCV gives a grey lower part to a JPEG that breaks off."""
        folder = tmp_path / "clip"
        folder.mkdir()
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        (folder / "1.jpg").write_bytes(data)
        (folder / "2.jpg").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="2.jpg is truncated .* export it again"):
            list(FrameFolder(folder).frames())

    @pytest.mark.parametrize("other", ["clip_1.jpg", "clip_01.png", "clip_1.PNG"])
    def test_one_picture_for_a_place(self, tmp_path, other):
        folder = write_folder(tmp_path / "clip", 2)
        cv2.imwrite(str(folder / other), np.zeros((20, 30, 3), np.uint8))
        with pytest.raises(ValueError, match="clip holds two pictures .* take one") as raised:
            open_film(folder)
        assert "clip_1.png" in str(raised.value) and other in str(raised.value)

    def test_a_rate(self, tmp_path):
        folder = write_folder(tmp_path / "clip", 2)
        for rate in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="pictures a second above 0"):
                open_film(folder, folder_rate=rate)

    def test_anything(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no folder"):
            FrameFolder(tmp_path / "clip")
        with pytest.raises(FileNotFoundError, match="no film"):
            open_film(tmp_path / "clip")


class TestArrays:
    def test_pictures_and_sound(self):
        frames = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(6, 2)
        frames = frames.repeat(3, 3)
        film = ArrayFilm(frames, torch.ones(8_000), sample_rate=8_000, frame_rate=2)
        assert [frame.seconds for frame in film.frames()] == [0.0, 0.5, 1.0]
        assert [int(frame.image.max()) for frame in film.frames()] == [0, 1, 2]
        assert film.sound().window(8_000, 5).allclose(torch.tensor(1.0), atol=0.01)

    def test_odd_and_large_ones_are_scaled(self):
        film = ArrayFilm([np.zeros((31, 4001, 3), np.uint8)], longest_side=1000)
        assert next(film.frames()).image.shape == (6, 1000, 3) == (film.height, film.width, 3)

    @pytest.mark.parametrize(
        "frames",
        [
            [],
            np.zeros((2, 4, 4), np.uint8),
            np.zeros((2, 4, 4, 3)),
            np.zeros((1, 3, 4, 4), np.uint8),
        ],
    )
    def test_what_is_no_film(self, frames):
        with pytest.raises(ValueError, match=r"expected frames uint8 \[F, H, W, 3\]"):
            ArrayFilm(frames)


def test_files_are_opened_as_files(tmp_path):
    import films

    path = films.write_film(tmp_path / "film.mkv", 0.2, voices=())
    film = open_film(path, longest_side=32)
    assert isinstance(film, FilmFile) and (film.height, film.width) == (24, 32)


def test_the_last_picture_ends_with_the_part():
    film = ArrayFilm(np.zeros((3, 4, 4, 3), np.uint8))
    parts = [(frame.seconds, frame.duration) for frame in film.frames(0.25, 1.5)]
    assert parts == [(0.25, 0.75), (1.0, 0.5)]
