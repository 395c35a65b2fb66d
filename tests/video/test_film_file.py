"""Films in files: pictures by their timestamps, upright, in any container, damaged or not."""

import logging

import av
import films
import numpy as np
import pytest
import soundfile
from films import FRAME_RATE, film_clicks, film_flashes, write_film

from transavs.video import FilmFile, fitted_size

CONTAINERS = {
    "mp4": {},
    "mov": {},
    "mkv": {"codec": "mpeg4", "sound_codec": "flac"},
    "webm": {"codec": "libvpx", "sound_codec": "libopus", "sample_rate": 48_000},
    "avi": {"codec": "mpeg4", "sound_codec": "pcm_s16le"},
    "ts": {},
}


def quarters(seconds):
    """Red, green, blue and white quarters: top left, top right, bottom left, bottom right."""
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:24, :32] = (255, 0, 0)
    picture[:24, 32:] = (0, 255, 0)
    picture[24:, :32] = (0, 0, 255)
    picture[24:, 32:] = 255
    return picture


def colors_of(image):
    """Which of red, green, blue and white is in the middle of each quarter, in reading order."""
    height, width = image.shape[:2]
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    places = [(1, 1), (1, 3), (3, 1), (3, 3)]
    spots = [image[height * row // 4, width * column // 4] for row, column in places]
    return [names[tuple(int(value > 127) for value in spot)] for spot in spots]


@pytest.mark.parametrize("container", CONTAINERS)
def test_pictures_and_sound_meet_in_every_container(tmp_path, container):
    path = write_film(tmp_path / f"film.{container}", 2.0, **CONTAINERS[container])
    film = FilmFile(path)
    frames = list(film.frames())
    assert len(frames) == 40 and film.has_sound
    assert film.duration == pytest.approx(2.0, abs=0.06)
    steps = np.diff([frame.seconds for frame in frames])
    assert np.allclose(steps, 0.05, atol=0.0011)  # Matroska counts milliseconds
    bright = [frame.seconds for frame in frames if frame.image.mean() > 200]
    flashes = [bright[0], next(moment for moment in bright if moment > bright[0] + 0.5)]
    window = film.sound().window(0, 2 * 16_000).numpy()
    loud = np.flatnonzero(np.abs(window) > 0.3) / 16_000
    clicks = [loud[0], loud[loud > loud[0] + 0.5][0]]
    assert np.allclose(flashes, clicks, atol=0.002), (flashes, clicks)
    # MPEG-TS makes room for the delay of its sound encoder, and begins there.
    assert flashes[0] == pytest.approx(0.023 if container == "ts" else 0.0, abs=0.002)


def test_a_film_starts_where_its_earliest_stream_does(tmp_path):
    """Both streams are late, the pictures by half a second more."""
    path = write_film(tmp_path / "late.mkv", 1.0, picture_start=3.5, sound_start=3.0)
    film = FilmFile(path)
    assert next(film.frames()).seconds == pytest.approx(0.5, abs=0.03)
    window = film.sound().window(0, 16_000)
    assert np.flatnonzero(window.abs() > 0.3)[0] / 16_000 == pytest.approx(0.0, abs=0.03)


def test_variable_frame_rate(tmp_path):
    times = [0.0, 0.1, 0.15, 0.8, 0.85]
    path = write_film(tmp_path / "variable.mp4", 1.0, times=times)
    found = [frame.seconds for frame in FilmFile(path).frames()]
    assert found == pytest.approx(times, abs=1e-3)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return FilmFile(write_film(tmp_path_factory.mktemp("parts") / "film.mp4", 3.0))


class TestParts:
    def test_the_first_is_on_screen_at_the_start(self, film):
        frames = list(film.frames(1.07, 1.3))
        assert [frame.seconds for frame in frames] == pytest.approx([1.07, 1.1, 1.15, 1.2, 1.25])
        assert [frame.image.mean() > 200 for frame in frames] == [True, False, False, False, False]

    def test_on_a_frame(self, film):
        frames = list(film.frames(1.0, 1.1))
        assert [frame.seconds for frame in frames] == pytest.approx([1.0, 1.05])

    @pytest.mark.parametrize("part", [(-1.0, None), (2.0, 2.0), (2.0, 1.0), (3.5, None)])
    def test_what_the_film_has_not(self, film, part):
        with pytest.raises(ValueError, match=r"expected a part|ends at second"):
            next(film.frames(*part))


class TestUpright:
    # ISO 14496-12: a turn by 90 degrees clockwise has a = 0, b = 1, c = -1, d = 0.
    MATRICES = {
        0: None,
        90: [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30],
        180: [-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30],
        270: [0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30],
    }
    CLOCKWISE = {
        0: ["red", "green", "blue", "white"],
        90: ["blue", "red", "white", "green"],
        180: ["white", "blue", "green", "red"],
        270: ["green", "white", "red", "blue"],
    }

    @pytest.mark.parametrize("turn", MATRICES)
    def test_turned_as_the_file_says(self, tmp_path, turn):
        path = write_film(
            tmp_path / "film.mp4", 0.2, picture=quarters, matrix=self.MATRICES[turn], voices=()
        )
        film = FilmFile(path)
        image = next(film.frames()).image
        assert image.shape == ((64, 48, 3) if turn % 180 else (48, 64, 3))
        assert image.shape[:2] == (film.height, film.width)
        assert colors_of(image) == self.CLOCKWISE[turn]

    def test_square_pixels(self, tmp_path):
        path = write_film(tmp_path / "wide.mkv", 0.2, aspect=(2, 1), voices=())
        film = FilmFile(path)
        assert (film.height, film.width) == (48, 128)
        assert next(film.frames()).image.shape == (48, 128, 3)


@pytest.mark.parametrize(
    ("given", "fitted"),
    [
        ((4320, 7680), (1080, 1920)),
        ((7680, 4320), (1920, 1080)),
        ((1080, 1920), (1080, 1920)),
        ((481, 641), (480, 640)),
        ((1, 1), (2, 2)),
        ((100, 3840), (50, 1920)),
    ],
)
def test_sizes(given, fitted):
    assert fitted_size(*given, 1920) == fitted
    assert fitted_size(481, 7680, 0) == (480, 7680)


def test_8k_is_scaled_down(tmp_path):
    large = np.zeros((4320, 7680, 3), dtype=np.uint8)
    large[:, 3840:] = 255
    path = tmp_path / "large.avi"
    write_film(
        path, picture=lambda _: large, times=[0.0], voices=(), codec="mjpeg", pix_fmt="yuvj420p"
    )
    film = FilmFile(path)
    assert (film.height, film.width) == (1080, 1920)
    image = next(film.frames()).image
    assert image.shape == (1080, 1920, 3)
    assert image[:, :950].max() < 10 and image[:, 970:].min() > 245


@pytest.mark.parametrize("height", [480, 720])
def test_colors(tmp_path, height):
    """BT.601 below 720 lines and BT.709 from there on, where the file does not say."""
    values = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [120, 120, 120]])

    def picture(seconds):
        bars = np.repeat(values, 32, axis=0)[None].repeat(height, axis=0)
        return bars.astype(np.uint8)

    matrix = 1 if height == 720 else 5
    path = write_film(
        tmp_path / "colors.mp4", picture=picture, times=[0.0], voices=(), colorspace=matrix
    )
    image = next(FilmFile(path).frames()).image.astype(int)
    for bar, value in enumerate(values):
        spot = image[height // 2, 32 * bar + 16]
        assert np.abs(spot - value).max() <= 6, (bar, spot)


class TestDamage:
    def test_in_the_middle(self, tmp_path, caplog):
        path = write_film(tmp_path / "film.ts", 4.0, picture=noise)
        content = bytearray(path.read_bytes())
        middle = slice(len(content) * 2 // 5, len(content) // 2)
        content[middle] = np.random.default_rng(0).bytes(middle.stop - middle.start)
        path.write_bytes(content)
        film = FilmFile(path)
        with caplog.at_level(logging.WARNING):
            times = [frame.seconds for frame in film.frames()]
        assert np.all(np.diff(times) > 0)
        assert min(times) < 0.1 and max(times) > 3.8 and 40 <= len(times) < 80
        window = film.sound().window(0, 64_000)
        assert window.isfinite().all()

    def test_packets_that_cannot_be_decoded_are_counted(self, tmp_path, caplog):
        path = write_film(
            tmp_path / "film.mov", 2.0, codec="png", pix_fmt="rgb24", picture=noise, voices=()
        )
        with av.open(str(path)) as container:
            places = [(packet.pos, packet.size) for packet in container.demux(video=0)]
        content = bytearray(path.read_bytes())
        for place, size in places[20:23]:
            begin = content.index(b"\x89PNG", place)
            content[begin : begin + size // 2] = bytes(size // 2)
        path.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            times = [frame.seconds for frame in FilmFile(path).frames()]
        assert times == pytest.approx([n / 20 for n in range(40) if n not in (20, 21, 22)])
        assert "3 packets of its picture are damaged and were left out" in caplog.text

    def test_cut_short(self, tmp_path):
        path = write_film(tmp_path / "film.mkv", 2.0, picture=noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        times = [frame.seconds for frame in FilmFile(path).frames()]
        assert 10 < len(times) < 40 and max(times) < 1.5


class TestErrors:
    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no film at"):
            FilmFile(tmp_path / "film.mp4")

    @pytest.mark.parametrize("content", [b"", b"These are words.\n" * 100])
    def test_words_by_the_name_of_a_film(self, tmp_path, content):
        (tmp_path / "film.mp4").write_bytes(content)
        with pytest.raises(ValueError, match="cannot read .*film.mp4 as a film"):
            FilmFile(tmp_path / "film.mp4")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"),
            ("list.ffconcat", "ffconcat version 1.0\nfile {}\n"),
        ],
    )
    def test_lists_of_other_files(self, tmp_path, name, content):
        """A page must not show one user's film to another who names it."""
        other = write_film(tmp_path / "other.ts", 1.0)
        path = tmp_path / name
        path.write_text(content.format(other.name))
        with av.open(str(path)) as readable:
            assert readable.streams.video  # FFmpeg by itself would
        with pytest.raises(ValueError, match="as a film"):
            FilmFile(path)

    def test_a_name_that_looks_like_an_address(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = write_film(tmp_path / "film.mkv", 0.2)
        path.rename("concat:a|b.mkv")
        assert FilmFile("concat:a|b.mkv").width == 64

    def test_the_beginning_of_a_film(self, tmp_path):
        path = write_film(tmp_path / "film.mp4", 1.0)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match="fetch it again"):
            FilmFile(path)

    def test_a_sound(self, tmp_path):
        soundfile.write(tmp_path / "sound.wav", np.zeros(16_000), 16_000)
        with pytest.raises(ValueError, match="holds no moving picture"):
            FilmFile(tmp_path / "sound.wav")

    def test_a_track_that_is_not_there(self, tmp_path):
        path = write_film(tmp_path / "film.mkv", 0.5, voices=(films.clicks, films.tone(440)))
        FilmFile(path, audio_track=2)
        with pytest.raises(ValueError, match=r"1 \(aac, unnamed\), 2 \(aac, .*no sound track 3"):
            FilmFile(path, audio_track=3)


def noise(seconds):
    """Pictures that do not compress well: damage hits most of them."""
    rng = np.random.default_rng(round(seconds * FRAME_RATE))
    return rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_the_helper_writes_what_it_says(tmp_path):
    path = write_film(tmp_path / "film.mkv", 1.0, voices=(films.clicks, films.tone(440)))
    with av.open(str(path)) as film:
        assert len(film.streams.audio) == 2 and film.streams.video[0].frames in (0, 20)


def test_pictures_stay_until_the_next_or_the_end_of_the_part(tmp_path):
    path = write_film(tmp_path / "slow.mkv", 20.0, times=[0.0, 10.0], voices=(films.tone(440),))
    film = FilmFile(path)

    def stays(start=0.0, end=None):
        return [(frame.seconds, frame.duration) for frame in film.frames(start, end)]

    last = (10.0, pytest.approx(10.0, abs=0.03))
    assert stays() == [(0.0, 10.0), last]
    assert stays(end=5) == [(0.0, 5.0)]
    assert stays(start=4) == [(4, 6.0), last]
    assert stays(start=4, end=5) == [(4, 1.0)]


@pytest.mark.parametrize(("voices", "whole"), [((), True), ((films.tone(440),), False)])
def test_a_last_picture_stays_for_no_sound_that_is_missing(tmp_path, voices, whole):
    path = write_film(tmp_path / "film.mkv", 4.0, picture=noise, voices=voices)
    if not whole:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    film = FilmFile(path)
    assert film.duration == pytest.approx(4.0, abs=0.03)
    last = list(film.frames())[-1]
    assert last.duration < 0.5 and last.seconds < (4 if whole else 3)


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec"),
    [
        ("film.avi", "libx264", "pcm_s16le"),
        ("film.avi", "mpeg4", "pcm_s16le"),
        ("film.asf", "libx264", "mp3"),
        ("film.asf", "mpeg4", "mp3"),
    ],
)
def test_containers_that_hold_the_times_of_decoding_alone(tmp_path, name, codec, sound_codec):
    """Pictures that lean on later ones are stored behind those."""
    options = {"bf": "3", "b-pyramid": "normal"} if codec == "libx264" else {"bf": "2"}
    path = write_film(
        tmp_path / name, 3.0, codec=codec, sound_codec=sound_codec, options=options, time_base=20
    )
    film = FilmFile(path)
    frames = list(film.frames())
    assert len(frames) == 60
    assert np.diff([frame.seconds for frame in frames]) == pytest.approx(1 / 20, abs=0.0011)
    assert film_flashes(frames) == pytest.approx(film_clicks(film), abs=0.003)
    assert len(film_clicks(film)) == 3
    found = list(film.frames(1.5))
    later = [frame for frame in frames if frame.seconds > 1.5]
    assert [one.seconds for one in found[1:]] == pytest.approx([one.seconds for one in later])
    for one, other in zip(found[1:], later, strict=True):
        assert np.array_equal(one.image, other.image)


def test_a_start_is_found_where_the_container_seeks_badly(tmp_path):
    """Transport streams lead to a key frame behind the second that was asked for."""
    path = write_film(tmp_path / "film.ts", 3.0, options={"crf": "10", "g": "60"})
    film = FilmFile(path)
    assert next(film.frames(0.9)).seconds == 0.9


def test_a_start_in_a_stream_that_cannot_be_sought(tmp_path):
    path = write_film(tmp_path / "film.h264", 2.0, voices=(), options={"bf": "0"})
    film = FilmFile(path)
    whole = [frame.seconds for frame in film.frames()]
    assert [frame.seconds for frame in film.frames(1.0)] == [s for s in whole if s >= 1.0]
