"""VideoPredictor: a model says of a film what it says of the same frames and sound."""

import threading
import tracemalloc

import films
import listening_model
import numpy as np
import pytest
import soundfile
import tiny_models
import torch
from films import write_film

from transavs.audio import clip_log_mel
from transavs.data import AVSDatasetMapper
from transavs.data.clip_audio import build_clip_audio
from transavs.engine import predictor as predictor_module
from transavs.engine.known_classes import known_classes
from transavs.engine.predictor import OWN_SOUND, SILENCE, VideoPredictor
from transavs.engine.trained_model import predict_clip
from transavs.video import ArrayFilm, FileSound, FilmFile, WaveformSound

SIDE = listening_model.SIZE[0]


def loud_then_quiet(seconds):
    """A tone in the first and third second of four."""
    return np.where(seconds % 2 < 1, films.tone(440)(seconds), 0.0)


def moving(seconds):
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    picture[:, : 1 + round(10 * seconds) % SIDE] = (200, 120, 40)
    return picture


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listener")
    config = listening_model.write_config(folder)
    return VideoPredictor(config, folder / "model.pth", device="cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    return write_film(path, 4.0, picture=moving, voices=(loud_then_quiet,))


def tiny_predictor(folder, *opts, batch_size=4):
    model = tiny_models.tiny_model(*opts)
    tiny_models.make_confident(model)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    cfg = tiny_models.tiny_cfg(*opts)
    return VideoPredictor(cfg, folder / "model.pth", "cpu", batch_size)


class TestMoments:
    def test_what_sounds_is_marked_when_it_sounds(self, listener, film):
        found = list(listener.predict(film))
        assert [one.seconds for one in found] == pytest.approx([0.5, 1.5, 2.5, 3.5])
        assert [one.mask.any() for one in found] == [True, False, True, False]
        assert [one.number for one in found] == [0, 1, 2, 3]
        for one in found:
            assert one.image.shape == (SIDE, SIDE, 3) and one.mask.shape == one.score.shape
            assert one.end - one.start == pytest.approx(1.0)
        loud, quiet = found[:2]
        assert loud.mask.sum() == listening_model.MARKED_PIXELS
        assert loud.confidence == pytest.approx(0.9) and quiet.confidence == pytest.approx(0.3)
        assert [(one.query, one.track) for one in loud.objects] == [(0, 1)]
        assert np.array_equal(loud.objects[0].mask, loud.mask)
        assert found[2].objects[0].track == 1 and not quiet.objects

    def test_every_frame(self, listener, film):
        found = list(listener.predict(film, per_second=None, start=0.8, end=1.2))
        assert [one.seconds for one in found] == pytest.approx(np.arange(0.8, 1.2, 0.05))
        frames = list(FilmFile(film).frames(0.8, 1.2))
        for one, frame in zip(found, frames, strict=True):
            assert np.array_equal(one.image, frame.image)

    def test_parts_and_rates(self, listener, film):
        found = list(listener.predict(film, per_second=2.0, start=1.0, end=2.5))
        assert [one.seconds for one in found] == pytest.approx([1.25, 1.75, 2.25])
        assert found[-1].end == pytest.approx(2.5)
        # The example of 1.75 s ends at 2.24 s, that of 1.25 s began at 0.76 s.
        assert all(one.mask.any() for one in found)

    def test_pictures_that_stay(self, listener, tmp_path):
        path = write_film(tmp_path / "slides.mp4", 9.0, times=[0.0, 1.0], picture=moving)
        found = list(listener.predict(path))
        assert [one.seconds for one in found] == pytest.approx(np.arange(9) + 0.5, abs=0.03)

    def test_half_a_second(self, listener, tmp_path):
        path = write_film(tmp_path / "short.mp4", 0.5, picture=moving, voices=(films.tone(440),))
        (one,) = listener.predict(path)
        assert (one.start, one.seconds) == (0.0, pytest.approx(0.25))
        assert one.end == pytest.approx(0.5) and one.mask.any()

    def test_a_number_of_moments_that_cannot_be(self, listener, film):
        with pytest.raises(ValueError, match="moments a second above 0"):
            listener.predict(film, per_second=0.0)


class TestSounds:
    def marked(self, listener, film, sound):
        return [bool(one.mask.any()) for one in listener.predict(film, sound=sound)]

    def test_another_sound_in_its_place(self, listener, film, tmp_path):
        assert self.marked(listener, film, OWN_SOUND) == [True, False, True, False]
        assert self.marked(listener, film, SILENCE) == [False] * 4
        tone = torch.from_numpy(films.tone(440)(np.arange(48_000) / 16_000)).float()
        tone[:16_000] = 0
        assert self.marked(listener, film, tone) == [False, True, True, False]
        assert self.marked(listener, film, tone.numpy()) == [False, True, True, False]
        assert self.marked(listener, film, WaveformSound(tone)) == [False, True, True, False]
        other = write_film(tmp_path / "other.mkv", 2.0, voices=(films.tone(300),))
        assert self.marked(listener, film, other) == [True, True, False, False]
        assert self.marked(listener, film, str(other)) == [True, True, False, False]

    def test_a_film_without_sound_is_silent(self, listener, tmp_path):
        path = write_film(tmp_path / "mute.mp4", 2.0, picture=moving, voices=())
        assert self.marked(listener, path, OWN_SOUND) == [False, False]

    def test_tracks_are_chosen_by_the_film(self, listener, tmp_path):
        voices = (loud_then_quiet, lambda seconds: loud_then_quiet(seconds + 1))
        path = write_film(tmp_path / "two.mkv", 2.0, picture=moving, voices=voices)
        assert self.marked(listener, FilmFile(path), OWN_SOUND) == [True, False]
        assert self.marked(listener, FilmFile(path, audio_track=2), OWN_SOUND) == [False, True]

    def test_what_is_no_sound(self, listener, film, tmp_path):
        with pytest.raises(FileNotFoundError):
            listener.predict(film, sound=tmp_path / "nothing.wav")
        with pytest.raises(ValueError, match="must be mono"):
            listener.predict(film, sound=np.zeros((2, 9)))


class TestAgainstTheModel:
    """Frames and sound of a training clip's length, given to mapper and model by themselves."""

    @pytest.fixture(scope="class")
    @staticmethod
    def clip():
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (5, 40, 50, 3), dtype=np.uint8)
        waveform = torch.from_numpy(rng.uniform(-0.5, 0.5, 77_040)).float()
        return frames, waveform

    def test_a_clip_is_answered_as_in_evaluation(self, tmp_path, clip):
        """All frames hear the whole clip, as MODEL.TRANSAVS.AUDIO_CONTEXT clip has it."""
        frames, waveform = clip
        predictor = tiny_predictor(tmp_path, batch_size=2)
        film = ArrayFilm(frames, waveform)
        film.duration = len(waveform) / 16_000
        found = list(predictor.predict(film))
        mapper = AVSDatasetMapper(predictor.cfg, is_train=False)
        transform = mapper.augmentation.draw(40, 50, np.random.default_rng(0))
        small = np.stack(transform.apply_frames(list(frames))).transpose(0, 3, 1, 2)
        expected = predict_clip(
            predictor.model,
            {
                "frames": torch.from_numpy(np.ascontiguousarray(small)),
                "audio": clip_log_mel(waveform, 5),
                "height": 40,
                "width": 50,
            },
        )
        assert expected.masks.any() and len(found) == 5
        for second, one in enumerate(found):
            assert torch.allclose(torch.from_numpy(one.score), expected.scores[second], atol=1e-5)
            changed = one.mask != expected.masks[second].numpy()
            assert changed.mean() < 0.002
            assert len(one.heard.audio) == 5

    def test_encoders_with_a_front_end_of_their_own(self, tmp_path, clip, monkeypatch):
        """HTS-AT hears 32 kHz; the film's sound has 44.1 kHz, in memory and as a file."""
        predictor = tiny_predictor(tmp_path, *tiny_models.register_narrow_htsat(monkeypatch))
        frames, _ = clip
        loudness = np.repeat([0.5, 0.0, 0.01, 0.9, 0.1], 44_100)
        sound = np.random.default_rng(0).uniform(-1, 1, len(loudness)) * loudness
        soundfile.write(tmp_path / "sound.wav", sound, 44_100, subtype="FLOAT")
        mapper = AVSDatasetMapper(predictor.cfg, is_train=False)
        transform = mapper.augmentation.draw(40, 50, np.random.default_rng(0))
        small = np.stack(transform.apply_frames(list(frames))).transpose(0, 3, 1, 2)
        record = {"audio_file": str(tmp_path / "sound.wav"), "file_names": 5 * [""]}
        whole = {
            "frames": torch.from_numpy(np.ascontiguousarray(small)),
            **build_clip_audio(predictor.cfg).read(record),
            "height": 40,
            "width": 50,
        }
        expected = predict_clip(predictor.model, whole).scores.numpy()
        film = ArrayFilm(frames, sound, sample_rate=44_100)
        silent = [one.score for one in predictor.predict(film, sound=SILENCE)]
        assert np.abs(silent - expected).max() > 0.01
        for heard in (OWN_SOUND, tmp_path / "sound.wav", FileSound(tmp_path / "sound.wav")):
            found = list(predictor.predict(film, sound=heard))
            assert found[0].log_mel.shape == (1, 101, 64)
            for second, one in enumerate(found):
                assert np.allclose(one.score, expected[second], atol=5e-5), (heard, second)
                assert torch.allclose(one.log_mel, whole["audio"][second], atol=0.05)

    @pytest.mark.parametrize("opts", [(), ("MODEL.META_ARCHITECTURE", "TPAVI")])
    def test_batches_do_not_matter(self, tmp_path, clip, opts):
        if opts:
            opts = (*opts, "MODEL.TPAVI.CHANNELS", 8)
            torch.manual_seed(0)
            model = tiny_models.build_model(tiny_models.tiny_cfg(*opts))
            torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
            cfg = tiny_models.tiny_cfg(*opts)
            predictor = VideoPredictor(cfg, tmp_path / "model.pth", "cpu")
        else:
            predictor = tiny_predictor(tmp_path, "MODEL.TRANSAVS.AUDIO_CONTEXT", "window")
        film = ArrayFilm(*clip)
        scores = []
        for predictor.batch_size in (1, 4):
            scores.append([one.score for one in predictor.predict(film)])
        assert np.allclose(scores[0], scores[1], atol=1e-4)
        assert max(score.max() for score in scores[0]) > 0
        if opts:
            assert all(not one.objects for one in predictor.predict(film))

    def test_channels_in_the_order_of_the_configuration(self, tmp_path, clip):
        frames, waveform = clip
        predictor = tiny_predictor(tmp_path, "INPUT.FORMAT", "BGR")
        moment = next(predictor.predict(ArrayFilm(frames, waveform)))
        assert np.array_equal(moment.image, frames[0])
        swapped = tiny_predictor(tmp_path, "INPUT.FORMAT", "RGB")
        other = next(swapped.predict(ArrayFilm(frames[..., ::-1].copy(), waveform)))
        assert np.allclose(moment.score, other.score, atol=1e-5)


