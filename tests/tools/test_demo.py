"""demo.py: films of every kind go in, playable films come out."""

import json
import logging
import os
import signal
import sys

import av
import films
import listening_model
import numpy as np
import pytest
import soundfile
from films import FRAME_RATE, click_times, flash_times, write_film
from PIL import Image
from pycocotools import mask as coco_mask

from transavs.engine.predictor import VideoPredictor
from transavs.tools import demo, film_overlay
from transavs.tools.demo import main
from transavs.video import FilmFile
from transavs.visualization import PREDICTION_COLOR, track_color

SIDE = listening_model.SIZE[0]


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return listening_model.write_options(tmp_path_factory.mktemp("model"))


def square(seconds):
    return films.flashes(seconds, (SIDE, SIDE))


def loud_then_quiet(seconds):
    return np.where(seconds % 2 < 1, films.tone(440)(seconds), 0.0)


BROADCAST = {"picture": square, "sound_codec": "ac3", "sample_rate": 48_000}


def starts(seconds):
    return {"picture_start": seconds, "sound_start": seconds}


def run(model, path, output, *options):
    return main(["--input", str(path), "--output", str(output), *model, *map(str, options)])


def colored(image, color=PREDICTION_COLOR):
    """Pixels that lie clearly on the side of a colour, on black pictures."""
    strength = image.astype(float) @ np.array(color) / np.sum(np.square(color))
    return strength > 60


def pictures(path):
    with av.open(str(path)) as film:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]


class TestOverlay:
    def test_masks_where_it_sounds_and_sound_as_it_was(self, model, tmp_path, caplog):
        path = write_film(
            tmp_path / "film.mp4",
            2.0,
            picture=lambda _: np.zeros((SIDE, SIDE, 3), np.uint8),
            voices=(loud_then_quiet,),
        )
        assert run(model, path, tmp_path / "out.mp4") == 0
        found = pictures(tmp_path / "out.mp4")
        assert [time for time, _ in found] == pytest.approx(np.arange(40) / 20)
        shown = [colored(image).mean() for _, image in found]
        assert min(shown[:20]) > 0.1 and max(shown[20:]) < 0.02
        with av.open(str(path)) as before, av.open(str(tmp_path / "out.mp4")) as after:
            packets = [[bytes(p) for p in film.demux(audio=0)] for film in (before, after)]
        assert packets[0] == packets[1]
        assert "sound copied" in caplog.text and "nothing tells which classes" in caplog.text

    @pytest.mark.parametrize("options", [(), ("--every-frame",), ("--fps", 4, "--strip")])
    def test_flashes_and_clicks_stay_together(self, model, tmp_path, options):
        path = write_film(tmp_path / "film.mkv", 3.0, picture=square, sound_codec="flac")
        assert run(model, path, tmp_path / "out.mp4", *options) == 0
        flashes, clicks = flash_times(tmp_path / "out.mp4"), click_times(tmp_path / "out.mp4")
        assert len(flashes) == len(clicks) == 3
        assert np.abs(np.subtract(flashes, clicks)).max() < 1 / FRAME_RATE
        assert flashes == pytest.approx([0, 1, 2], abs=0.01)

    def test_a_part_with_a_strip_and_objects(self, model, tmp_path):
        path = write_film(
            tmp_path / "film.mp4",
            3.0,
            picture=lambda _: np.zeros((SIDE, SIDE, 3), np.uint8),
            voices=(loud_then_quiet,),
        )
        options = ("--start", 0.5, "--end", 2.5, "--strip", "--view", "objects", "--every-frame")
        assert run(model, path, tmp_path / "out.mp4", *options) == 0
        found = pictures(tmp_path / "out.mp4")
        assert found[0][0] == 0 and found[-1][0] == pytest.approx(1.95)
        assert found[0][1].shape == (SIDE + 48, SIDE, 3)
        first, quiet = found[2][1][:SIDE], found[20][1][:SIDE]
        assert colored(first, track_color(1)).mean() > 0.1 > colored(quiet).mean()
        assert found[0][1][SIDE:].max() > 200

    def test_scores_and_thresholds(self, model, tmp_path):
        path = write_film(
            tmp_path / "film.mp4",
            1.0,
            picture=lambda _: np.full((SIDE, SIDE, 3), 100, np.uint8),
            voices=(films.tone(440),),
        )
        assert run(model, path, tmp_path / "out.mp4", "--view", "score") == 0
        heat = pictures(tmp_path / "out.mp4")[5][1].sum(-1)
        # The dog's rows are light yellow, everything else is darker than it was.
        assert heat.max() > 400 and np.median(heat) < 250
        counts = []
        for threshold in (0.0005, 0.5, 0.8999):
            masks = tmp_path / f"{threshold}.json"
            options = ("--threshold", threshold, "--save-masks", masks)
            assert run(model, path, tmp_path / "out.mp4", *options) == 0
            (entry,) = json.loads(masks.read_text())
            counts.append(int(coco_mask.decode(entry["segmentation"]).sum()))
        assert counts[0] > counts[1] > counts[2] > 0

    def test_another_sound_is_heard_and_seen(self, model, tmp_path):
        path = write_film(tmp_path / "film.mp4", 2.0, picture=square, voices=(films.tone(440),))
        soundfile.write(tmp_path / "other.wav", films.tone(900)(np.arange(80_000) / 16_000), 16_000)
        output = tmp_path / "out.mp4"
        assert run(model, path, output, "--sound", tmp_path / "other.wav") == 0
        written = FilmFile(output)
        assert written.duration == pytest.approx(2.0, abs=0.1)
        spectrum = np.abs(np.fft.rfft(written.sound().window(0, 16_000).numpy()))
        assert abs(int(spectrum.argmax()) - 900) <= 1
        assert run(model, path, output, "--sound", "silence") == 0
        assert not FilmFile(output).has_sound


