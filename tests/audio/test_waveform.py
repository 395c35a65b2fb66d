"""Checks and resampling of waveforms."""

import math

import numpy as np
import pytest
import torch

from transavs.audio.waveform import as_waveform, resample_waveform


def sine(frequency_hz, sample_rate, seconds=1.0):
    times = torch.arange(round(sample_rate * seconds), dtype=torch.float64) / sample_rate
    return 0.5 * torch.sin(2 * math.pi * frequency_hz * times)


def test_float_types_and_numpy_layouts_are_taken():
    values = np.linspace(-1, 1, 11)
    for kind in (np.float16, np.float32, ">f4"):
        assert as_waveform(values.astype(kind)).dtype == torch.float32
    assert as_waveform(values).dtype == torch.float64
    np.testing.assert_array_equal(as_waveform(values[::-1]).numpy(), values[::-1])
    values.setflags(write=False)
    np.testing.assert_array_equal(as_waveform(values).numpy(), values)
    assert not as_waveform(torch.ones(3, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(2, 100), r"mono with shape \[L\], got \[2, 100\]"),
        (torch.tensor(0.0), "mono"),
        (torch.zeros(100, dtype=torch.int16), "divide 16-bit integers by 32768"),
        (np.array([0.0, np.nan, np.inf]), "2 of 3 samples .* first at index 1"),
        (torch.tensor([0.0, -math.inf]), "1 of 2 samples"),
    ],
)
def test_other_things_are_refused(waveform, message):
    with pytest.raises(ValueError, match=message):
        as_waveform(waveform)


@pytest.mark.parametrize("sample_rate", [8_000, 11_127, 22_050, 22_254, 44_100, 48_000, 96_000])
def test_resampling_keeps_a_sine_where_it_is(sample_rate):
    """A sine read at another rate is the same sine: exact values known in closed form.

    11 127 and 22 254 Hz share no useful factor with 16 kHz and are read as 11 150 and 22 250.
    """
    resampled = resample_waveform(sine(440, sample_rate), sample_rate)
    assert abs(len(resampled) - 16_000) <= 16_000 * 0.0025
    step = sample_rate / (sample_rate if sample_rate % 50 == 0 else 50 * round(sample_rate / 50))
    times = torch.arange(len(resampled), dtype=torch.float64) / 16_000 / step
    inner = slice(200, -200)  # the filter sees silence beyond both ends
    expected = 0.5 * torch.sin(2 * math.pi * 440 * times)
    torch.testing.assert_close(resampled[inner], expected[inner], atol=2e-3, rtol=0)


def test_resampling_removes_what_16_khz_cannot_hold():
    resampled = resample_waveform(sine(12_000, 48_000), 48_000)
    assert resampled[200:-200].abs().max() < 1e-2


def test_nothing_to_resample():
    waveform = sine(440, 16_000)
    assert resample_waveform(waveform, 16_000) is waveform
    assert len(resample_waveform(torch.zeros(0), 44_100)) == 0


@pytest.mark.parametrize("sample_rate", [0, 999, -16_000, 1_000_001])
def test_impossible_rates_are_refused(sample_rate):
    with pytest.raises(ValueError, match=f"got {sample_rate}"):
        resample_waveform(torch.zeros(10), sample_rate)
