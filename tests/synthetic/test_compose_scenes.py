"""The command that composes scenes, and the sets that it writes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from demo_files import write_packages
from PIL import Image

from transavs.config import setup_cfg
from transavs.data import AVSDatasetMapper, load_records
from transavs.data.demo.catalogue import classes_named, file_references
from transavs.data.record_masks import read_sounding_objects, read_union
from transavs.synthetic import instruments
from transavs.tools import collect_sounds, compose_scenes

COUNTS = ["--train", "14", "--val", "2", "--test", "2", "--wild", "4"]
DATA = "transavs_scenes/Multi-sources/ms3_data"


@pytest.fixture(scope="module")
def composed(options, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("composed")
    assert compose_scenes.main([*options, *COUNTS, "--output", str(root)]) == 0
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_set_is_read_as_any_other(composed, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(composed))
    cfg = setup_cfg("demo/demo_ms3.yaml", ["MODEL.TRANSAVS.TARGETS", "objects"])
    mapper = AVSDatasetMapper(cfg, is_train=True)
    marked = 0
    for split, count in {"train": 14, "val": 2, "test": 2, "wild": 4}.items():
        records = load_records(f"scenes_ms3_{split}")
        assert len(records) == count
        for record in records:
            clip = mapper(record, np.random.default_rng(0))
            assert len(clip["target_masks"]) == 5
            with Image.open(record["file_names"][0]) as frame:
                size = (frame.height, frame.width)
                assert max(size) == 48
            for second in range(5):
                union = read_union(record, second, size)
                objects = read_sounding_objects(record, second, size)
                assert (union == (objects > 0)).all()
                name = record["mask_file_names"][second].replace("gt_masks", "class_masks")
                classes = np.asarray(Image.open(name))
                assert ((classes > 0) == union).all()
                assert set(np.unique(classes[union]) - 1) <= set(record["sound_labels"][second])
                marked += union.any()
            samples, rate = soundfile.read(record["audio_file"])
            assert (rate, samples.shape) == (16000, (80000,))
    assert marked > 25


def test_what_sounds_is_in_the_wav(composed):
    """Seconds in which nothing is to be heard hold less than those that hold a recording."""
    objects = json.loads((composed / DATA / "objects.json").read_text())
    loud = {True: [], False: []}
    for name, clip in objects.items():
        samples, _ = soundfile.read(composed / DATA / f"audio_wav/{clip['split']}/{name}.wav")
        level = np.abs(samples.reshape(5, 16000)).mean(axis=1)
        for second in range(5):
            heard = any(each["sounding"][second] for each in clip["objects"])
            loud[heard].append(level[second])
    assert min(loud[True]) > 1e-3
    assert np.mean(loud[True]) > 2 * np.mean(loud[False])


def test_resumed(options, composed, tmp_path, capsys):
    """What is missing is composed anew to the same bytes, and the rest is left alone."""
    whole = contents(composed)
    again = [*options, *COUNTS, "--output", str(composed)]
    gone = composed / DATA / "gt_masks/train/train_000003/train_000003_2.png"
    kept = composed / DATA / "audio_wav/train/train_000002.wav"
    gone.unlink()
    before = kept.stat().st_mtime_ns
    assert compose_scenes.main(again) == 0
    assert contents(composed) == whole and kept.stat().st_mtime_ns == before
    assert compose_scenes.main([*again, "--seed", "1"]) == 2
    assert "seed" in capsys.readouterr().err
    assert contents(composed) == whole
    other = [*options, *COUNTS, "--output", str(tmp_path), "--workers", "2", "--train", "15"]
    assert compose_scenes.main(other) == 0
    longer = contents(tmp_path)
    assert {name for name in whole if longer[name] != whole[name]} <= {
        f"transavs_scenes/Multi-sources/{name}" for name in
        ("ms3_data/objects.json", "ms3_meta_data.csv")
    }  # fmt: skip


def test_recordings_that_cannot_be_heard_are_passed_over(material, options, tmp_path, caplog):
    sounds = tmp_path / "sounds/dog"
    sounds.mkdir(parents=True)
    for number in range(4):
        soundfile.write(sounds / f"{number}.wav", np.zeros(16000), 16000)
    (sounds / "broken.ogg").write_bytes(b"OggS")
    where = options.index("--sounds")
    words = [*options[: where + 1], f"{material}/sounds", str(sounds.parent), *options[where + 2 :]]
    none = ["--val", "0", "--test", "0", "--wild", "0", "--train", "25"]
    assert compose_scenes.main([*words, *none, "--output", str(tmp_path)]) == 0
    assert "passed over" in caplog.text


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--sounds", "nowhere", "nowhere"),
        ("--images", "nowhere", "0 photographs"),
        ("--coco", "classes.yaml", "COCO"),
        ("--classes", "coco.json", "classes"),
        ("--size", "5", "32 to 2048"),
        ("--train", "-1", "from 0"),
        ("--workers", "0", "worker"),
    ],
)
def test_mistakes(material, options, tmp_path, capsys, option, value, named):
    value = str(material / value) if option not in ("--size", "--train", "--workers") else value
    words = [*options, "--output", str(tmp_path / "new"), option, value]
    assert compose_scenes.main(words) == 2
    told = capsys.readouterr().err
    assert named in told and "Traceback" not in told
    assert not (tmp_path / "new").exists()


def test_packages(tmp_path, monkeypatch):
    """Pictures and sounds of the demo's classes, and speech whose speakers are of one part."""
    classes = classes_named("dog,horse,violin")
    spoken = [f"tp:food/{name}_desc_{language}.ogg" for name in "ab" for language in ("fr", "nl")]
    unpacked = write_packages(tmp_path / "packages", [*file_references(classes), *spoken])
    monkeypatch.setattr(collect_sounds, "provide_packages", lambda folder: unpacked)
    monkeypatch.setattr(collect_sounds, "classes_named", lambda selection: classes)
    assert collect_sounds.main(["--output", str(tmp_path)]) == 0
    rows = [row.split(",") for row in (tmp_path / "manifest.csv").read_text().splitlines()[1:]]
    assert all((tmp_path / row[0]).is_file() for row in rows)
    assert {(row[1], row[2]) for row in rows} == {
        *(("cutout", name) for name in ("dog", "horse", "violin")),
        *(("sound", name) for name in ("dog", "horse", "violin", "speech")),
    }
    speech = {(row[0][:16], row[3]) for row in rows if row[2] == "speech"}
    assert speech == {("sounds/speech/fr", "train"), ("sounds/speech/nl", "heldout")}
    assert ["sound", "dog", "heldout"] in [row[1:4] for row in rows]


