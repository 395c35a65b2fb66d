"""The front-end against an independent float64 NumPy one, golden numbers and a table of lengths."""

import math

import numpy as np
import pytest
import soundfile
import torch

from transavs.audio import (
    SILENCE_LOG_MEL,
    clip_log_mel,
    fit_examples,
    load_waveform,
    log_mel_examples,
    samples_of_examples,
    save_waveform,
)
from transavs.audio.log_mel import mel_matrix
from transavs.pretrained.restricted_pickle import LOG_MEL_EXAMPLE_SHAPE

# float32 holds a log-mel of 8 within 4.8e-7; the front-end works in float64 before.
TOLERANCE = 1e-6


def reference_mel_matrix():
    """Loops over bins and bands: triangles in mel, 66 edges, DC bin zero."""

    def mel(hertz):
        return 1127 * math.log(1 + hertz / 700)

    step = (mel(7500) - mel(125)) / 65
    matrix = np.zeros((257, 64))
    for bin_index in range(1, 257):
        position = mel(bin_index * 16_000 / 512)
        for band in range(64):
            start = mel(125) + band * step
            rising = (position - start) / step
            falling = (start + 2 * step - position) / step
            matrix[bin_index, band] = max(0.0, min(rising, falling))
    return matrix


def reference_log_mel(waveform):
    """Every window on its own, a Fourier sum instead of an FFT: float64 ``[windows, 64]``."""
    count = 1 + (len(waveform) - 400) // 160
    n = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    fourier = np.exp(-2j * np.pi * np.outer(n, np.arange(257)) / 512)  # zeros past 400 add nothing
    windows = np.stack([waveform[i * 160 : i * 160 + 400] * hann for i in range(count)])
    return np.log(np.abs(windows @ fourier) @ reference_mel_matrix() + 0.01)


def sine(amplitude=0.5, frequency_hz=1000, count=80_000):
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(count) / 16_000)


def noise(count, seed=0, scale=1.0):
    return np.random.default_rng(seed).uniform(-scale, scale, count)


@pytest.mark.parametrize(
    "waveform",
    [
        sine(),
        sine(1.0, 440),
        noise(80_000),
        noise(80_000, seed=1, scale=1e-3),
        np.ones(80_000),
        np.sign(sine(1.0, 100)),
        7 * noise(31_000, seed=2),
        (np.arange(31_000) % 4000 == 0).astype(np.float64),
    ],
    ids=["sine", "loud sine", "noise", "quiet", "constant", "square", "above one", "clicks"],
)
def test_matches_an_independent_float64_reference(waveform):
    examples = log_mel_examples(waveform)
    assert examples.dtype == torch.float32
    expected = reference_log_mel(waveform)[: len(examples) * 96].reshape(-1, 1, 96, 64)
    np.testing.assert_allclose(examples.numpy(), expected, atol=TOLERANCE, rtol=0)


def test_golden_numbers_of_a_sine():
    examples = log_mel_examples(sine())
    assert examples.shape == (5, 1, 96, 64)
    first = examples[0, 0, 0].tolist()
    assert first.index(max(first)) == 19
    expected = {0: -4.542291, 18: 2.000532, 19: 4.118052, 20: 4.081982, 63: -4.603165}
    for band, value in expected.items():
        assert first[band] == pytest.approx(value, abs=1e-5)


def test_silence_is_the_log_of_the_offset():
    examples = log_mel_examples(torch.zeros(80_000))
    assert SILENCE_LOG_MEL == pytest.approx(-4.605170, abs=1e-6)
    torch.testing.assert_close(examples, torch.full((5, 1, 96, 64), SILENCE_LOG_MEL))


def test_mel_matrix():
    matrix = mel_matrix().numpy()
    np.testing.assert_allclose(matrix, reference_mel_matrix(), atol=1e-12)
    assert (matrix.max(axis=0) > 0).all(), "every filter covers a bin"
    assert (matrix[0] == 0).all() and matrix.max() <= 1
    # Centres of the first filters, from the mel edges one step apart.
    mel_125, mel_7500 = (1127 * math.log(1 + hertz / 700) for hertz in (125, 7500))
    assert (mel_125, mel_7500) == pytest.approx((185.1695, 2773.3319), abs=1e-4)
    centres = [
        700 * (math.exp((mel_125 + k * (mel_7500 - mel_125) / 65) / 1127) - 1) for k in (1, 2, 3)
    ]
    assert centres == pytest.approx([154.67, 185.40, 217.25], abs=5e-3)


@pytest.mark.parametrize(
    ("samples", "count"),
    [
        (0, 0), (399, 0), (400, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2),
        (76_800, 4), (77_039, 4), (77_040, 5), (80_000, 5), (92_399, 5), (92_400, 6),
        (153_839, 9), (153_840, 10), (160_000, 10), (169_199, 10), (169_200, 11),
    ],
)  # fmt: skip
def test_number_of_examples(samples, count):
    assert log_mel_examples(torch.zeros(samples)).shape == (count, 1, 96, 64)


def test_samples_of_examples_are_just_enough():
    for count in (1, 2, 5, 10, 40):
        needed = samples_of_examples(count)
        assert len(log_mel_examples(torch.zeros(needed))) == count
        assert len(log_mel_examples(torch.zeros(needed - 1))) == count - 1


