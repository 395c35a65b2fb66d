"""The timeline: everything stands at its second."""

import numpy as np
import pytest
import torch

from transavs.audio import SAMPLE_RATE_HZ, log_mel_examples, samples_of_examples
from transavs.visualization import PREDICTION_COLOR, TIMELINE_HEIGHT, TimelineMoment, draw_timeline

WIDTH = 500
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))


def moments(confidence=(0.0, 1.0, 0.5, 0.0, 1.0)):
    return [
        TimelineMoment(second, second + 1, np.full((30, 40, 3), color, np.uint8), sure)
        for second, (color, sure) in enumerate(zip(COLORS, confidence, strict=True))
    ]


def examples(sound, seconds=6):
    samples = torch.zeros(samples_of_examples(seconds))
    samples[sound] = 0.5 * torch.sin(torch.arange(len(samples))[sound] * 0.5)
    return log_mel_examples(samples)


def test_pictures_and_confidence_stand_at_their_seconds():
    timeline = draw_timeline(moments(), examples(slice(0, 0)), 5.0, WIDTH)
    assert timeline.shape == (TIMELINE_HEIGHT, WIDTH, 3) and timeline.dtype == np.uint8
    for second, color in enumerate(COLORS):
        assert tuple(timeline[60, 100 * second + 50]) == color
    color = [round(255 * part) for part in PREDICTION_COLOR]
    bars = (timeline[-64:-24] == color).all(2)
    heights = [int(bars[:, 100 * second + 50].sum()) for second in range(5)]
    assert heights == pytest.approx([1, 40, 20, 1, 40], abs=1)
    assert bars[5, 101:199].all() and not bars[5, :99].any()


def test_sound_stands_at_its_second():
    heard = slice(2 * SAMPLE_RATE_HZ, 3 * SAMPLE_RATE_HZ)
    timeline = draw_timeline(moments(), examples(heard), 5.0, WIDTH)
    loud = timeline[120:248].astype(int).sum(2).max(0) > 300
    # Windows of 25 ms every 10 ms, and a column is 10 ms here.
    assert np.flatnonzero(loud)[[0, -1]] == pytest.approx([200, 299], abs=3)


def test_where_the_sound_ends_there_is_silence():
    short = examples(slice(0, None), 2)
    timeline = draw_timeline(moments(), short, 5.0, WIDTH)
    band = np.delete(timeline[120:248].astype(int).sum(2).max(0), range(0, WIDTH, 100))
    assert band[:189].min() > 300 and band[192:].max() == 0


def test_of_a_long_film_some_pictures_are_shown():
    many = [
        TimelineMoment(second, second + 1, np.full((30, 40, 3), second, np.uint8), 0.5)
        for second in range(100)
    ]
    timeline = draw_timeline(many, examples(slice(0, 0)), 100.0, WIDTH)
    # Five parts of 20 s, each with the picture amid it.
    shown = [int(timeline[60, 100 * part + 50, 0]) for part in range(5)]
    assert shown == [10, 30, 50, 70, 90]


def test_half_a_second():
    one = [TimelineMoment(0.0, 0.5, np.full((30, 40, 3), 200, np.uint8), 1.0)]
    timeline = draw_timeline(one, examples(slice(0, 0), 1), 0.5, WIDTH)
    assert timeline[60, 250, 0] == 200
