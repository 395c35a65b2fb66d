"""What a model hears with a frame, against windows cut by hand."""

import pytest
import tiny_models
import torch

from transavs.audio import HTSAT, clip_log_mel, log_mel_examples, samples_of_examples
from transavs.engine.audio_windows import AudioWindows
from transavs.video import WaveformSound

SECONDS = 12
WAVEFORM = torch.rand(SECONDS * 16_000, generator=torch.Generator().manual_seed(0)) - 0.5
SOUND = WaveformSound(WAVEFORM)
HOP, SPAN = 15_360, 15_600


def examples(start, count):
    """Of the samples from ``start`` on, silence beyond the ends."""
    padded = torch.nn.functional.pad(WAVEFORM, (100_000, 100_000))
    return log_mel_examples(padded[start + 100_000 :][: samples_of_examples(count)])


class TestSecond:
    rule = AudioWindows(1, "second")

    @pytest.mark.parametrize("seconds", [0.0, 0.3, 6.125, 11.9])
    def test_the_moment_is_in_the_middle(self, seconds):
        heard = self.rule.hear(SOUND, seconds, SECONDS)
        assert heard.own == 0 and heard.audio.shape == (1, 1, 96, 64)
        first = round(16_000 * seconds - SPAN / 2)
        assert torch.equal(heard.audio, examples(first, 1))
        assert heard.start == pytest.approx(seconds - 0.4875, abs=1e-4)


class TestClip:
    rule = AudioWindows(5, "clip")

    def test_centred(self):
        heard = self.rule.hear(SOUND, 6.0, SECONDS)
        assert heard.own == 2
        assert torch.equal(heard.audio, examples(96_000 - SPAN // 2 - 2 * HOP, 5))

    @pytest.mark.parametrize(("seconds", "own"), [(0.0, 0), (0.5, 0), (1.5, 1), (2.4, 2)])
    def test_moved_into_the_film_at_its_beginning(self, seconds, own):
        heard = self.rule.hear(SOUND, seconds, SECONDS)
        assert heard.start == 0 and heard.own == own
        assert torch.equal(heard.audio, examples(0, 5))

    @pytest.mark.parametrize(("seconds", "own"), [(12.0, 4), (11.5, 4), (10.5, 3)])
    def test_and_at_its_end(self, seconds, own):
        heard = self.rule.hear(SOUND, seconds, SECONDS)
        assert heard.own == own
        assert torch.equal(heard.audio, examples(len(WAVEFORM) - samples_of_examples(5), 5))

    def test_no_end_is_known(self):
        heard = self.rule.hear(SOUND, 11.9, None)
        assert heard.own == 2
        assert torch.equal(heard.audio, examples(round(11.9 * 16_000 - SPAN / 2) - 2 * HOP, 5))

    @pytest.mark.parametrize("length", [5, 3])
    def test_a_film_of_a_clip_is_heard_as_the_clip(self, length):
        """Every moment of it, and a shorter one too: with the silence that the mapper adds."""
        waveform = WAVEFORM[: length * 16_000]
        for seconds in [0.5, 1.5, 2.5, length - 0.5]:
            heard = self.rule.hear(WaveformSound(waveform), seconds, length)
            if length == 5:
                # Five examples end 185 ms before the clip does.
                expected = clip_log_mel(waveform, 5)
                if heard.start:
                    expected = log_mel_examples(waveform[round(16_000 * heard.start) :])
                assert torch.equal(heard.audio, expected)
            else:
                assert torch.equal(heard.audio, clip_log_mel(waveform, 5))

    def test_an_even_number(self):
        heard = AudioWindows(4, "clip").hear(SOUND, 6.0, SECONDS)
        assert heard.own == 2
        assert torch.equal(heard.audio, examples(96_000 - SPAN // 2 - 2 * HOP, 4))


class TestWindow:
    rule = AudioWindows(3, "window")

    def test_centred(self):
        heard = self.rule.hear(SOUND, 6.0, SECONDS)
        assert heard.own == 1
        assert torch.equal(heard.audio, examples(96_000 - SPAN // 2 - HOP, 3))

    def test_examples_outside_the_film_are_left_out(self):
        """The model takes zero embeddings there, as at the ends of its clips."""
        first = self.rule.hear(SOUND, 0.4, SECONDS)
        assert first.own == 0 and len(first.audio) == 2
        assert torch.equal(first.audio, examples(round(0.4 * 16_000 - SPAN / 2), 2))
        last = self.rule.hear(SOUND, SECONDS - 0.4, SECONDS)
        assert last.own == 1 and len(last.audio) == 2

    def test_a_film_shorter_than_an_example(self):
        heard = self.rule.hear(WaveformSound(WAVEFORM[:8_000]), 0.25, 0.5)
        assert heard.own == 0 and len(heard.audio) == 1


class TestHTSAT:
    """Seconds at 32 kHz follow each other without gap or overlap."""

    rate = 32_000
    front_end = HTSAT.front_end
    sound = WaveformSound(WAVEFORM, sample_rate_hz=rate)
    waveform = sound.window(0, SECONDS * rate)

    def test_a_clip_is_heard_as_the_mapper_gives_it(self):
        rule = AudioWindows(SECONDS, "clip", self.front_end)
        expected = self.front_end.clip_examples(self.waveform, SECONDS)
        for second in (0, 5, 11):
            heard = rule.hear(self.sound, second + 0.5, SECONDS)
            assert heard.own == second and heard.start == 0
            assert torch.equal(heard.audio, expected)

    @pytest.mark.parametrize(("seconds", "first", "count", "own"), [
        (0.4, -0.1, 2, 0), (6.0, 4.5, 3, 1), (SECONDS - 0.4, SECONDS - 1.9, 2, 1),
    ])  # fmt: skip
    def test_window(self, seconds, first, count, own):
        heard = AudioWindows(3, "window", self.front_end).hear(self.sound, seconds, SECONDS)
        padded = torch.nn.functional.pad(self.waveform, (self.rate, self.rate))
        begin = round((first + 1) * self.rate)
        expected = self.front_end.clip_examples(padded[begin : begin + count * self.rate], count)
        assert heard.own == own and heard.start == pytest.approx(first)
        assert torch.equal(heard.audio, expected)

    def test_second(self):
        heard = AudioWindows(1, "second", self.front_end).hear(self.sound, 2.5, SECONDS)
        expected = self.front_end.clip_examples(self.waveform[2 * self.rate : 3 * self.rate], 1)
        assert torch.equal(heard.audio, expected)


@pytest.mark.parametrize(
    ("opts", "rule"),
    [
        (("MODEL.TRANSAVS.AUDIO_CONTEXT", "second"), AudioWindows(1, "second")),
        (("MODEL.TRANSAVS.AUDIO_CONTEXT", "window"), AudioWindows(3, "window")),
        (("INPUT.CLIP_SECONDS", 7), AudioWindows(7, "clip")),
    ],
)
def test_the_rule_is_the_models(opts, rule):
    assert AudioWindows.of_model(tiny_models.tiny_model(*opts)) == rule


def test_a_model_without_queries():
    assert AudioWindows.of_model(torch.nn.Identity()) == AudioWindows(1, "second")
