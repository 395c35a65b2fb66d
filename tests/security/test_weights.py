"""Weights are data: whatever a file of them asks for, nothing of it is run."""

import pickle
import struct
import tracemalloc

import pytest
import torch
from hostile_files import Payload, run_for_certain, write_weights
from torch import nn

from transavs.audio import load_encoder_weights
from transavs.engine import SafeCheckpointer
from transavs.pretrained import read_weights
from transavs.pretrained.files import load_lightning_checkpoint
from transavs.pretrained.restricted_pickle import load_checkpoint_pickle, read_log_mel_pickle
from transavs.pretrained.timm_models import load_timm_weights


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)


def load_model_weights(path):
    SafeCheckpointer(Network()).load(str(path))


def load_backbone_weights(path):
    SafeCheckpointer(Network()).load(f"{path}?matching_heuristics=True")


def resume(path):
    (path.parent / "last_checkpoint").write_text(path.name)
    SafeCheckpointer(Network(), str(path.parent)).resume_or_load("", resume=True)


#: What reads weights: MODEL.WEIGHTS, the same with heuristics, --resume, MODEL.AUDIO.WEIGHTS,
#: MODEL.TIMM.WEIGHTS, convert_checkpoint.py.
READERS = {
    "model": load_model_weights,
    "backbone": load_backbone_weights,
    "resume": resume,
    "audio": lambda path: load_encoder_weights(Network(), path),
    "timm": lambda path: load_timm_weights(Network(), "resnet18", str(path)),
    "convert": read_weights,
}


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("reader", READERS)
def test_payloads_are_not_run(tmp_path, reader, form):
    canary = tmp_path / "canary"
    for suffix in (".pth", ".pkl", ".bin"):
        path = write_weights(tmp_path / f"weights{suffix}", form, canary)
        with pytest.raises(ValueError) as error:
            READERS[reader](path)
        assert path.name in str(error.value)
        # torch would have people switch its protection off.
        assert "weights_only" not in str(error.value)
        run_for_certain(path, canary)


@pytest.mark.parametrize("reader", READERS)
def test_programs_of_torchscript_are_no_weights(tmp_path, reader):
    path = write_weights(tmp_path / "weights.pth", "script", tmp_path / "canary")
    with pytest.raises(ValueError, match=r"weights\.pth.*refused") as error:
        READERS[reader](path)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("reader", ["model", "audio", "timm", "convert"])
@pytest.mark.parametrize("promised", [8, 1 << 27, (1 << 63) - 1])
def test_headers_of_safetensors_that_promise_much(tmp_path, reader, promised):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", promised) + b'{"a":1} ')
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"weights\.safetensors"):
            READERS[reader](path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_pickles_of_a_payload_under_the_name_of_safetensors(tmp_path):
    canary = tmp_path / "canary"
    path = write_weights(tmp_path / "weights.safetensors", "zip", canary)
    for reader in READERS.values():
        with pytest.raises(ValueError, match=r"weights\.safetensors"):
            reader(path)
    run_for_certain(path, canary)


def test_checkpoints_of_lightning_are_read_without_their_payload(tmp_path):
    canary = tmp_path / "canary"
    path = write_weights(tmp_path / "weights.ckpt", "zip", canary)
    content = load_lightning_checkpoint(path)
    assert torch.equal(content["model"]["head.weight"], torch.zeros(3, 4))
    assert not content["optimizer"]
    assert set(read_weights(path)) == {"head.weight"}
    run_for_certain(path, canary)
    for form in ("legacy", "pickle", "script"):
        write_weights(path, form, canary)
        for reader in (read_weights, READERS["audio"]):
            with pytest.raises(ValueError, match=r"weights\.ckpt"):
                reader(path)
        assert not canary.exists()


@pytest.mark.parametrize("note", ["../other.pth", "sub/other.pth", "{outside}/other.pth"])
def test_resuming_keeps_to_the_output_folder(tmp_path, note):
    output = tmp_path / "output"
    for folder in (tmp_path, output / "sub"):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"model": Network().state_dict()}, folder / "other.pth")
    (output / "last_checkpoint").write_text(note.format(outside=tmp_path))
    with pytest.raises(ValueError, match="last_checkpoint must name a file beside it, not"):
        SafeCheckpointer(Network(), str(output)).resume_or_load("", resume=True)


def test_resuming_beside_the_note(tmp_path):
    saved, resumed = Network(), Network()
    SafeCheckpointer(saved, f"{tmp_path}/").save("model_final", iteration=3)
    found = SafeCheckpointer(resumed, f"{tmp_path}/").resume_or_load("", resume=True)
    assert found["iteration"] == 3
    assert torch.equal(saved.head.weight, resumed.head.weight)


class TestMemory:
    """Pickles of some bytes that would take gigabytes, here in small."""

    @pytest.mark.parametrize("reader", [load_checkpoint_pickle, read_log_mel_pickle])
    @pytest.mark.parametrize(
        ("content", "most"),
        [
            # An object under number 2 ** 22: a table of 64 MB.
            (b"\x80\x02}r\x00\x00\x40\x00.", 1 << 22),
            # A bytearray of 64 MB, of which there is one byte: asked for, but never written to.
            (b"\x80\x05\x96" + struct.pack("<Q", 1 << 26) + b"a.", 1.5 * (1 << 26)),
        ],
        ids=["memo", "bytearray"],
    )
    def test_promises(self, tmp_path, reader, content, most):
        path = tmp_path / "weights.pkl"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"weights\.pkl"):
                reader(path)
            assert tracemalloc.get_traced_memory()[1] < most
        finally:
            tracemalloc.stop()

    def test_tuples_of_tuples(self, tmp_path):
        content = (1.5,)
        for _ in range(64):
            content = (content, content)
        path = tmp_path / "weights.pkl"
        path.write_bytes(pickle.dumps({"weight": content}))
        found = load_checkpoint_pickle(path)["weight"]
        for _ in range(64):
            assert found[0] is found[1]
            found = found[0]
        assert found == (1.5,)


def test_log_mel_pickles_with_a_payload(tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "clip.pkl"
    for content in (Payload(canary), [torch.zeros(5, 1, 96, 64), Payload(canary)]):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=r"clip\.pkl .*it asks for \w+\.open"):
            read_log_mel_pickle(path)
        run_for_certain(path, canary)