def test_memory_stays_flat(listener):
    """An endless film of pictures made on the way: the peak does not grow with its length."""

    class Pictures:
        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def __getitem__(self, number):
            return np.full((SIDE, SIDE, 3), number % 256, dtype=np.uint8)

    def peak(count):
        film = ArrayFilm(Pictures(count), None, frame_rate=10)
        tracemalloc.start()
        for _ in listener.predict(film, per_second=5.0):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    # Two hundred more pictures, of which a quarter would show.
    assert peak(240) < peak(40) + 50 * 3 * SIDE**2


def test_two_threads_get_their_own_answers(listener, film, tmp_path):
    mute = write_film(tmp_path / "mute.mp4", 4.0, picture=moving, voices=())
    found = {}

    def work(name, path):
        found[name] = [len(one.objects) for one in listener.predict(path, per_second=5.0)]

    threads = [threading.Thread(target=work, args=(n, p)) for n, p in [(0, film), (1, mute)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[1] == [0] * 20 and sum(found[0]) > 8


class TestModels:
    def test_the_shipped_one(self, tmp_path):
        predictor = VideoPredictor(device="cpu")
        assert "violin" in predictor.known_classes and len(predictor.known_classes) == 8
        path = write_film(tmp_path / "film.mp4", 0.5)
        (one,) = predictor.predict(path)
        assert one.mask.shape == films.SIZE and 0 <= one.confidence <= 1

    def test_classes_of_data_sets(self, tmp_path, monkeypatch):
        weights = tmp_path / "model.pth"
        weights.touch()
        cfg = tiny_models.tiny_cfg()
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        assert "baby laughter" in known_classes(cfg, str(weights))
        for name in ("('avsbench_ms3_train',)", "('demo_ms3_train',)", "()", "('other',)"):
            cfg = tiny_models.tiny_cfg("DATASETS.TRAIN", name)
            assert known_classes(cfg, str(weights)) == (), name

    def test_weights_need_their_configuration(self):
        with pytest.raises(ValueError, match="without a configuration"):
            VideoPredictor(weights="model.pth")

    def test_a_device_that_is_not_there(self, monkeypatch):
        monkeypatch.setattr(predictor_module.torch.cuda, "is_available", lambda: False)
        with pytest.raises(ValueError, match="no GPU is usable"):
            VideoPredictor(device="cuda")

    def test_a_batch_of_none(self):
        with pytest.raises(ValueError, match="at least 1"):
            VideoPredictor(batch_size=0)
