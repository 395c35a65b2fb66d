"""Recordings, object tracks and the mix."""

from __future__ import annotations

import numpy as np
import pytest

from transavs.data.demo.sounds import (
    SAMPLE_RATE,
    Recording,
    Voice,
    mix,
    object_track,
    prepare_recording,
    vary_recording,
)


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def level(samples: np.ndarray) -> float:
    return float(np.sqrt((samples.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
def test_prepare_resamples_and_normalises(rate: int) -> None:
    samples = prepare_recording("x.ogg", 0.01 * tone(1.0, rate), rate).samples
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(SAMPLE_RATE, abs=SAMPLE_RATE // 50)
    assert np.abs(samples).max() == pytest.approx(1)
    # The tone keeps its pitch: 440 periods a second.
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    peak_hertz = spectrum.argmax() * SAMPLE_RATE / len(samples)
    assert peak_hertz == pytest.approx(440, abs=2)


def test_prepare_lets_nothing_alias() -> None:
    """At 16 kHz a tone of 8.7 kHz would be heard at 7.3 kHz."""
    samples = prepare_recording("x.ogg", tone(1.0, 44100) + tone(1.0, 44100, 8700), 44100).samples
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum[7300 - 50 : 7300 + 50].max() < 1e-4 * spectrum.max()


def test_prepare_trims_ends_and_shortens_pauses() -> None:
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    short_pause = np.zeros(SAMPLE_RATE // 5, dtype=np.float32)
    part = tone(0.5)
    samples = np.concatenate([silence, part, silence, part, short_pause, part, silence])
    prepared = prepare_recording("x.ogg", samples, SAMPLE_RATE).samples
    # Three parts of 0.5 s, the pause of 1 s shortened to 0.2 s, that of 0.2 s kept.
    assert len(prepared) / SAMPLE_RATE == pytest.approx(1.9, abs=0.05)


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros(9), np.full(9, 1e-6), np.array([0.1, np.nan])]
)
def test_prepare_refuses_silence(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"x\.ogg: expected an audible recording"):
        prepare_recording("x.ogg", samples.astype(np.float32), SAMPLE_RATE)


def test_loudest_second() -> None:
    samples = np.concatenate([0.1 * tone(1.5), tone(1.0), 0.1 * tone(1.0)])
    start, loudest = Recording("x.ogg", samples).loudest_second
    assert start == pytest.approx(1.5 * SAMPLE_RATE, abs=30)
    assert loudest == pytest.approx(np.sqrt(0.5), rel=1e-3)
    start, loudest = Recording("x.ogg", tone(0.5)).loudest_second
    assert start == 0 and loudest == pytest.approx(np.sqrt(0.25), rel=1e-3)


FADING = tone(3.0) * np.exp(-4 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
LATE = np.concatenate([0.05 * tone(2.0), tone(2.0)])


@pytest.mark.parametrize("samples", [tone(0.2), tone(0.95), tone(4.5), FADING, LATE])
@pytest.mark.parametrize(
    "sounding",
    [(1, 1, 1, 1, 1), (0, 1, 0, 1, 1), (1, 0, 0, 0, 0), (0, 0, 0, 0, 1), (0, 0, 0, 0, 0)],
)
@pytest.mark.parametrize("seed", range(4))
def test_track_sounds_in_its_seconds_only(
    samples: np.ndarray, sounding: tuple[int, ...], seed: int
) -> None:
    recording = Recording("x.ogg", samples)
    flags = [bool(flag) for flag in sounding]
    track = object_track(recording, flags, np.random.default_rng(seed))
    seconds = track.reshape(5, SAMPLE_RATE)
    weakest = recording.loudest_second[1] * 10 ** (-12.5 / 20)
    for flag, second in zip(flags, seconds, strict=True):
        if flag:
            assert level(second) > weakest
            assert np.abs(second).max() <= 1
        else:
            assert not second.any()


def test_track_starts_at_once_repeats_and_ramps() -> None:
    recording = Recording("x.ogg", np.ones(SAMPLE_RATE // 4, dtype=np.float32))
    track = object_track(recording, [True, True, False], np.random.default_rng(0))
    run = track[: 2 * SAMPLE_RATE]
    assert run[0] == 0 and run[160] == 1  # 10 ms
    assert run[-1] == 0
    assert np.abs(np.diff(track)).max() < 0.01
    silent = np.flatnonzero(np.abs(run) < 1e-6)
    longest = max(map(len, np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1)))
    assert longest / SAMPLE_RATE < 0.3


def spectrum_centre(samples: np.ndarray) -> float:
    """Frequency in Hz of the strongest bin."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


def test_varied_recordings_differ_within_limits() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    recording = Recording("tone", np.sin(2 * np.pi * 500 * time).astype(np.float32))
    before = recording.samples.copy()
    speeds = []
    for seed in range(40):
        varied = vary_recording(recording, np.random.default_rng(seed))
        assert varied.reference == "tone" and varied.samples.dtype == np.float32
        assert np.abs(varied.samples).max() == pytest.approx(1.0)
        # Speed and pitch go together.
        speeds.append(len(recording.samples) / len(varied.samples))
        assert spectrum_centre(varied.samples) == pytest.approx(500 * speeds[-1], rel=0.02)
    assert 1 / 1.4 - 0.01 < min(speeds) < 0.8 and 1.25 < max(speeds) < 1.41
    assert np.array_equal(recording.samples, before)
    same = [vary_recording(recording, np.random.default_rng(1)).samples for _ in range(2)]
    assert np.array_equal(*same)


def test_equaliser_of_varied_recordings() -> None:
    """The response in dB lies within 8 of a common gain, and rooms add no more than they may."""
    impulse = np.zeros(8192, np.float32)
    impulse[0] = 1
    spans = []
    for seed in range(30):
        varied = vary_recording(Recording("click", impulse), np.random.default_rng(seed)).samples
        response = 20 * np.log10(np.abs(np.fft.rfft(varied))[20:3000])
        spans.append(response.max() - response.min())
    assert np.median(spans) < 17 and max(spans) > 5


def test_varies_the_shortest_recording() -> None:
    varied = vary_recording(Recording("dot", np.ones(1, np.float32)), np.random.default_rng(0))
    assert len(varied.samples) == 1 and np.isfinite(varied.samples).all()


def test_mix_keeps_the_mean_and_the_seconds() -> None:
    track = np.concatenate([0.8 * tone(1.0), np.zeros(SAMPLE_RATE, dtype=np.float32)])
    sound = mix([Voice(track, -6.0, 0.4)], 2, None, 0)
    assert sound.dtype == np.int16 and sound.shape == (2 * SAMPLE_RATE, 2)
    expected = track * 0.5 * 10 ** (-6 / 20)
    assert np.abs(sound.mean(axis=1) / 32767 - expected).max() < 1e-4
    assert level(sound[:SAMPLE_RATE, 0]) / level(sound[:SAMPLE_RATE, 1]) == pytest.approx(
        1.5, rel=1e-2
    )
    assert not sound[SAMPLE_RATE:].any()


def test_mix_turns_loud_sums_down_without_wrap() -> None:
    voices = [Voice(tone(1.0), 0.0, 0.5)] * 6
    sound = mix(voices, 1, None, 0)
    assert np.abs(sound).max() <= 0.98 * 32767 + 1
    scaled = tone(1.0) * 0.98 * 32767 / np.abs(tone(1.0)).max()
    assert np.abs(sound[:, 0] - scaled).max() < 2


def test_mix_noise_floor() -> None:
    assert not mix([], 1, None, 0).any()
    noise = mix([], 1, -60.0, 7)
    assert 20 * np.log10(level(noise / 32767)) == pytest.approx(-60, abs=0.5)
    assert (noise == mix([], 1, -60.0, 7)).all()
