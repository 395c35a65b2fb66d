"""pretrain_audio: the weights it writes, and its answers to mistakes."""

import json

import avsbench_trees
import pytest
import safetensors.torch
import tiny_models
import torch

from transavs.audio import SmallVGGish, YAMNet, load_encoder_weights
from transavs.tools.pretrain_audio import main


def words(folder, *more: str, train: str = "demo_ms3_train", val: str = "demo_ms3_val"):
    return [
        *("--config-file", "demo/demo_ms3.yaml", "--train", train, "--val", val),
        *("--steps", "2", "--batch-size", "4", "--workers", "0", "--mixtures", "0"),
        *("--output", str(folder / "audio.safetensors"), *more),
    ]


def test_weights_serve_the_training_of_transavs(datasets_env, tmp_path):
    folder = tmp_path / "out"
    assert main(words(folder)) == 0
    encoder = SmallVGGish()
    load_encoder_weights(encoder, folder / "audio.safetensors")
    note = json.loads((folder / "audio.json").read_text())
    assert note["classes"] == ["cow", "dog"] and note["steps"] == 2
    assert note["train"] == ["demo_ms3_train"]
    assert 0 <= note["f1"] <= 100
    model = tiny_models.tiny_model("MODEL.AUDIO.WEIGHTS", folder / "audio.safetensors")
    assert torch.equal(model.audio_encoder.embedding.weight, encoder.embedding.weight)
    assert not list(folder.glob("*.tmp"))


def test_same_seed_writes_the_same_weights(datasets_env, tmp_path):
    for name in ("one", "two"):
        assert main(words(tmp_path / name)) == 0
    first, second = (
        (tmp_path / name / "audio.safetensors").read_bytes() for name in ("one", "two")
    )
    assert first == second
    assert main(words(tmp_path / "three", "--seed", "1")[:-2] + ["--seed", "1"]) == 0
    assert (tmp_path / "three" / "audio.safetensors").read_bytes() != first
    assert main(words(tmp_path / "four", "--learning-rate", "1e-4")) == 0
    assert (tmp_path / "four" / "audio.safetensors").read_bytes() != first
    assert json.loads((tmp_path / "four" / "audio.json").read_text())["learning_rate"] == 1e-4


def test_mixtures_of_the_composed_recordings(datasets_env, tmp_path, capsys):
    """The labels of both sources must mean the same classes."""
    folder = datasets_env / "transavs_demo" / "recordings"
    folder.mkdir()
    avsbench_trees.write_wav(folder / "a.wav", avsbench_trees.waveform("a")[:, None])
    (folder / "recordings.json").write_text(json.dumps({"cow": ["a.wav"], "dog": ["a.wav"]}))
    assert main(words(tmp_path, "--mixtures", "2")) == 0
    assert json.loads((tmp_path / "audio.json").read_text())["mixtures"] == 2
    (folder / "recordings.json").write_text(json.dumps({"owl": ["a.wav"]}))
    assert main(words(tmp_path / "other", "--mixtures", "2")) == 2
    assert "recordings of owl, the data sets name the sound classes cow, dog" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("train", "message"), [
    ("avsbench_s4_train", "name different sound classes"),
    ("avsbench_ms3_train", "sound"),
    ("demo_ms3_nowhere", "demo_ms3_nowhere"),
])  # fmt: skip
def test_data_that_does_not_serve_is_refused(datasets_env, tmp_path, capsys, train, message):
    assert main(words(tmp_path, train=train)) == 2
    error = capsys.readouterr().err
    assert "pretrain_audio: error: " in error and message in error
    assert not (tmp_path / "audio.safetensors").exists()


@pytest.mark.parametrize(("option", "value", "message"), [
    ("--mixtures", "-1", "--mixtures must be at least 0, got -1"),
    ("--steps", "0", "--steps must be at least 1, got 0"),
    ("--batch-size", "0", "--batch-size must be at least 1, got 0"),
    ("--workers", "-1", "--workers must be at least 0, got -1"),
    ("--learning-rate", "0", "--learning-rate must be a finite number above 0, got 0"),
    ("--learning-rate", "nan", "--learning-rate must be a finite number above 0, got nan"),
])  # fmt: skip
def test_numbers_out_of_range(datasets_env, tmp_path, capsys, option, value, message):
    assert main([*words(tmp_path), option, value]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("audio*"))


@pytest.fixture
def recordings(tmp_path):
    """Two recordings of each of two classes, one of them held out, and weights of YAMNet."""
    lines = ["file,class,split"]
    for label in ("cow", "dog"):
        for split in ("train", "heldout"):
            file = tmp_path / "sounds" / label / f"{split}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            avsbench_trees.write_wav(file, avsbench_trees.waveform(label + split)[:, None])
            lines.append(f"sounds/{label}/{file.name},{label},{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    torch.manual_seed(0)
    trunk = YAMNet(("embedding", "scores"))
    safetensors.torch.save_file(trunk.state_dict(), tmp_path / "yamnet.safetensors")
    return tmp_path


def mixing(folder, *more: str):
    return [
        *("--config-file", "demo/demo_ms3.yaml", "--sounds", str(folder / "sounds")),
        *("--steps", "2", "--batch-size", "4", "--workers", "0", "--mixtures", "32"),
        *("--output", str(folder / "out" / "audio.safetensors"), *more),
    ]


def test_head_of_yamnet_on_mixtures_of_recordings(recordings, monkeypatch):
    """The layers below stay those of --start; what is written serves TransAVS."""
    monkeypatch.setattr("transavs.tools.pretrain_audio._HELDOUT_EXAMPLES", 32)
    start = str(recordings / "yamnet.safetensors")
    key = ("MODEL.AUDIO.NAME", "YAMNet", "MODEL.AUDIO.YAMNET.OUTPUT", "('head', 'scores')")
    assert main(mixing(recordings, "--start", start, *key)) == 0
    note = json.loads((recordings / "out" / "audio.json").read_text())
    assert note["classes"] == ["cow", "dog"] and note["mixtures"] == 32
    assert 0 <= note["f1"] <= 100 and 0 <= note["map"] <= 100
    before = safetensors.torch.load_file(start)
    written = safetensors.torch.load_file(recordings / "out" / "audio.safetensors")
    assert all(torch.equal(written[name], values) for name, values in before.items())
    assert any(name.startswith("head.") for name in written)
    model = tiny_models.tiny_model(
        "MODEL.AUDIO.WEIGHTS", recordings / "out" / "audio.safetensors", *key[:2], key[2], key[3]
    )
    assert model.audio_encoder.embedding_dim == 128 + 521


def test_other_encoders_on_mixtures_of_recordings(recordings, monkeypatch):
    monkeypatch.setattr("transavs.tools.pretrain_audio._HELDOUT_EXAMPLES", 32)
    assert main(mixing(recordings, "MODEL.AUDIO.NAME", "SmallVGGish")) == 0
    load_encoder_weights(SmallVGGish(), recordings / "out" / "audio.safetensors")


@pytest.mark.parametrize(("more", "message"), [
    (["MODEL.AUDIO.NAME", "YAMNet"], "--start"),
    (["--start", "nowhere.safetensors"], "--start: no file nowhere.safetensors"),
    (["--mixtures", "0"], "--mixtures must be at least 1, got 0"),
    (["--manifest", "nowhere.csv"], "no table of recordings at nowhere.csv"),
])  # fmt: skip
def test_recordings_that_do_not_serve(recordings, capsys, more, message):
    assert main(mixing(recordings, *more)) == 2
    assert message in capsys.readouterr().err
    assert not (recordings / "out").exists()
