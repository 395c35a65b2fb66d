"""Tables of recordings, and mixtures of them for the pretraining of audio encoders."""

import avsbench_trees
import numpy as np
import pytest
import torch

from transavs.data.recordings import BLOCK, RecordingFile, RecordingMixtures, read_manifest

RATE = 16_000


def write_tone(path, frequency_hz, seconds=1.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(seconds * RATE)) / RATE
    avsbench_trees.write_wav(path, 0.5 * np.sin(2 * np.pi * frequency_hz * times)[:, None], RATE)


@pytest.fixture
def sounds(tmp_path):
    """Low and high tones; a table that lists other things as well."""
    lines = ["file,kind,class,split", "coco/a.jpg,coco,dog,train"]
    for number, split in enumerate(["train", "train", "heldout"]):
        for label, frequency_hz in (("low", 300), ("high", 3000)):
            file = f"sounds/{label}/{number}.wav"
            write_tone(tmp_path / file, frequency_hz * (1 + 0.05 * number))
            lines.append(f"{file},sound,{label},{split}")
    lines.append("elsewhere/a.ogg,sound,low,train")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_table_of_recordings(sounds):
    found = read_manifest(sounds / "manifest.csv", [sounds / "sounds"])
    assert [(file.label, file.split) for file in found] == [
        *[("low", "train"), ("high", "train")] * 2,
        *[("low", "heldout"), ("high", "heldout")],
    ]
    assert found[0].path == (sounds / "sounds/low/0.wav").resolve()


@pytest.mark.parametrize(("old", "new", "error", "named"), [
    ("low,heldout", "low,test", ValueError, "line 7.*train or heldout.*'test'"),
    ("file,kind", "path,kind", ValueError, "manifest.csv: expected the columns file"),
    ("heldout", "train", ValueError, "no recordings of the split heldout"),
    ("low/0.wav", "low/9.wav", FileNotFoundError, "line 3: no file .*9.wav"),
    ("coco/a.jpg", "\udce9", ValueError, "manifest.csv"),
])  # fmt: skip
def test_tables_that_do_not_serve(sounds, old, new, error, named):
    table = sounds / "manifest.csv"
    text = table.read_text().replace(old, new)
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(error, match=named):
        read_manifest(table, [sounds / "sounds"])


def test_mixtures_hold_what_their_labels_say(sounds):
    files = read_manifest(sounds / "manifest.csv", [sounds / "sounds"])
    mixtures = RecordingMixtures(files, ["high", "low", "never"], BLOCK * 4 + 1, seed=4)
    assert len(mixtures) == 5
    blocks = list(mixtures)
    examples = torch.cat([block[0] for block in blocks])
    labels = torch.cat([block[1] for block in blocks])
    assert examples.shape == (5 * BLOCK, 1, 96, 64) and labels.dtype == torch.bool
    mel = (examples.exp() - 0.01).clamp(min=0)[:, 0].amax(1)
    # 300 to 330 Hz and 3000 to 3300 Hz, in bands of VGGish's 64.
    loud = torch.stack([mel[:, 42:48].amax(1), mel[:, 4:11].amax(1)], dim=1) > 0.5
    assert torch.equal(loud, labels[:, :2]) and not labels[:, 2].any()
    assert {tuple(row) for row in labels[:, :2].tolist()} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip
    again = RecordingMixtures(files, ["high", "low", "never"], BLOCK, seed=4)[0]
    assert torch.equal(again[0], blocks[0][0]) and torch.equal(again[1], blocks[0][1])
    other = RecordingMixtures(files, ["high", "low", "never"], BLOCK, seed=5)[0]
    assert not torch.equal(other[0], blocks[0][0])


def test_short_and_silent_recordings(tmp_path):
    """A click of 20 ms fits anywhere; digital silence is mixed as such."""
    write_tone(tmp_path / "click.wav", 1000, 0.02)
    avsbench_trees.write_wav(tmp_path / "none.wav", np.zeros((RATE, 1)), RATE)
    files = [RecordingFile(tmp_path / f"{name}.wav", name, "train") for name in ("click", "none")]
    examples, labels = RecordingMixtures(files, ["click", "none"], BLOCK, seed=0)[0]
    assert torch.isfinite(examples).all()
    loud = examples.flatten(1).amax(1) > -4
    assert torch.equal(loud, labels[:, 0])
