"""Precomputed embeddings on disk: found by what a sound file holds, refused where foreign."""

import os
import pickle

import pytest
import safetensors.torch
import torch

from transavs.audio import EmbeddingStore, SmallVGGish
from transavs.audio.embedding_store import entry_name, write_store


@pytest.fixture
def sound(tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"the sound of one clip")
    return str(file)


@pytest.fixture
def store(tmp_path, sound):
    path = tmp_path / "store.safetensors"
    write_store(path, {entry_name(sound, 3): torch.arange(6.0).view(3, 2)}, "encoder; recipe; abc")
    return EmbeddingStore(path)


def test_found_by_content_and_length(store, sound, tmp_path):
    found = store.find(sound, 3)
    assert torch.equal(found, torch.arange(6.0).view(3, 2)) and found.dtype == torch.float32
    assert store.find(sound, 5) is None, "another length of clip is another entry"
    copy = tmp_path / "another name.wav"
    copy.write_bytes(b"the sound of one clip")
    assert torch.equal(store.find(str(copy), 3), found)
    copy.write_bytes(b"the sound of another clip")
    assert store.find(str(copy), 3) is None, "a file that changes is not found"
    # Of the same length and at the same time, it would be: say when that may matter.
    os.utime(copy, ns=(1, 1))
    assert store.find(str(copy), 3) is None
    with pytest.raises(FileNotFoundError, match="restore it"):
        store.find(str(tmp_path / "no.wav"), 3)


def test_workers_open_it_anew(store, sound):
    again = pickle.loads(pickle.dumps(store))
    assert again.identity == store.identity == "encoder; recipe; abc"
    assert torch.equal(again.find(sound, 3), store.find(sound, 3))
    assert store.entries().keys() == {entry_name(sound, 3)}


def test_other_files_are_refused(tmp_path, sound):
    with pytest.raises(FileNotFoundError, match="tools/precompute_audio.py, or leave INPUT"):
        EmbeddingStore(tmp_path / "no.safetensors")
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"weights\.safetensors: expected embeddings .*another"):
        EmbeddingStore(path)
    path.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"cannot read .*weights\.safetensors.*compute it again"):
        EmbeddingStore(path)
    write_store(path, {entry_name(sound, 3): torch.ones(2, 2)}, "encoder")
    with pytest.raises(ValueError, match=r"finite float32 \[3, D\] for .*a\.wav, got \[2, 2\]"):
        EmbeddingStore(path).find(sound, 3)


def test_identity_follows_the_weights():
    encoder = SmallVGGish()
    encoder.freeze()
    first = encoder.identity()
    assert first.startswith("SmallVGGish; vggish log-mel 2; ") and encoder.identity() == first
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state["embedding.bias"] += 1e-3
    parent = torch.nn.ModuleDict({"audio_encoder": encoder})
    parent.load_state_dict({f"audio_encoder.{name}": tensor for name, tensor in state.items()})
    assert encoder.identity() != first
    other = SmallVGGish().freeze()
    assert other.identity() != first
