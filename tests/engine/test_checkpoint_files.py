"""Which checkpoint is gone on from when files are damaged, lost or half written."""

import logging
import os
import zipfile

import pytest
import torch
from detectron2.utils import comm
from torch import nn

from transavs.config import setup_cfg
from transavs.engine import SafeCheckpointer
from transavs.engine.checkpoint_files import (
    damage,
    has_checkpoints,
    newest_whole_checkpoint,
    numbered_checkpoints,
    remove_leftovers,
)
from transavs.engine.nonfinite import build_watch
from transavs.engine.steps import MixedPrecisionSteps


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints after iterations 2, 5 and 8; the last is the newest."""
    for iteration in (2, 5, 8):
        model = nn.Linear(3, 2)
        nn.init.constant_(model.weight, iteration)
        SafeCheckpointer(model, str(tmp_path)).save(f"model_{iteration:07d}", iteration=iteration)
    return tmp_path


def truncate(path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def flip_a_bit(path) -> None:
    """Changes a weight in a way that leaves a readable file."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda item: item.filename.endswith("data/0"))
    # Behind a header of 30 bytes, its name and its padding.
    extra = int.from_bytes(content[entry.header_offset + 28 :][:2], "little")
    content[entry.header_offset + 30 + len(entry.filename) + extra] ^= 1
    path.write_bytes(content)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_whole_files_have_no_damage(run):
    for path in numbered_checkpoints(str(run)).values():
        assert damage(path) is None
    assert newest_whole_checkpoint(str(run)) == str(run / "model_0000008.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_newest_checkpoint_is_replaced_by_the_one_before(run, caplog, share):
    truncate(run / "model_0000008.pth", share)
    before = contents(run)
    with caplog.at_level(logging.WARNING):
        found = newest_whole_checkpoint(str(run))
    assert found == str(run / "model_0000005.pth")
    assert str(run / "model_0000008.pth") in caplog.text and found in caplog.text
    assert contents(run) == before


def test_flipped_bit_is_noticed(run):
    flip_a_bit(run / "model_0000008.pth")
    # torch reads other weights without a word.
    torch.load(run / "model_0000008.pth")
    assert "checksum" in (damage(str(run / "model_0000008.pth")) or "")
    model = nn.Linear(3, 2)
    checkpointer = SafeCheckpointer(model, str(run))
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 5
    assert checkpointer.resumed_from == str(run / "model_0000005.pth")
    assert (model.weight == 5).all()


def test_file_of_the_note_is_gone(run, caplog):
    (run / "model_0000008.pth").unlink()
    with caplog.at_level(logging.WARNING):
        assert newest_whole_checkpoint(str(run)) == str(run / "model_0000005.pth")
    assert "model_0000008.pth cannot be read: no such file" in caplog.text


@pytest.mark.parametrize("note", [None, "", "\0" * 17])
def test_note_is_gone_or_empty(run, caplog, note):
    """As after a kill between the first checkpoint and its note, or a power failure."""
    (run / "last_checkpoint").unlink()
    if note is not None:
        (run / "last_checkpoint").write_text(note)
    assert has_checkpoints(str(run))
    with caplog.at_level(logging.WARNING):
        assert newest_whole_checkpoint(str(run)) == str(run / "model_0000008.pth")
    assert "last_checkpoint is missing or names no file" in caplog.text


def test_nothing_newer_than_the_note_is_taken(run):
    (run / "last_checkpoint").write_text("model_0000005.pth")
    assert newest_whole_checkpoint(str(run)) == str(run / "model_0000005.pth")
    truncate(run / "model_0000005.pth", 0.5)
    assert newest_whole_checkpoint(str(run)) == str(run / "model_0000002.pth")


def test_damaged_end_of_training(run):
    SafeCheckpointer(nn.Linear(3, 2), str(run)).save("model_final", iteration=9)
    assert newest_whole_checkpoint(str(run)) == str(run / "model_final.pth")
    truncate(run / "model_final.pth", 0.5)
    assert newest_whole_checkpoint(str(run)) == str(run / "model_0000008.pth")
    # The end of a shorter training is older than what came behind it.
    SafeCheckpointer(nn.Linear(3, 2), str(run)).save("model_final", iteration=6)
    (run / "last_checkpoint").write_text("model_0000008.pth")
    truncate(run / "model_0000008.pth", 0.5)
    assert newest_whole_checkpoint(str(run)) == str(run / "model_final.pth")


def test_none_can_be_read(run):
    for iteration in (2, 5, 8):
        truncate(run / f"model_{iteration:07d}.pth", 0.7)
    before = contents(run)
    with pytest.raises(ValueError) as caught:
        SafeCheckpointer(nn.Linear(3, 2), str(run)).resume_or_load("", resume=True)
    for iteration in (2, 5, 8):
        assert f"model_{iteration:07d}.pth (" in str(caught.value)
    assert "No checkpoint was changed" in str(caught.value) and "without --resume" in str(
        caught.value
    )
    assert contents(run) == before


def test_note_without_any_file_is_no_fresh_start(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000008.pth")
    with pytest.raises(ValueError, match=r"model_0000008\.pth \(no such file\)"):
        newest_whole_checkpoint(str(tmp_path))


def test_folder_without_checkpoints(tmp_path):
    (tmp_path / "model_best.pth").write_bytes(b"not one to go on from")
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert newest_whole_checkpoint(str(folder)) is None
        assert not SafeCheckpointer(nn.Linear(1, 1), str(folder)).has_checkpoint()


def test_archive_of_something_else(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    assert damage(str(tmp_path / "list.pth")) == "it holds a list"


def test_other_processes_follow_the_main_one(run, monkeypatch):
    """They may see another state of a shared folder."""
    main = ("model_0000002.pth", "")
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda own: [main, own])
    (run / "last_checkpoint").unlink()
    main = (str(run / "model_0000002.pth"), "")
    model = nn.Linear(3, 2)
    SafeCheckpointer(model, str(run)).resume_or_load("", resume=True)
    assert (model.weight == 2).all()
    main = (None, "no checkpoint can be read")
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        SafeCheckpointer(model, str(run)).resume_or_load("", resume=True)


def test_leftovers_of_killed_trainings_are_removed(run):
    for name in ("model_0000011.pth", "model_best.pth", "model_best.json", "last_checkpoint"):
        (run / f"{name}.tmp").write_bytes(b"half of it")
    (run / "notes.tmp").write_bytes(b"somebody's")
    remove_leftovers(str(run))
    assert [path.name for path in run.glob("*.tmp")] == ["notes.tmp"]
    assert len(numbered_checkpoints(str(run))) == 3


def test_scale_of_half_precision_comes_back(tmp_path):
    def steps() -> MixedPrecisionSteps:
        model = nn.Linear(3, 2)
        parts = (
            model,
            [],
            torch.optim.AdamW(model.parameters()),
            build_watch(setup_cfg("s4_R50.yaml")),
        )
        return MixedPrecisionSteps(*parts, device="cpu", precision="fp16")

    first, second = steps(), steps()
    first.grad_scaler.load_state_dict({
        **first.grad_scaler.state_dict(), "scale": 256.0, "_growth_tracker": 7,
    })  # fmt: skip
    SafeCheckpointer(first.model, str(tmp_path), steps=first).save("model_0000003")
    SafeCheckpointer(second.model, str(tmp_path), steps=second).resume_or_load("", resume=True)
    state = second.grad_scaler.state_dict()
    assert (state["scale"], state["_growth_tracker"]) == (256.0, 7)
    assert steps().grad_scaler.state_dict()["scale"] != 256.0