def test_torch_numpy_and_precisions_agree():
    waveform = noise(40_000).astype(np.float32)
    expected = log_mel_examples(waveform)
    for same in (torch.from_numpy(waveform), waveform.astype(np.float64), waveform.astype(">f4")):
        assert torch.equal(log_mel_examples(same), expected)


def test_shifting_by_an_example_shifts_the_examples():
    waveform = noise(60_000)
    torch.testing.assert_close(log_mel_examples(waveform)[1:], log_mel_examples(waveform[15_360:]))


def test_another_rate_is_resampled():
    """One second at 44.1 kHz gives the log-mel of the same tone at 16 kHz."""
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(88_200) / 44_100)
    resampled = log_mel_examples(tone, sample_rate=44_100)
    expected = log_mel_examples(sine(count=32_000))
    assert resampled.shape == expected.shape
    # Around the tone; far below it the two differ by the resampling filter's own faint leakage.
    torch.testing.assert_close(
        resampled[..., 2:94, 18:21], expected[..., 2:94, 18:21], atol=5e-3, rtol=0
    )
    assert len(clip_log_mel(tone, 2, sample_rate=44_100)) == 2


def test_a_tone_above_8_khz_is_silence(tmp_path):
    """16 kHz cannot hold it: only its 16 bits and the click of its onset are left (was 3.03)."""
    tone = 0.5 * np.sin(2 * np.pi * 8_700 * np.arange(5 * 44_100) / 44_100)
    soundfile.write(tmp_path / "tone.wav", tone, 44_100, subtype="PCM_16")
    examples = log_mel_examples(load_waveform(tmp_path / "tone.wav")).flatten(0, 2)
    assert examples[0].max() < -4.1
    assert SILENCE_LOG_MEL < examples[1:].max() < -4.53


@pytest.mark.parametrize("function", [log_mel_examples, lambda w: clip_log_mel(w, 5)])
def test_bad_waveforms_are_refused(function):
    with pytest.raises(ValueError, match="mono"):
        function(torch.zeros(2, 80_000))
    with pytest.raises(ValueError, match="finite"):
        function(torch.full((80_000,), math.nan))
    with pytest.raises(ValueError, match="floating point"):
        function(np.zeros(80_000, dtype=np.int16))


@pytest.mark.parametrize("clip_seconds", [1, 5, 10, 16, 24, 25, 60])
def test_a_clip_has_an_example_for_every_second(clip_seconds):
    """From 25 s on, T seconds hold more than T examples: the first T count."""
    waveform = noise(16_000 * clip_seconds, scale=0.1)
    examples = clip_log_mel(waveform, clip_seconds)
    assert len(examples) == clip_seconds
    assert torch.equal(examples, log_mel_examples(waveform)[:clip_seconds])


def test_long_recordings_are_cut_at_the_end():
    waveform = noise(120_000)
    assert torch.equal(clip_log_mel(waveform, 5), clip_log_mel(waveform[:80_000], 5))


def test_short_recordings_end_in_silence(tmp_path):
    """Window i covers samples 160 i to 160 i + 399: 0.4 s (6400 samples) reach windows 0 to 39."""
    save_waveform(tmp_path / "clip.wav", noise(6400))
    examples = clip_log_mel(load_waveform(tmp_path / "clip.wav"), 5)
    windows = examples.reshape(480, 64)
    assert (windows[:39] > SILENCE_LOG_MEL + 0.5).all()
    torch.testing.assert_close(windows[40:], torch.full((440, 64), SILENCE_LOG_MEL))


def test_clips_need_a_sample_and_a_second():
    with pytest.raises(ValueError, match="at least one sample"):
        clip_log_mel(torch.zeros(0), 5)
    with pytest.raises(ValueError, match="at least 1 second, got clip_seconds = 0"):
        clip_log_mel(torch.zeros(100), 0)


def test_fit_examples_repeats_or_cuts():
    examples = torch.arange(3.0)[:, None, None, None].expand(3, 1, 96, 64)
    assert fit_examples(examples, 5)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2]
    assert fit_examples(examples, 2)[:, 0, 0, 0].tolist() == [0, 1]
    assert torch.equal(fit_examples(examples, 3), examples)


@pytest.mark.parametrize(
    ("examples", "count", "message"),
    [
        (torch.zeros(0, 1, 96, 64), 5, "last of 0 examples"),
        (torch.zeros(1, 1, 96, 64), 0, "at least 1, got 0"),
        (torch.zeros(5, 96, 64), 5, r"\[S, 1, 96, 64\], got \[5, 96, 64\]"),
        (torch.zeros(5, 1, 64, 96), 5, r"got \[5, 1, 64, 96\]"),
        (torch.zeros(5, 1, 96, 64, dtype=torch.int64), 5, "floating point"),
    ],
)
def test_fit_examples_refuses(examples, count, message):
    with pytest.raises(ValueError, match=message):
        fit_examples(examples, count)


def test_pickles_are_checked_for_the_same_shape():
    assert log_mel_examples(torch.zeros(15_600)).shape[1:] == LOG_MEL_EXAMPLE_SHAPE