class TestFilmsOfEveryKind:
    """What README's table of behaviours says."""

    def test_without_sound(self, model, tmp_path, caplog):
        path = write_film(tmp_path / "film.mp4", 1.0, picture=square, voices=())
        assert run(model, path, tmp_path / "out.mp4", "--strip") == 0
        assert "has no sound: the model hears silence" in caplog.text
        assert not FilmFile(tmp_path / "out.mp4").has_sound

    def test_several_tracks(self, model, tmp_path):
        voices = (films.tone(440), films.tone(1_500))
        path = write_film(tmp_path / "film.mkv", 1.0, picture=square, voices=voices)
        assert run(model, path, tmp_path / "out.mkv", "--audio-track", 2) == 0
        with av.open(str(tmp_path / "out.mkv")) as film:
            assert len(film.streams.audio) == 1
        spectrum = np.fft.rfft(FilmFile(tmp_path / "out.mkv").sound().window(0, 16_000).numpy())
        assert abs(int(np.abs(spectrum).argmax()) - 1_500) <= 1

    def test_half_a_second(self, model, tmp_path):
        path = write_film(tmp_path / "film.mp4", 0.5, picture=square, voices=(films.tone(440),))
        assert run(model, path, tmp_path / "out.mp4", "--save-masks", tmp_path / "masks") == 0
        assert len(pictures(tmp_path / "out.mp4")) == 10
        assert [file.name for file in (tmp_path / "masks").iterdir()] == ["000000250.png"]

    def test_upright(self, model, tmp_path):
        matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
        path = write_film(tmp_path / "film.mov", 0.5, matrix=matrix)
        assert run(model, path, tmp_path / "out.mov") == 0
        assert pictures(tmp_path / "out.mov")[0][1].shape == (64, 48, 3)

    def test_larger_than_the_limit(self, model, tmp_path):
        path = write_film(tmp_path / "film.mp4", 0.2)
        assert run(model, path, tmp_path / "out.mp4", "--longest-side", 32) == 0
        assert pictures(tmp_path / "out.mp4")[0][1].shape == (24, 32, 3)

    def test_damaged_in_the_middle(self, model, tmp_path):
        rng = np.random.default_rng(0)
        path = write_film(
            tmp_path / "film.ts",
            3.0,
            picture=lambda _: rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
            voices=(films.tone(440),),
        )
        content = bytearray(path.read_bytes())
        middle = slice(len(content) * 2 // 5, len(content) // 2)
        content[middle] = rng.bytes(middle.stop - middle.start)
        path.write_bytes(content)
        assert run(model, path, tmp_path / "out.mp4") == 0
        times = [time for time, _ in pictures(tmp_path / "out.mp4")]
        assert np.all(np.diff(times) > 0) and times[-1] > 2.8
        assert FilmFile(tmp_path / "out.mp4").has_sound

    def test_timestamps_that_begin_again(self, model, tmp_path):
        """AC-3 would be copied, but parts do not meet where its packets do."""
        parts = [
            write_film(tmp_path / f"{start}.ts", 2.0, **BROADCAST, **starts(start)).read_bytes()
            for start in (5.0, 500.0)
        ]
        path = tmp_path / "film.ts"
        path.write_bytes(parts[0] + parts[1] + parts[0])
        assert run(model, path, tmp_path / "out.mp4") == 0
        assert len(pictures(tmp_path / "out.mp4")) == 3 * 40
        flashes, clicks = flash_times(tmp_path / "out.mp4"), click_times(tmp_path / "out.mp4")
        assert len(flashes) == 6 and clicks == pytest.approx(flashes, abs=0.03)

    def test_sound_that_steps_back_is_no_matter_of_the_disk(self, model, tmp_path, caplog):
        """Two files in one where the format does not foresee it."""
        film = write_film(tmp_path / "film.mkv", 1.0, **BROADCAST)
        film.write_bytes(2 * film.read_bytes())
        assert run(model, film, tmp_path / "out.mp4") == 0
        assert "20 pictures have times before those of others" in caplog.text
        assert len(pictures(tmp_path / "out.mp4")) == 20

    def test_a_folder_of_pictures(self, model, tmp_path):
        folder = tmp_path / "clip"
        folder.mkdir()
        for second in range(3):
            Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / f"{second}.png")
        soundfile.write(folder / "sound.wav", loud_then_quiet(np.arange(48_000) / 16_000), 16_000)
        assert run(model, folder, tmp_path / "out.mp4") == 0
        shown = [colored(image).mean() > 0.1 for _, image in pictures(tmp_path / "out.mp4")]
        assert shown == [True, False, True]
        assert FilmFile(tmp_path / "out.mp4").has_sound
        assert run(model, folder, tmp_path / "fast.mp4", "--folder-fps", "2") == 0
        assert [seconds for seconds, _ in pictures(tmp_path / "fast.mp4")] == [0.0, 0.5, 1.0]


