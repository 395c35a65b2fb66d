"""Checks and resampling of waveforms."""

import math

import numpy as np
import pytest
import torch
import torchaudio

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
        (np.array([0.0, -13087.0]), "one is 13087: .* Divide those of 16 bits by 32768"),
    ],
)
def test_other_things_are_refused(waveform, message):
    with pytest.raises(ValueError, match=message):
        as_waveform(waveform)


KAISER_BEST = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}


USUAL_RATES = (
    (8_000, 16_000), (11_025, 16_000), (22_050, 16_000), (44_100, 16_000), (48_000, 16_000),
    (192_000, 16_000), (44_100, 32_000), (22_050, 48_000), (16_000, 32_000),
)  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "sample_rate", "new_rate"),
    [
        *((seconds, *rates) for seconds in (0.0001, 0.013, 1.003) for rates in USUAL_RATES),
        (1.003, 22_254, 16_000),
    ],
)
def test_resampling_equals_torchaudios_kaiser(sample_rate, new_rate, seconds):
    """22 254 and 16 000 share hardly a factor; the filter's places are then interpolated.
    torchaudio's weights for them take long, hence once."""
    count = math.ceil(sample_rate * seconds)
    waveform = 2 * torch.rand(count, generator=torch.Generator().manual_seed(0)) - 1
    found = resample_waveform(waveform, sample_rate, new_rate)
    assert found.dtype == torch.float32
    expected = torchaudio.functional.resample(
        waveform.double(), sample_rate, new_rate, **KAISER_BEST
    )
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sample_rate", [1_009, 8_009, 11_127, 44_056, 44_099, 999_983])
def test_rates_without_a_common_factor(sample_rate):
    """Primes too: exactly in time, and in megabytes, not gigabytes."""
    found = resample_waveform(sine(440, sample_rate, 0.5), sample_rate)
    assert abs(len(found) - 8_000) < 16
    expected = sine(440, 16_000, 0.6)[: len(found)]
    inner = slice(1_200, -1_200)  # the filter sees silence beyond both ends
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("sample_rate", [44_100, 44_099, 48_000, 96_000])
@pytest.mark.parametrize("frequency", [8_200, 8_700, 12_000])
def test_resampling_removes_what_16_khz_cannot_hold(sample_rate, frequency):
    found = resample_waveform(sine(frequency, sample_rate), sample_rate)
    assert found[200:-200].abs().max() < 5e-5
    kept = resample_waveform(sine(7_000, sample_rate), sample_rate)
    torch.testing.assert_close(
        kept[1_200:-1_200], sine(7_000, 16_000)[1_200:-1_200], atol=1e-5, rtol=0
    )


def test_nothing_to_resample():
    waveform = sine(440, 16_000)
    assert resample_waveform(waveform, 16_000) is waveform
    assert len(resample_waveform(torch.zeros(0), 44_100)) == 0


@pytest.mark.parametrize("sample_rate", [0, 999, -16_000, 1_000_001])
def test_impossible_rates_are_refused(sample_rate):
    with pytest.raises(ValueError, match=f"got {sample_rate}"):
        resample_waveform(torch.zeros(10), sample_rate)
    with pytest.raises(ValueError, match=f"got {sample_rate}"):
        resample_waveform(torch.zeros(10), 16_000, sample_rate)
