"""The composed set on disk: layout, masks, sound, determinism and resuming."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from transavs.data.demo import clip_writer, compose, manifest
from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.compose import compose_set
from transavs.data.demo.layout import clip_name, most_clips
from transavs.data.demo.manifest import (
    DEFAULT_COUNTS,
    Settings,
    find_complete_set,
    read_manifest,
    scaled_counts,
)

COUNTS = {
    "s4": {"train": 2, "val": 1, "test": 2, "unseen": 1},
    "ms3": {"train": 3, "val": 1, "test": 2, "unseen": 2},
}
SETTINGS = Settings(3, COUNTS)


@pytest.fixture(scope="module")
def data_root(drawn_assets: DemoAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a small drawn set; do not change it."""
    root = tmp_path_factory.mktemp("data")
    compose_set(drawn_assets, root, SETTINGS, progress=False)
    return root


def files_below(folder: Path) -> dict[str, str]:
    """Hash of every file by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def objects_of(root: Path, subset: str) -> dict:
    folder = {"s4": "Single-source/s4_data", "ms3": "Multi-sources/ms3_data"}[subset]
    return json.loads((root / "transavs_demo" / folder / "objects.json").read_text())


def image(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_single_source_layout(data_root: Path) -> None:
    base = data_root / "transavs_demo/Single-source"
    header, *rows = read_table(base / "s4_meta_data.csv")
    assert header == ["name", "start", "category", "split"]
    assert [row[3] for row in rows] == ["train"] * 2 + ["val"] + ["test"] * 2 + ["unseen"]
    expected = {"s4_meta_data.csv", "s4_data/objects.json", "s4_data/classes.json"}
    for name, _, category, split in rows:
        place = f"{split}/{category}/{name}"
        expected.add(f"s4_data/audio_wav/{place}.wav")
        for k in range(1, 6):
            expected.add(f"s4_data/visual_frames/{place}/{name}_{k}.png")
            expected.add(f"s4_data/object_masks/{place}/{name}_{k}.png")
            if split != "train" or k == 1:
                expected.add(f"s4_data/gt_masks/{place}/{name}_{k}.png")
    assert set(files_below(base)) == expected
    assert set(objects_of(data_root, "s4")) == {f"{row[2]}/{row[0]}" for row in rows}


def test_multi_source_layout(data_root: Path) -> None:
    base = data_root / "transavs_demo/Multi-sources"
    header, *rows = read_table(base / "ms3_meta_data.csv")
    assert header == ["vid", "split"]
    expected = {"ms3_meta_data.csv", "ms3_data/objects.json", "ms3_data/classes.json"}
    for name, split in rows:
        expected.add(f"ms3_data/audio_wav/{split}/{name}.wav")
        for k in range(1, 6):
            expected.add(f"ms3_data/visual_frames/{name}/{name}.mp4_{k}.png")
            expected.add(f"ms3_data/gt_masks/{split}/{name}/{name}_{k}.png")
            expected.add(f"ms3_data/object_masks/{split}/{name}/{name}_{k}.png")
    assert set(files_below(base)) == expected
    assert set(objects_of(data_root, "ms3")) == {row[0] for row in rows}
    top = {path.name for path in (data_root / "transavs_demo").iterdir()}
    assert top == {"Single-source", "Multi-sources", "recordings", "demo.json", "CREDITS.md"}


def test_masks_are_the_sounding_objects(data_root: Path) -> None:
    base = data_root / "transavs_demo"
    checked = 0
    for path in sorted(base.glob("*/*_data/gt_masks/**/*.png")):
        # Single-source/s4_data/gt_masks/train/CATEGORY/NAME/NAME_1.png
        _, data, _, _, *clip_parts, _ = path.relative_to(base).parts
        subset, clip_id = data.removesuffix("_data"), "/".join(clip_parts)
        second = int(path.stem.rpartition("_")[2]) - 1
        clip = objects_of(data_root, subset)[clip_id]
        ids = [each["id"] for each in clip["objects"] if each["sounding"][second]]
        labels = image(Path(str(path).replace("gt_masks", "object_masks")))
        mask = image(path)
        assert Image.open(path).mode == "L" and mask.shape == (224, 224)
        assert (mask == np.where(np.isin(labels, ids), 255, 0)).all()
        assert labels.max() <= len(clip["objects"])
        checked += 1
    assert checked == 2 + 4 * 5 + 8 * 5


def test_frames_and_sound_format(data_root: Path) -> None:
    base = data_root / "transavs_demo"
    for path in base.glob("*/*_data/visual_frames/**/*.png"):
        assert Image.open(path).mode == "RGB" and Image.open(path).size == (224, 224)
    for path in base.glob("*/*_data/audio_wav/**/*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.frames) == (16000, 2, 80000)
        assert info.subtype == "PCM_16" and info.format == "WAV"


def test_energy_matches_the_flags(data_root: Path) -> None:
    base = data_root / "transavs_demo/Multi-sources/ms3_data"
    loud, quiet = [], []
    for clip_id, clip in objects_of(data_root, "ms3").items():
        samples, _ = soundfile.read(base / "audio_wav" / clip["split"] / f"{clip_id}.wav")
        for second in range(5):
            part = samples[second * 16000 : (second + 1) * 16000]
            level = 20 * np.log10(part.std() + 1e-9)
            sounds = any(each["sounding"][second] for each in clip["objects"])
            (loud if sounds else quiet).append(level)
    assert min(loud) > -45 and max(quiet, default=-99) < -60


def test_each_object_sounds_in_its_seconds_only(
    drawn_assets: DemoAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = []
    monkeypatch.setattr(clip_writer, "mix", lambda voices, *rest: mixed.append(voices))
    for index in range(5):
        cast = clip_writer.cast_of_clip(drawn_assets, 0, "ms3", "train", index)
        clip_writer.compose_sound(cast, np.random.default_rng(index))
        sounding = [actor.sounding for actor in cast.actors if actor.recording is not None]
        for flags, voice in zip(sounding, mixed[-1], strict=True):
            assert tuple(voice.track.reshape(5, -1).any(axis=1)) == flags


def test_described_recordings_of_unseen(data_root: Path, drawn_assets: DemoAssets) -> None:
    held_out = {each.held_out.reference for each in drawn_assets.classes if each.held_out}
    for subset in ("s4", "ms3"):
        for clip in objects_of(data_root, subset).values():
            used = {each["recording"] for each in clip["objects"]} - {None}
            assert used and (used <= held_out) == (clip["split"] == "unseen")


def test_workers_change_no_byte(data_root: Path, drawn_assets: DemoAssets, tmp_path: Path) -> None:
    compose_set(drawn_assets, tmp_path, SETTINGS, workers=2, progress=False)
    assert files_below(tmp_path) == files_below(data_root)


def test_other_sizes_and_seeds(data_root: Path, drawn_assets: DemoAssets, tmp_path: Path) -> None:
    counts = {subset: dict.fromkeys(splits, 1) for subset, splits in COUNTS.items()}
    compose_set(drawn_assets, tmp_path / "a", Settings(3, counts), progress=False)
    compose_set(drawn_assets, tmp_path / "b", Settings(4, counts), progress=False)
    whole, part, other = (files_below(path) for path in (data_root, tmp_path / "a", tmp_path / "b"))
    clip_files = [name for name in part if name.endswith((".png", ".wav"))]
    assert all(part[name] == whole[name] for name in clip_files)
    frames = [name for name in clip_files if "visual_frames" in name]
    assert not any(part[name] == other[name] for name in frames)


def test_interrupted_set_is_completed(
    data_root: Path,
    drawn_assets: DemoAssets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = []
    write = clip_writer.write_clip

    def write_few(*arguments: object) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(arguments)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compose, "write_clip", write_few)
    with pytest.raises(KeyboardInterrupt):
        compose_set(drawn_assets, tmp_path, SETTINGS, progress=False)
    root = tmp_path / "transavs_demo"
    assert read_manifest(root) is None
    assert find_complete_set(tmp_path, "drawn", drawn_assets.classes, SETTINGS) is None
    # A file that was being written when the process was killed.
    leftover = next(root.rglob("*.wav")).with_name(".x.png.123.tmp")
    leftover.write_bytes(b"half")
    # Other settings may not go on with it.
    with pytest.raises(ValueError, match=r"other settings \(seed differ\)"):
        compose_set(drawn_assets, tmp_path, Settings(4, COUNTS), progress=False)
    counted = []
    monkeypatch.setattr(
        compose, "write_clip", lambda *arguments: (counted.append(1), write(*arguments))
    )
    with caplog.at_level(logging.INFO):
        compose_set(drawn_assets, tmp_path, SETTINGS, progress=False)
    assert "4 of 14 clips are there already" in caplog.text
    assert len(counted) == 10
    assert files_below(tmp_path) == files_below(data_root)


def test_whole_set_is_left_alone_and_mended(
    data_root: Path,
    drawn_assets: DemoAssets,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    compose_set(drawn_assets, tmp_path, SETTINGS, progress=False)
    assert find_complete_set(tmp_path, "drawn", drawn_assets.classes, SETTINGS) is not None
    assert find_complete_set(tmp_path, "real", drawn_assets.classes, SETTINGS) is None
    changes = {path: os.stat(path).st_mtime_ns for path in tmp_path.rglob("*")}
    with caplog.at_level(logging.INFO):
        compose_set(drawn_assets, tmp_path, SETTINGS, progress=False)
    assert "is there already: 14 clips" in caplog.text
    assert changes == {path: os.stat(path).st_mtime_ns for path in tmp_path.rglob("*")}
    for pattern in ("*.wav", "*_3.png", "objects.json"):
        next((tmp_path / "transavs_demo").rglob(pattern)).unlink()
        assert find_complete_set(tmp_path, "drawn", drawn_assets.classes, SETTINGS) is None
        compose_set(drawn_assets, tmp_path, SETTINGS, progress=False)
        assert files_below(tmp_path) == files_below(data_root)


def test_other_settings_need_force(drawn_assets: DemoAssets, tmp_path: Path) -> None:
    counts = {subset: dict.fromkeys(splits, 1) for subset, splits in COUNTS.items()}
    compose_set(drawn_assets, tmp_path, Settings(0, counts), progress=False)
    fewer = {**counts, "s4": {**counts["s4"], "val": 0}}
    with pytest.raises(ValueError, match=r"\(counts differ\): pass --force"):
        compose_set(drawn_assets, tmp_path, Settings(0, fewer), progress=False)
    compose_set(drawn_assets, tmp_path, Settings(0, fewer), force=True, progress=False)
    found = read_manifest(tmp_path / "transavs_demo")
    assert found is not None and found["counts"]["s4"]["val"] == 0
    assert not (tmp_path / "transavs_demo/Single-source/s4_data/gt_masks/val").exists()


def test_damaged_manifest(drawn_assets: DemoAssets, tmp_path: Path) -> None:
    counts = {subset: dict.fromkeys(splits, 0) for subset, splits in COUNTS.items()}
    root = compose_set(drawn_assets, tmp_path, Settings(0, counts), progress=False)
    for content, message in (("{", "is no JSON"), ("[]", "holds no manifest")):
        (root / manifest.MANIFEST).write_text(content)
        with pytest.raises(ValueError, match=message):
            compose_set(drawn_assets, tmp_path, Settings(0, counts), progress=False)
        compose_set(drawn_assets, tmp_path, Settings(0, counts), force=True, progress=False)
        assert read_manifest(root) is not None


def test_foreign_folders_are_never_deleted(drawn_assets: DemoAssets, tmp_path: Path) -> None:
    thesis = tmp_path / "transavs_demo/thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(ValueError, match="not a composed set; move it away"):
        compose_set(drawn_assets, tmp_path, SETTINGS, force=True, progress=False)
    assert thesis.exists()


def _die(clip: manifest.Clip) -> None:
    os._exit(1)


def test_dying_worker_is_told(
    drawn_assets: DemoAssets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "_work", _die)
    with pytest.raises(RuntimeError, match="a worker process died.*fewer --workers"):
        compose_set(drawn_assets, tmp_path, SETTINGS, workers=2, progress=False)


def test_worker_function(drawn_assets: DemoAssets, tmp_path: Path) -> None:
    handler = compose.signal.getsignal(compose.signal.SIGINT)
    try:
        compose._start_worker(partial(clip_writer.write_clip, drawn_assets, tmp_path, 0))
        compose._work(("ms3", "val", 0))
    finally:
        compose.signal.signal(compose.signal.SIGINT, handler)
    assert len(files_below(tmp_path)) == 16


def test_names_are_unique_and_of_one_form() -> None:
    names = [
        clip_name(subset, split, index)
        for subset in COUNTS
        for split in COUNTS[subset]
        for index in (0, 1, most_clips(split) - 1)
    ]
    assert len(set(names)) == len(names)
    assert all(len(name) == 7 and name[0] == "d" and name[1:].isdecimal() for name in names)


def test_settings_are_checked(drawn_assets: DemoAssets, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed of 0 or more, got -1"):
        Settings(-1, COUNTS)
    with pytest.raises(ValueError, match="0 to 10000 clips in s4 val, got 10001"):
        Settings(0, {**COUNTS, "s4": {"val": 10001}})
    with pytest.raises(ValueError, match="positive scale, got 0"):
        scaled_counts(0)
    with pytest.raises(ValueError, match="at least one worker"):
        compose_set(drawn_assets, tmp_path, SETTINGS, workers=0)
    assert scaled_counts(1) == DEFAULT_COUNTS
    assert scaled_counts(0.001)["s4"]["val"] == 1
