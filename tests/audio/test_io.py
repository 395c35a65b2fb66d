"""Sound files of every kind, written byte by byte where a library could hide a mistake."""

import struct

import numpy as np
import pytest
import soundfile
import torch

from transavs.audio import load_waveform, save_waveform
from transavs.video import FileSound

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def wav_bytes(data, bits, channels=1, rate=16_000, code=PCM, declared=None, extra=b""):
    """Returns a wav file; ``data`` is its sound, ``declared`` the length that its header tells."""
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, bits)
    if code == EXTENSIBLE:
        # valid bits, speaker mask, then the GUID whose first two bytes are the real code
        guid = struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
        header += struct.pack("<HHI", 22, bits, 0) + guid
    declared = len(data) if declared is None else declared
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(header)) + header + extra
    body += b"data" + struct.pack("<I", declared) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def load(tmp_path, content):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    return load_waveform(path)


@pytest.mark.parametrize(
    ("data", "bits", "code"),
    [
        (bytes([0, 64, 128, 192]), 8, PCM),  # 8 bit is unsigned around 128
        (struct.pack("<4h", -32768, -16384, 0, 16384), 16, PCM),
        (b"".join((v << 8).to_bytes(3, "little", signed=True) for v in (-32768, -16384, 0, 16384)),
         24, PCM),
        (struct.pack("<4i", -(2**31), -(2**30), 0, 2**30), 32, PCM),
        (struct.pack("<4f", -1.0, -0.5, 0.0, 0.5), 32, FLOAT),
        (struct.pack("<4d", -1.0, -0.5, 0.0, 0.5), 64, FLOAT),
        (struct.pack("<4h", -32768, -16384, 0, 16384), 16, EXTENSIBLE),
    ],
    ids=["uint8", "int16", "int24", "int32", "float", "double", "extensible"],
)  # fmt: skip
def test_every_sample_type_gives_the_same_waveform(tmp_path, data, bits, code):
    waveform = load(tmp_path, wav_bytes(data, bits, code=code))
    assert waveform.dtype == torch.float32 and waveform.is_contiguous()
    assert waveform.tolist() == [-1.0, -0.5, 0.0, 0.5]


def test_channels_are_averaged(tmp_path):
    """Left 0.5, right -0.25: mean 0.125. Three channels of 0.75, 0, 0: mean 0.25."""
    stereo = struct.pack("<4h", 16384, -8192, 16384, -8192)
    assert load(tmp_path, wav_bytes(stereo, 16, channels=2)).tolist() == [0.125, 0.125]
    three = struct.pack("<3h", 24576, 0, 0)
    assert load(tmp_path, wav_bytes(three, 16, channels=3)).tolist() == [0.25]


def test_float_samples_above_one_are_kept(tmp_path):
    data = struct.pack("<3f", 1.5, -2.25, 0.5)
    assert load(tmp_path, wav_bytes(data, 32, code=FLOAT)).tolist() == [1.5, -2.25, 0.5]


@pytest.mark.parametrize(
    ("left", "right", "warned"),
    [(1, -1, True), (1, -0.9, True), (1, -0.5, False), (1, 1, False), (1, 0, False), (0, 0, False)],
)
@pytest.mark.parametrize("read", [load_waveform, lambda path: FileSound(path).window(0, 20_000)])
def test_channels_that_cancel_are_told(tmp_path, caplog, read, left, right, warned):
    """Once for each file, by data sets and films alike."""
    tone = 0.5 * np.sin(np.arange(16_000))
    soundfile.write(tmp_path / "two.wav", np.stack([left * tone, right * tone], 1), 16_000)
    for _ in range(2):
        read(tmp_path / "two.wav")
    told = [text for text in caplog.messages if "cancel each other" in text]
    assert len(told) == warned and all(str(tmp_path / "two.wav") in text for text in told)


