"""Checkpoints, starting weights, encoder weights and stored embeddings that cannot be used."""

import pickle

import numpy as np
import pytest
import safetensors.torch
import tiny_models
import torch
from mistakes import Case, cases, check, write

CONVERT = "--config-file s4_R50.yaml --output {}/out.safetensors --weights {}/"
EMBED = "--config-file s4_R50.yaml --output {}/out.safetensors --datasets avsbench_s4_test "
EMBED += "MODEL.DEVICE cpu MODEL.AUDIO.WEIGHTS {}/"
TRAIN = "--config-file s4_R50.yaml MODEL.DEVICE cpu OUTPUT_DIR {}/out "
FETCH = "fetch it again|ask whoever made the file"


class Command:
    def __reduce__(self):
        return print, ("this must never run",)


def saved(name, content):
    """Returns what writes a file with torch.save."""
    return lambda folder: torch.save(content, folder / name)


def half(name):
    def prepare(folder):
        torch.save({"a": torch.zeros(1000)}, folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return prepare


def convert(name: str, file: str, told: str, prepare=None) -> Case:
    return Case(name, "convert_checkpoint", CONVERT + file, file, told, prepare)


@cases(
    convert("nothing", "w.pth", "check the path"),
    convert("a folder", "w.pth", "check the path", lambda folder: (folder / "w.pth").mkdir()),
    convert("words", "w.pth", FETCH, write("w.pth", "words")),
    convert("half of it", "w.pth", FETCH, half("w.pth")),
    convert("a call", "w.pth", "nothing of it was run", saved("w.pth", {"a": Command()})),
    convert("a call", "w.pkl", "nothing was run", write("w.pkl", pickle.dumps({"a": Command()}))),
    convert("half of it", "w.pkl", FETCH,
            write("w.pkl", pickle.dumps({"a": np.zeros(1000)})[:500])),
    convert("an archive", "w.pkl", "--list names", saved("w.pkl", {"a": torch.zeros(1)})),
    convert("a list", "w.pkl", "expected a dictionary", write("w.pkl", pickle.dumps([1]))),
    convert("a list", "w.pth", "expected a dictionary", saved("w.pth", [torch.zeros(1)])),
    convert("no tensors", "w.pth", "holds no tensors", saved("w.pth", {})),
    convert("words", "w.safetensors", FETCH, write("w.safetensors", "words")),
    convert("an endless header", "w.safetensors", FETCH, write("w.safetensors", b"\xff" * 64)),
    convert("of no kind", "w.pth", "--list names", saved("w.pth", {"a": torch.zeros(1)})),
    convert("words", "w.ckpt", "w.ckpt", write("w.ckpt", "words")),
)  # fmt: skip
def test_published_weights(case, tmp_path, capsys):
    check(case, tmp_path, capsys)


@cases(
    Case("no encoder", "precompute_audio", EMBED + "a.pth", "a.pth", "Name the file"),
    Case("words", "precompute_audio", EMBED + "a.pth", "a.pth", FETCH, write("a.pth", "words")),
    Case("another network", "precompute_audio", EMBED + "a.pth", "a.pth", "lacks",
         saved("a.pth", {"a": torch.zeros(1)})),
    Case("words to add to", "precompute_audio",
         EMBED.replace("MODEL.AUDIO.WEIGHTS {}/", "MODEL.AUDIO.NAME NoAudio"), "out.safetensors",
         "delete the file", write("out.safetensors", "words")),
    Case("another's embeddings", "train_net", TRAIN + "INPUT.AUDIO_EMBEDDINGS {}/e.safetensors",
         "e.safetensors", "compute them again",
         write("e.safetensors", safetensors.torch.save({"a": torch.zeros(1)}))),
    Case("no embeddings", "train_net", TRAIN + "INPUT.AUDIO_EMBEDDINGS {}/e.safetensors",
         "e.safetensors", "write them with"),
)  # fmt: skip
def test_of_sounds(case, datasets_env, tmp_path, capsys):
    options = ["MODEL.AUDIO.NAME", "SmallVGGish"] if "NoAudio" not in case.words else []
    check(case, tmp_path, capsys, options)


EVALUATE = "--config-file s4_R50.yaml --conditions original --weights {}/w.pth --output {}/out.json"
OTHERS = "Name a file that a training wrote|ask whoever made the file"
EMPTY = "holds no tensors at all: name the checkpoint of a trained model with --weights"


@cases(
    Case("words", "eval_robustness", EVALUATE, "w.pth", OTHERS, write("w.pth", "words")),
    Case("nothing", "eval_robustness", EVALUATE, "w.pth", OTHERS, write("w.pth", "")),
    Case("half", "eval_robustness", EVALUATE, "w.pth", OTHERS, write("w.pth", b"PK\x03\x04 half")),
    Case("no tensors", "eval_robustness", EVALUATE, "w.pth", EMPTY, saved("w.pth", {})),
    Case("no model", "eval_robustness", EVALUATE, "w.pth", EMPTY, saved("w.pth", {"model": {}})),
)  # fmt: skip
def test_a_checkpoint_to_evaluate(case, datasets_env, tmp_path, capsys):
    check(case, tmp_path, capsys, tiny_models.TINY)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_frame_ends_a_training_in_a_line(
    workers, datasets_env, tmp_path, capsys, monkeypatch
):
    """detectron2 would log the traceback before the line."""
    from transavs.tools import train_net

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    frames = datasets_env / "Single-source/s4_data/visual_frames/train"
    for frame in frames.rglob("*_1.png"):
        frame.write_bytes(frame.read_bytes()[:60])
    words = ["--config-file", "s4_R50.yaml", *tiny_models.TINY, "OUTPUT_DIR", str(tmp_path / "out")]
    assert train_net.main([*words, "DATALOADER.NUM_WORKERS", str(workers)]) == 2
    printed = capsys.readouterr()
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "Traceback" not in printed.err + printed.out + log
    assert "Training failed: " in log and "_1.png is truncated" in log
    (line,) = [line for line in printed.err.splitlines() if line.startswith("train_net: error: ")]
    assert "_1.png is truncated" in line and "restore the file" in line
    assert not list((tmp_path / "out").glob("*.pth*"))
