"""The strip: sound and confidence lie where their seconds are."""

import numpy as np
import pytest
import torch

from transavs.audio import HTSAT, VGGISH_LOG_MEL
from transavs.audio.front_end import VGGishLogMel
from transavs.visualization import PREDICTION_COLOR, FilmStrip, strip_height

WIDTH, HEIGHT = 500, 80
#: Columns of one second.
SECOND = WIDTH / 5


def window_of(waveform):
    def window(start, count):
        padded = torch.nn.functional.pad(waveform, (400_000, 400_000))
        return padded[start + 400_000 :][:count]

    return window


def bright_columns(part):
    level = part.astype(int).sum((0, 2))
    level[WIDTH // 2] = 0  # the line at now
    columns = np.flatnonzero(level > (level.min() + level.max()) / 2)
    return columns.min(), columns.max()


@pytest.mark.parametrize("front_end", [VGGISH_LOG_MEL, HTSAT.front_end])
@pytest.mark.parametrize("now", [2.5, 3.7, 6.0, 9.9])
def test_a_burst_stands_where_it_is_heard(now, front_end):
    """White noise from second 5 to 6, with the present in the middle."""
    rate = front_end.sample_rate_hz
    waveform = torch.zeros(10 * rate)
    noise = torch.rand(rate, generator=torch.Generator().manual_seed(0)) - 0.5
    waveform[5 * rate : 6 * rate] = noise
    strip = FilmStrip(window_of(waveform), WIDTH, HEIGHT, front_end).draw(now)
    assert strip.shape == (HEIGHT, WIDTH, 3) and strip.dtype == np.uint8
    first, last = (5 - now + 2.5) * SECOND, (6 - now + 2.5) * SECOND
    if last < 0 or first >= WIDTH:
        return
    log_mel, waveform_part = strip[:40], strip[42:58]
    for part in (log_mel, waveform_part):
        begin, end = bright_columns(part)
        assert begin == pytest.approx(max(0, first), abs=4)
        assert end == pytest.approx(min(WIDTH, last), abs=4)
    assert (strip[:, WIDTH // 2] == 255).all()


def test_pitch_goes_up():
    for frequency, upper in [(300, False), (5_000, True)]:
        tone = 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(160_000) / 16_000)
        rows = FilmStrip(window_of(tone), WIDTH, HEIGHT).draw(5.0)[:40, 100].astype(int).sum(1)
        assert (rows.argmax() < 20) == upper


@pytest.mark.parametrize("front_end", [VGGISH_LOG_MEL, HTSAT.front_end])
def test_colours_have_the_scale_of_the_front_end(front_end):
    """Silence is black, and noise at full scale is light, in natural logarithms and in decibels."""
    silent = FilmStrip(lambda start, count: torch.zeros(count), WIDTH, HEIGHT, front_end).draw(5.0)
    assert (silent[:40, 10].astype(int).sum(1) < 20).all()
    loud = FilmStrip(lambda start, count: torch.rand(count) * 2 - 1, WIDTH, HEIGHT, front_end)
    assert np.median(loud.draw(5.0)[:40].astype(int).sum(2)) > 350


def test_examples_that_are_no_picture():
    class Samples(VGGishLogMel):
        version, example_shape = "samples 1", (8000,)

    with pytest.raises(ValueError, match=r"'samples 1' are \[8000\]: leave the strip out"):
        FilmStrip(lambda start, count: torch.zeros(count), WIDTH, HEIGHT, Samples())


def test_confidence_until_now():
    strip = FilmStrip(window_of(torch.zeros(160_000)), WIDTH, HEIGHT)
    strip.add_confidence(0.0, 1.0, 1.0)
    strip.add_confidence(1.0, 2.0, 0.0)
    strip.add_confidence(2.0, 3.0, 0.5)
    color = [round(255 * part) for part in PREDICTION_COLOR]
    part = strip.draw(2.5)[60:]
    filled = (part == color).all(-1)
    assert filled[:, 10:90].all()
    assert not filled[:-1, 110:190].any()
    assert filled[11:, 210:245].all() and not filled[:8, 210:245].any()
    assert not filled[:, 255:].any()  # it is not known yet


def test_memory_stays_flat():
    strip = FilmStrip(lambda start, count: torch.zeros(count), WIDTH, HEIGHT)
    for second in range(200):
        strip.add_confidence(second, second + 1, 0.5)
        strip._example(second)
    assert len(strip._confidence) < 10 and len(strip._examples) <= 16


def test_heights():
    assert [strip_height(height) for height in (48, 240, 362, 1080)] == [48, 60, 90, 270]
