"""What the mapper lets a clip hear."""

import pickle
from pathlib import Path

import avsbench_trees as trees
import numpy as np
import pytest
import soundfile
import torch
from mapped_clips import map_clip

from transavs.audio import SAMPLE_RATE_HZ, SILENCE_LOG_MEL, clip_log_mel, white_noise
from transavs.data.avsbench import load_avsbench
from transavs.data.avsbench_spec import MS3
from transavs.data.conditions import with_condition


def test_stereo_44_khz_sounds_like_mono_16_khz(ms3: dict) -> None:
    expected = map_clip(ms3)["audio"]
    tone = trees.waveform(ms3["clip_id"], rate=44100)
    # Two channels whose mean is the tone.
    trees.write_wav(Path(ms3["audio_file"]), np.stack([1.5 * tone, 0.5 * tone], axis=1), rate=44100)
    actual = map_clip(ms3)["audio"]
    loud = expected > 0  # away from the noise floor of 16-bit samples
    assert loud.any(dim=-1).all()
    assert (actual - expected)[loud].abs().max() < 0.02


def test_short_sound_is_silent_from_its_end(ms3: dict) -> None:
    trees.write_wav(Path(ms3["audio_file"]), trees.waveform("short", seconds=0.4))
    audio = map_clip(ms3)["audio"]
    assert audio.shape == (5, 1, 96, 64)
    assert audio[0, 0, :38].max() > 0, "it sounds for 0.4 s, 40 windows of 10 ms"
    silence = torch.full((), SILENCE_LOG_MEL)
    assert torch.allclose(audio[0, 0, 41:], silence)
    assert torch.allclose(audio[1:], silence)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_refused(ms3: dict, value: float) -> None:
    samples = trees.waveform("broken").astype(np.float32)
    samples[1000] = value
    soundfile.write(ms3["audio_file"], samples, trees.SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(ValueError) as raised:
        map_clip(ms3)
    assert ms3["audio_file"] in str(raised.value)


def test_missing_sound(ms3: dict) -> None:
    map_clip(ms3)
    Path(ms3["audio_file"]).unlink()
    with pytest.raises(FileNotFoundError, match="restore it") as raised:
        map_clip(ms3)
    assert ms3["audio_file"] in str(raised.value)


def test_remembered_examples_cannot_be_changed_from_outside(ms3: dict) -> None:
    clip = map_clip(ms3)
    expected = clip["audio"].clone()
    clip["audio"].zero_()
    assert torch.equal(map_clip(ms3)["audio"], expected)


def test_silence_and_shuffled_sound(avsbench_root: Path) -> None:
    records = load_avsbench(MS3, str(avsbench_root), "train")
    own = [map_clip(record)["audio"] for record in records]
    swapped = [map_clip(r)["audio"] for r in with_condition(records, "shuffled")]
    assert torch.equal(swapped[0], own[1]) and torch.equal(swapped[1], own[0])
    for record in with_condition(records, "silence"):
        assert torch.equal(map_clip(record)["audio"], clip_log_mel(torch.zeros(80000), 5))


def test_noise_has_one_front_end_with_all_sounds(ms3: dict) -> None:
    clip = map_clip({**ms3, "audio_condition": "noise", "audio_seed": 7})
    noise = white_noise(5 * SAMPLE_RATE_HZ, 7)
    assert torch.equal(clip["audio"], clip_log_mel(noise, 5))


def test_unknown_audio_condition(ms3: dict) -> None:
    with pytest.raises(ValueError, match="'silence' or 'noise', got 'whispers'"):
        map_clip({**ms3, "audio_condition": "whispers"})


def test_log_mel_pickles(ms3: dict, tmp_path: Path) -> None:
    path = tmp_path / "clip.pkl"
    examples = torch.randn(5, 1, 96, 64)
    path.write_bytes(pickle.dumps(examples.requires_grad_()))
    record = {**ms3, "log_mel_file": str(path)}
    audio = map_clip(record, INPUT__AUDIO_SOURCE="log_mel")["audio"]
    assert torch.equal(audio, examples)
    assert not audio.requires_grad
    (silent,) = with_condition([record], "silence")
    silent_audio = map_clip(silent, INPUT__AUDIO_SOURCE="log_mel")["audio"]
    assert torch.allclose(silent_audio, torch.full((), SILENCE_LOG_MEL))
    path.write_bytes(pickle.dumps(torch.zeros(4, 1, 96, 64)))
    with pytest.raises(ValueError, match="expected 5 log-mel examples, one a second, got 4"):
        map_clip(record, INPUT__AUDIO_SOURCE="log_mel")
    with pytest.raises(FileNotFoundError, match="set it to 'wav'"):
        map_clip(ms3, INPUT__AUDIO_SOURCE="log_mel")
