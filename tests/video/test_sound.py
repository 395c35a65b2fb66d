"""Sounds of films: the audio room's own samples, read as a stream and placed by timestamps."""

import logging
import struct

import films
import numpy as np
import pytest
import soundfile
import torch
from films import write_film

from transavs.audio import load_waveform
from transavs.audio.waveform import LOUDEST
from transavs.video import FileSound, WaveformSound, sound
from transavs.video.clock import FilmClock


def write_wav(path, seconds, rate, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("rate", "channels"),
    [(16_000, 1), (44_100, 2), (48_000, 6), (8_000, 1), (22_050, 2), (11_025, 1), (96_000, 1),
     (22_254, 1), (44_099, 2), (1_009, 1)],
)  # fmt: skip
def test_samples_are_those_of_the_audio_room(tmp_path, rate, channels):
    """Resampled second by second, yet as the whole: also where blocks meet, and at the end."""
    path = write_wav(tmp_path / "sound.wav", 3.3, rate, channels)
    expected = load_waveform(path)
    length = len(expected)
    assert abs(length - 52_800) < 16
    found = FileSound(path)
    parts = [found.window(start, 7_000) for start in range(0, 56_000, 7_000)]
    streamed = torch.cat(parts)
    assert streamed.dtype == torch.float32
    assert_same(streamed[:length], expected)
    assert not streamed[length:].any()


@pytest.mark.parametrize("new_rate", [32_000, 48_000])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_another_rate_is_resampled_once(tmp_path, rate, new_rate):
    path = write_wav(tmp_path / "sound.wav", 2.3, rate, 2)
    expected = load_waveform(path, new_rate)
    first = FileSound(path)
    found = first.at(new_rate)
    assert found.at(new_rate) is found and found.sample_rate_hz == new_rate
    assert_same(
        torch.cat([found.window(k, 9_000) for k in range(0, 180_000, 9_000)])[: len(expected)],
        expected,
    )
    samples = soundfile.read(path, dtype="float32")[0].mean(1)
    memory = WaveformSound(samples, rate)
    assert_same(memory.at(new_rate).window(0, len(expected)), expected)
    assert memory.at(16_000) is memory


def test_a_sound_of_one_rate_alone():
    class Hum(sound.Sound):
        name = "a hum"

        def window(self, start, count):
            return torch.zeros(count)

        def close(self):
            pass

    assert Hum().at(16_000).name == "a hum"
    with pytest.raises(ValueError, match="a hum has 16000 Hz, .* hears 32000 Hz: .*override at"):
        Hum().at(32_000)


def test_before_and_behind_the_sound_is_silence(tmp_path):
    path = write_wav(tmp_path / "sound.wav", 1.0, 16_000)
    expected = load_waveform(path)
    found = FileSound(path)
    before = found.window(-500, 1_000)
    assert not before[:500].any() and torch.equal(before[500:], expected[:500])
    behind = found.window(15_500, 1_000)
    assert torch.equal(behind[:500], expected[15_500:]) and not behind[500:].any()
    assert not found.window(100_000, 10).any()
    assert not found.window(-100, 50).any()


def test_memory_does_not_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "_KEPT_SECONDS", 3)
    path = write_wav(tmp_path / "sound.wav", 20.0, 8_000)
    expected = load_waveform(path)
    found = FileSound(path)
    longest = 0
    for start in range(0, 300_000, 8_000):
        assert_same(found.window(start, 16_000), expected[start : start + 16_000])
        longest = max(longest, len(found._kept))
    assert longest <= 6 * 16_000
    # Far back means from the beginning again.
    assert_same(found.window(100, 900), expected[100:1_000])


def test_a_jump_ahead(tmp_path):
    path = write_wav(tmp_path / "sound.wav", 20.0, 8_000)
    expected = load_waveform(path)
    assert_same(FileSound(path).window(250_000, 5_000), expected[250_000:255_000])


def test_tracks(tmp_path):
    voices = (films.tone(500), films.tone(2_000))
    path = write_film(tmp_path / "film.mp4", 1.0, voices=voices)
    for track, frequency in [(None, 500), (1, 500), (2, 2_000)]:
        spectrum = torch.fft.rfft(FileSound(path, track).window(0, 16_000)).abs()
        assert abs(int(spectrum.argmax()) - frequency) <= 1
    with pytest.raises(ValueError, match="there is no sound track 0"):
        FileSound(path, 0)


def test_a_late_sound_has_silence_before_it(tmp_path):
    path = write_film(tmp_path / "film.mkv", 1.0, voices=(films.tone(440),), sound_start=0.4)
    window = FileSound(path, clock=FilmClock(0.0)).window(0, 24_000).abs()
    assert window[:6_000].max() < 0.01 < window[6_600:7_000].max()


def test_a_gap_is_silence(tmp_path):
    path = write_film(
        tmp_path / "film.mkv", 2.0, voices=(films.tone(440),), sound_codec="pcm_s16le", gap=(0.5, 1)
    )
    window = FileSound(path, clock=FilmClock(0.0)).window(0, 48_000).abs()
    # Packets last 23 ms: the last begins at 0.488 s, the next at 1.022 s.
    assert not window[8_400:16_200].any()
    assert window[7_900:8_300].max() > 0.4 and window[16_400:16_800].max() > 0.4