class TestInstruments:
    def test_midi(self):
        rng = np.random.default_rng(0)
        for instrument in instruments.INSTRUMENTS.values():
            phrase = instruments._draw_phrase(instrument, rng)
            assert all(0 <= start < 5.0 and length > 0 for start, length, _, _ in phrase)
            assert all(1 <= velocity < 128 for _, _, _, velocity in phrase)
            keys = {key for _, _, key, _ in phrase}
            assert instrument.low <= min(keys) and max(keys) <= instrument.high
        data = instruments._midi_file([[(0.0, 1.0, 60, 100)]] * 2, [7, 8], drums=False)
        kind, length, form, tracks, ticks = struct.unpack(">4sIHHH", data[:14])
        assert (kind, length, form, tracks, ticks) == (b"MThd", 6, 0, 1, 240)
        assert struct.unpack(">4sI", data[14:22]) == (b"MTrk", len(data) - 22)
        assert data[22:].startswith(b"\x00\xc0\x07\x00\x90\x3c\x64\x83\x60\x80\x3c\x00")
        assert data.endswith(b"\x00\xff\x2f\x00") or data.endswith(b"\xff\x2f\x00")

    def test_no_soundfont(self, tmp_path, capsys):
        words = ["--output", str(tmp_path), "--no-packages", "--soundfont", f"{tmp_path}/no.sf2"]
        assert collect_sounds.main(words) == 2
        assert "apt-get install fluidsynth" in capsys.readouterr().err

    def test_recordings(self, tmp_path, monkeypatch):
        """Played by a program that stands for fluidsynth, train and held-out side by side."""

        def play(instrument, soundfont, count, rng):
            return [rng.uniform(-0.5, 0.5, 8000) for _ in range(count)]

        monkeypatch.setattr(collect_sounds, "render_phrases", play)
        # Twice: a second call writes the same files.
        words = ["--no-packages", "--soundfont", "a.sf2", "--heldout", "b.sf2", "--phrases", "4"]
        assert collect_sounds.main(["--output", str(tmp_path), *words]) == 0
        assert collect_sounds.main(["--output", str(tmp_path), *words]) == 0
        rows = (tmp_path / "manifest.csv").read_text().splitlines()[1:]
        harp = [row.split(",") for row in rows if ",harp," in row]
        assert [row[3] for row in harp].count("train") == 4
        assert [row[3] for row in harp].count("heldout") == 1
        assert len({row[0] for row in harp}) == 5 == len(list((tmp_path / "sounds/harp").iterdir()))
        assert all((tmp_path / row[0]).is_file() for row in harp)