def test_the_mean_is_numpys_to_the_bit(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    found = load(tmp_path, wav_bytes(samples.tobytes(), 32, channels=2, code=FLOAT))
    expected = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    assert np.array_equal(found.numpy(), expected)


def test_stereo_at_44_100_hz_becomes_mono_at_16_khz(tmp_path):
    """The mean of 0.8 sin and 0.2 sin is 0.5 sin, at the new rate too."""
    times = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * times)
    soundfile.write(tmp_path / "clip.wav", np.stack([0.8 * tone, 0.2 * tone], axis=1), 44_100)
    waveform = load_waveform(tmp_path / "clip.wav")
    assert waveform.shape == (16_000,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(waveform.numpy()[100:-100], expected[100:-100], atol=2e-3)


def test_other_containers_and_chunks_are_read(tmp_path):
    samples = np.array([0.5, -0.5, 0.25])
    soundfile.write(tmp_path / "clip.flac", samples, 16_000)
    assert load_waveform(str(tmp_path / "clip.flac")).tolist() == samples.tolist()
    # An odd chunk before the sound is followed by a pad byte that its length does not count.
    extra = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"
    data = struct.pack("<2h", 16384, -16384)
    assert load(tmp_path, wav_bytes(data, 16, extra=extra)).tolist() == [0.5, -0.5]


def test_a_stream_of_unknown_length_is_read(tmp_path):
    data = struct.pack("<2h", 16384, -16384)
    content = wav_bytes(data, 16, declared=0xFFFFFFFF)
    assert load(tmp_path, content).tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read"),
        (b"no sound at all, but a few words", "cannot read"),
        (wav_bytes(struct.pack("<4h", 1, 2, 3, 4), 16)[:20], "cannot read"),
        (wav_bytes(b"", 16), "no samples"),
        (wav_bytes(struct.pack("<2h", 1, 2), 16, declared=400), "announces 400 bytes .* 4 are"),
        (wav_bytes(struct.pack("<2f", 0, np.nan), 32, code=FLOAT), "index 1"),
        (wav_bytes(struct.pack("<2f", np.inf, 0), 32, code=FLOAT), "index 0"),
        (
            wav_bytes(struct.pack("<2f", 0, 13_087), 32, code=FLOAT),
            "one is 13087: .*volume=1/32768",
        ),
        (wav_bytes(struct.pack("<2h", 1, 2), 16, rate=10), "cannot resample .* got 10"),
    ],
    ids=[
        "no bytes",
        "text",
        "half a header",
        "no samples",
        "cut",
        "nan",
        "infinite",
        "16 bits",
        "10 Hz",
    ],
)
def test_bad_files_are_named_and_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, content)
    assert str(tmp_path / "clip.wav") in str(error.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.wav"):
        load_waveform(tmp_path / "absent.wav")
    with pytest.raises(ValueError, match="not a file"):
        load_waveform(tmp_path)


def test_saved_waveforms_come_back(tmp_path):
    codes = torch.tensor([-32768, -1, 0, 1, 32767], dtype=torch.float32)
    save_waveform(tmp_path / "clip.wav", codes / 32768)
    assert torch.equal(load_waveform(tmp_path / "clip.wav") * 32768, codes)
    assert soundfile.info(tmp_path / "clip.wav").subtype == "PCM_16"
    noise = 2 * torch.rand(1000, generator=torch.Generator().manual_seed(0)) - 1
    save_waveform(tmp_path / "clip.wav", noise.numpy())  # replaces the first
    torch.testing.assert_close(load_waveform(tmp_path / "clip.wav"), noise, atol=1 / 32768, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]


def test_saving_scales_loud_clips_instead_of_clipping(tmp_path):
    save_waveform(tmp_path / "clip.wav", torch.tensor([2.0, -1.0, 0.5]))
    expected = torch.tensor([1.0, -0.5, 0.25])
    loaded = load_waveform(tmp_path / "clip.wav")
    torch.testing.assert_close(loaded, expected, atol=1 / 32768, rtol=0)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    save_waveform(tmp_path / "clip.wav", torch.tensor([0.5]))
    monkeypatch.setattr(soundfile, "write", lambda path, *rest, **options: path.write_bytes(b"?"))
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_waveform(tmp_path / "clip.wav", torch.tensor([0.25]))
    assert load_waveform(tmp_path / "clip.wav").tolist() == [0.5]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]


def test_saving_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one sample"):
        save_waveform(tmp_path / "clip.wav", torch.zeros(0))
    assert not list(tmp_path.iterdir())