class TestMasks:
    def test_pngs(self, model, tmp_path):
        path = write_film(tmp_path / "film.mp4", 2.0, picture=square, voices=(loud_then_quiet,))
        assert run(model, path, tmp_path / "out.mp4", "--save-masks", tmp_path / "masks") == 0
        masks = [np.array(Image.open(file)) for file in sorted((tmp_path / "masks").iterdir())]
        assert [int((mask > 0).sum()) for mask in masks] == [listening_model.MARKED_PIXELS, 0]

    def test_home_folder(self, model, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_film(tmp_path / "film.mp4", 1.0, picture=square)
        soundfile.write(tmp_path / "sound.wav", np.full(16_000, 0.25), 16_000)
        predictor = VideoPredictor(model[1], model[3], "cpu")
        options = film_overlay.OverlayOptions(save_masks="~/masks")
        film_overlay.write_overlay(
            predictor, "~/film.mp4", "~/out.mp4", options, sound="~/sound.wav"
        )
        assert {file.name for file in tmp_path.iterdir()} == {
            "film.mp4", "sound.wav", "out.mp4", "masks"
        }  # fmt: skip

    def test_run_lengths(self, model, tmp_path):
        path = write_film(tmp_path / "film.mp4", 2.0, picture=square, voices=(loud_then_quiet,))
        json_file = tmp_path / "masks.json"
        assert run(model, path, tmp_path / "out.mp4", "--save-masks", json_file) == 0
        (entry,) = json.loads(json_file.read_text())
        assert entry["seconds"] == 0.5 and entry["track_id"] == 1
        assert entry["score"] == pytest.approx(0.9, abs=1e-3)

    def test_a_picture_that_stays_has_the_masks_of_every_moment(self, model, tmp_path):
        """It is shown again with each of them: in the middle of a film, and at its end."""
        times = [0.0, 0.5, 8.6, 9.0]
        path = write_film(
            tmp_path / "slides.mkv",
            13.0,
            picture=lambda _: np.zeros((SIDE, SIDE, 3), np.uint8),
            voices=(loud_then_quiet,),
            times=times,
        )
        assert run(model, path, tmp_path / "out.mp4", "--save-masks", tmp_path / "masks") == 0
        files = sorted((tmp_path / "masks").iterdir())
        assert [file.name[:6] for file in files] == [f"{second:06d}" for second in range(13)]
        marked = [bool(np.array(Image.open(file)).any()) for file in files]
        assert marked == [second % 2 == 0 for second in range(13)]
        found = pictures(tmp_path / "out.mp4")
        shown = [time for time, _ in found]
        assert shown == pytest.approx(sorted({*times, *range(13)}), abs=0.002)
        for time, image in found:
            assert (colored(image).mean() > 0.1) == marked[int(time + 0.01)], time

    def test_no_picture_is_added_where_films_move(self, model, tmp_path):
        path = write_film(tmp_path / "film.mkv", 2.0, picture=square, frame_rate=24)
        assert run(model, path, tmp_path / "out.mp4", "--fps", 12) == 0
        assert len(pictures(tmp_path / "out.mp4")) == 48

    def test_a_folder_that_holds_masks_already(self, model, tmp_path, capsys):
        path = write_film(tmp_path / "film.mp4", 1.0, picture=square)
        options = ("--save-masks", tmp_path / "masks")
        assert run(model, path, tmp_path / "out.mp4", *options) == 0
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        assert run(model, path, tmp_path / "other.mp4", *options) == 2
        told = capsys.readouterr().err
        assert f"{tmp_path / 'masks'} holds" in told and "000000500.png" in told
        assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


class TestStopping:
    def test_ctrl_c_leaves_a_playable_film(self, model, tmp_path, monkeypatch, caplog):
        path = write_film(tmp_path / "film.mp4", 3.0, picture=square)
        drawn = []
        original = film_overlay.draw_prediction

        def draw(*arguments):
            drawn.append(1)
            if len(drawn) == 25:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments)

        monkeypatch.setattr(film_overlay, "draw_prediction", draw)
        masks = tmp_path / "masks.json"
        assert run(model, path, tmp_path / "out.mp4", "--save-masks", masks) == 130
        found = pictures(tmp_path / "out.mp4")
        assert len(found) == 25
        assert click_times(tmp_path / "out.mp4") == pytest.approx([0, 1], abs=0.01)
        assert FilmFile(tmp_path / "out.mp4").duration == pytest.approx(1.25, abs=0.05)
        assert isinstance(json.loads(masks.read_text()), list)
        assert "stopped: the film plays up to here" in caplog.text
        assert {file.name for file in tmp_path.iterdir()} == {"film.mp4", "out.mp4", "masks.json"}

    def test_ctrl_c_before_the_first_picture(self, model, tmp_path, monkeypatch, caplog):
        path = write_film(tmp_path / "film.mp4", 1.0, picture=square)
        original = film_overlay.FilmWriter

        def interrupted(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments)

        monkeypatch.setattr(film_overlay, "FilmWriter", interrupted)
        assert run(model, path, tmp_path / "out.mp4") == 130
        assert "out.mp4 was not written" in caplog.text
        assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]

    def test_a_failure_leaves_nothing(self, model, tmp_path, monkeypatch):
        path = write_film(tmp_path / "film.mp4", 1.0, picture=square)

        def fail(*arguments):
            raise OSError("disk full")

        monkeypatch.setattr(film_overlay, "draw_prediction", fail)
        assert run(model, path, tmp_path / "out.mp4", "--save-masks", tmp_path / "m.json") == 2
        assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--fps", "0"), "--fps must be above 0"),
            (("--fps", "inf"), "at most 1000, got inf"),
            (("--fps", "nan"), "at most 1000, got nan"),
            (("--folder-fps", "0"), "--folder-fps must be above 0"),
            (("--folder-fps", "25"), "film.mp4 is a film"),
            (("--start", "nan"), "got second nan to its end"),
            (("--start", "inf"), "got second inf to its end"),
            (("--end", "nan"), "got second 0 to second nan"),
            (("--device", "meta"), "--device must be"),
            (("--longest-side", "-1"), "must not be negative"),
            (("--start", "5"), "ends at second 1.0"),
            (("--end", "0"), "expected a part of"),
            (("--audio-track", "2"), "there is no sound track 2"),
            (("--sound", "nothing.wav"), "nothing.wav: check the path"),
            (("--sound", "nan.wav"), "nan.wav must be finite"),
            (("--device", "abacus"), "--device must be"),
            (("--threshold", "1"), "the threshold must lie in [0, 1)"),
            (("--threshold", "0.5", "--view", "objects"), "leave the threshold out"),
        ],
    )
    def test_options(
        self, model, tmp_path, tmp_path_factory, monkeypatch, capsys, options, message
    ):
        monkeypatch.chdir(tmp_path_factory.mktemp("sounds"))
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
        noise[9_000] = np.nan
        soundfile.write("nan.wav", noise, 16_000, subtype="FLOAT")
        path = write_film(tmp_path / "film.mp4", 1.0)
        assert run(model, path, tmp_path / "out.mp4", *options) == 2
        assert message in capsys.readouterr().err
        assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]

    @pytest.mark.parametrize(
        ("samples", "message"), [([], "holds no samples"), ([0.5, np.nan], "must be finite")]
    )
    def test_sounds(self, model, tmp_path, capsys, samples, message):
        path = write_film(tmp_path / "film.mp4", 1.0)
        sound = tmp_path / "sound.wav"
        soundfile.write(sound, np.array(samples), 16_000, subtype="FLOAT")
        options = ("--sound", sound, "--save-masks", tmp_path / "results" / "masks")
        assert run(model, path, tmp_path / "out.mp4", *options) == 2
        assert f"{sound} {message}" in capsys.readouterr().err
        assert {file.name for file in tmp_path.iterdir()} == {"film.mp4", "sound.wav"}

    def test_films(self, model, tmp_path, capsys):
        (tmp_path / "words.mp4").write_text("These are words.\n" * 100)
        assert run(model, tmp_path / "words.mp4", tmp_path / "out.mp4") == 2
        assert "as a film" in capsys.readouterr().err
        assert run(model, tmp_path / "nothing.mp4", tmp_path / "out.mp4") == 2
        assert "no film at" in capsys.readouterr().err
        assert run(model, tmp_path / "words.mp4", tmp_path / "out.gif") == 2
        assert "the ending must be one of" in capsys.readouterr().err

    def test_a_picture(self, model, tmp_path, capsys):
        for suffix in (".png", ".jpg"):
            path = tmp_path / f"picture{suffix}"
            Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(path)
            assert run(model, path, tmp_path / "out.mp4") == 2
            assert "is one picture, expected a film" in capsys.readouterr().err

    def test_a_part_without_pictures(self, model, tmp_path, capsys):
        path = write_film(tmp_path / "film.mkv", 1.0, picture=square, picture_start=1.0)
        masks = tmp_path / "masks.json"
        options = ("--start", "0.2", "--end", "0.8", "--save-masks", masks)
        assert run(model, path, tmp_path / "out.mp4", *options) == 2
        assert "shows no picture from second 0.2 to 0.8" in capsys.readouterr().err
        assert [file.name for file in tmp_path.iterdir()] == ["film.mkv"]

    def test_a_folder_as_output(self, tmp_path, capsys):
        (tmp_path / "out.mp4").mkdir()
        assert run([], tmp_path / "film.mp4", tmp_path / "out.mp4") == 2
        assert "it is a folder, name a file" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["--input", "--output", "--sound", "--save-masks"])
    def test_an_empty_name(self, capsys, name):
        with pytest.raises(SystemExit) as stopped:
            main(["--input", "film.mp4", "--output", "out.mp4", name, ""])
        assert stopped.value.code == 2
        assert f"{name}: expected a name, got an empty one" in capsys.readouterr().err

    def test_a_configuration_that_is_none(self, tmp_path, capsys):
        path = tmp_path / "film.mp4"
        path.write_bytes(bytes(range(256)))
        assert run(["--config-file", str(path)], path, tmp_path / "out.mp4") == 2
        assert f"{path} is no plain YAML" in capsys.readouterr().err

    def test_over_what_is_read(self, model, tmp_path, capsys):
        path = write_film(tmp_path / "film.mp4", 0.5, picture=square)
        other = write_film(tmp_path / "other.mp4", 0.5)
        before = other.read_bytes()
        assert run(model, path, other, "--sound", other) == 2
        assert "would be written over" in capsys.readouterr().err
        assert other.read_bytes() == before
        folder = tmp_path / "clip"
        folder.mkdir()
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / "1.png")
        assert run(model, folder, tmp_path / "out.mp4", "--save-masks", folder) == 2
        assert "would lie among the pictures" in capsys.readouterr().err

    def test_over_itself(self, model, tmp_path, capsys):
        path = write_film(tmp_path / "film.mp4", 0.5)
        before = path.read_bytes()
        assert run(model, path, path) == 2
        assert "written over itself" in capsys.readouterr().err
        assert path.read_bytes() == before

    def test_weights_without_a_configuration(self, tmp_path, capsys):
        path = write_film(tmp_path / "film.mp4", 0.5)
        assert run(["--weights", "model.pth"], path, tmp_path / "out.mp4") == 2
        assert "name the configuration" in capsys.readouterr().err

    def test_without_pyav(self, model, tmp_path, capsys, monkeypatch):
        path = write_film(tmp_path / "film.mp4", 0.5)
        for name in [name for name in sys.modules if name.startswith("transavs.video")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "av", None)
        assert run(model, path, tmp_path / "out.mp4") == 2
        assert "pip install" in capsys.readouterr().err


def test_it_starts_with_the_shipped_model(tmp_path, caplog):
    path = write_film(tmp_path / "film.mp4", 0.5)
    assert run([], path, tmp_path / "out.mp4", "--device", "cpu") == 0
    assert "it was trained on dog, cow, horse, duck" in caplog.text
    assert "knows no other sounds" in caplog.text
    assert demo.build_parser().prog == "demo.py"