class TestIntegersAsFloats:
    """16-bit numbers in a float wav would be heard 90 dB too loud."""

    @pytest.mark.parametrize("rate", [16_000, 44_100])
    @pytest.mark.parametrize(
        ("channels", "told"),
        [
            ([13_087], "must hold .* 13087.*by 32768"),
            ([13_087, -13_087], "must hold .* 13087"),
            ([15, 0], "must hold .* 15:"),
            ([0, np.nan], "NaN or infinite"),
            ([-np.inf], "NaN or infinite"),
        ],
    )
    def test_in_a_file(self, tmp_path, caplog, channels, told, rate):
        """Samples are looked at before they are mixed and resampled, as data sets do it."""
        samples = np.zeros((2 * rate, len(channels)), dtype=np.float32)
        samples[rate + 500] = channels
        path = tmp_path / "loud.wav"
        soundfile.write(path, samples, rate, subtype="FLOAT")
        for read in (load_waveform, lambda file: FileSound(file).window(0, 32_000)):
            with pytest.raises(ValueError, match=rf"loud\.wav.* {told}"):
                read(path)
        assert not caplog.text

    def test_in_memory(self):
        with pytest.raises(ValueError, match="13087.*by 32768"):
            WaveformSound(torch.full((10,), 13_087.0))

    def test_loud_recordings_are_none(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.full(16_000, 3.5), 16_000, subtype="FLOAT")
        assert (FileSound(tmp_path / "a.wav").window(0, 16_000) == 3.5).all()
        # The filter overshoots at the edges of a square.
        square = np.where(np.arange(44_100) // 400 % 2, 7.9, -7.9)
        soundfile.write(tmp_path / "b.wav", square, 44_100, subtype="FLOAT")
        expected = load_waveform(tmp_path / "b.wav")
        assert expected.abs().max() == LOUDEST
        assert_same(FileSound(tmp_path / "b.wav").window(0, 16_000), expected)
        assert WaveformSound(square, 44_100).window(0, 16_000).abs().max() == LOUDEST


class TestErrors:
    def test_no_sound(self, tmp_path):
        path = write_film(tmp_path / "film.mp4", 0.2, voices=())
        with pytest.raises(ValueError, match="has no sound"):
            FileSound(path)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="check the path"):
            FileSound(tmp_path / "sound.wav")

    @pytest.mark.parametrize("rate", [1, 999, 2_000_000])
    def test_a_rate_that_no_recording_has(self, tmp_path, rate):
        path = tmp_path / "sound.wav"
        soundfile.write(path, np.zeros(10), rate)
        with pytest.raises(ValueError, match=f"sound.wav has a sound of {rate} Hz.*convert it"):
            FileSound(path)


class TestWaveformSound:
    def test_windows(self):
        waveform = torch.arange(1, 11) / 10.0
        found = WaveformSound(waveform)
        assert torch.equal(found.window(-2, 4), torch.tensor([0, 0, 0.1, 0.2]))
        assert torch.equal(found.window(8, 4), torch.tensor([0.9, 1.0, 0, 0]))
        assert not found.is_silence

    def test_rate(self):
        found = WaveformSound(np.zeros(24_000), 48_000)
        assert found.is_silence and found.window(0, 10).dtype == torch.float32

    def test_silence(self):
        assert WaveformSound.silence().is_silence
        assert not WaveformSound.silence().window(0, 5).any()

    def test_stereo_is_refused(self):
        with pytest.raises(ValueError, match="must be mono"):
            WaveformSound(np.zeros((2, 100)))


def test_damaged_sound_is_left_out(tmp_path, caplog):
    path = tmp_path / "sound.flac"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 64_000)
    soundfile.write(path, samples, 16_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 9_000] = bytes(9_000)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        window = FileSound(path).window(0, 64_000)
    assert window.isfinite().all() and window[:16_000].abs().max() > 0.4
    expected = torch.from_numpy(samples[:16_000]).float()
    torch.testing.assert_close(window[:16_000], expected, atol=4e-5, rtol=0)


class TestCutShort:
    """A wav file that holds less than its header announces is told, with how much is missing."""

    def test_what_is_missing_is_silence_and_counted(self, tmp_path, caplog):
        path = write_wav(tmp_path / "sound.wav", 5, 16_000)
        whole = FileSound(path).window(0, 80_000)
        assert not caplog.text
        content = path.read_bytes()
        path.write_bytes(content[: 44 + 2 * 24_000])
        window = FileSound(path).window(0, 80_000)
        assert_same(window[:23_900], whole[:23_900])
        assert not window[24_000:].any()
        assert len(caplog.messages) == 1
        assert f"{path} is cut short" in caplog.text
        assert "announces 5.00 s of sound, the last 3.50 s are missing" in caplog.text

    @pytest.mark.parametrize("declared", [0, 0x7FFF_F000, 0xFFFF_FFFF])
    def test_streams_declare_no_length(self, tmp_path, caplog, declared):
        path = write_wav(tmp_path / "sound.wav", 1, 16_000)
        expected = load_waveform(path)
        content = path.read_bytes()
        path.write_bytes(content[:40] + struct.pack("<I", declared) + content[44:])
        assert_same(FileSound(path).window(0, 20_000)[:16_000], expected)
        assert not caplog.text
