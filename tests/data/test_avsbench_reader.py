"""The reader against trees whose paths the helper spells out, and against broken tables."""

import json
import os
from dataclasses import replace
from pathlib import Path

import avsbench_trees
import pytest

from transavs.data.avsbench import (
    dataset_root,
    load_avsbench,
    load_sound_groups,
    read_csv,
    record_files,
)
from transavs.data.avsbench_spec import DEMO_MS3, DEMO_S4, MS3, S4
from transavs.tools import prepare_demo


def csv_of(root: Path, name: str = "s4") -> Path:
    folder = {"s4": "Single-source", "ms3": "Multi-sources"}[name]
    return root / folder / f"{name}_meta_data.csv"


def test_s4_record(avsbench_root: Path) -> None:
    records = load_avsbench(S4, str(avsbench_root), "train")
    assert [record["clip_id"] for record in records] == [
        "dog_barking/-en-yFsmIO8",
        "horse_clip-clop/_8m_rszChvE",
    ]
    data = f"{avsbench_root}/Single-source/s4_data"
    record = records[0]
    place = "train/dog_barking/-en-yFsmIO8"
    assert record["file_names"] == [
        f"{data}/visual_frames/{place}/-en-yFsmIO8_{number}.png" for number in (1, 2, 3, 4, 5)
    ]
    mask = f"{data}/gt_masks/{place}/-en-yFsmIO8_1.png"
    assert record["mask_file_names"] == [mask, None, None, None, None]
    assert record["audio_file"] == f"{data}/audio_wav/{place}.wav"
    assert record["category"] == "dog_barking"
    # The fourth of the official list of categories, heard in all five seconds.
    assert record["sound_labels"] == [[3]] * 5
    assert "sounding_objects" not in record
    assert all(load_avsbench(S4, str(avsbench_root), "val")[0]["mask_file_names"])


def test_ms3_record(avsbench_root: Path) -> None:
    record = load_avsbench(MS3, str(avsbench_root), "train")[0]
    data = f"{avsbench_root}/Multi-sources/ms3_data"
    assert record["clip_id"] == "0WxgIKuetYI_0"
    # Frames: no split, ".mp4" inside the name. Masks: a split, no ".mp4".
    frame = f"{data}/visual_frames/0WxgIKuetYI_0/0WxgIKuetYI_0.mp4_5.png"
    mask = f"{data}/gt_masks/train/0WxgIKuetYI_0/0WxgIKuetYI_0_5.png"
    assert record["file_names"][4] == frame
    assert record["mask_file_names"][4] == mask
    assert record["audio_file"] == f"{data}/audio_wav/train/0WxgIKuetYI_0.wav"
    assert record["category"] is None
    assert "sound_labels" not in record


def test_demo_records_know_objects_and_sounds(demo_root: Path) -> None:
    record = load_avsbench(DEMO_MS3, str(demo_root), "unseen")[0]
    data = f"{demo_root}/transavs_demo/Multi-sources/ms3_data"
    assert record["object_mask_file_names"][0] == (
        f"{data}/object_masks/unseen/both_unseen/both_unseen_1.png"
    )
    assert record["sounding_objects"] == [[1], [1], [1, 2], [2], []]
    # Classes in alphabetical order: cow 0, dog 1.
    assert list(load_sound_groups(DEMO_MS3, str(demo_root))) == ["cow", "dog"]
    assert record["sound_labels"] == [[1], [1], [0, 1], [0], []]


def test_demo_training_clips_have_object_maps_for_unlabelled_frames(demo_root: Path) -> None:
    record = load_avsbench(DEMO_S4, str(demo_root), "train")[0]
    assert record["mask_file_names"][1:] == [None] * 4
    assert all(os.path.exists(name) for name in record["object_mask_file_names"])


def test_log_mel_pickle_is_optional(avsbench_root: Path) -> None:
    assert load_avsbench(S4, str(avsbench_root), "test")[0]["log_mel_file"] is None
    folder = avsbench_root / "Single-source/s4_data/audio_log_mel/test/helicopter"
    folder.mkdir(parents=True)
    (folder / "bbbbbbbbbbb.pkl").write_bytes(b"x")
    name = load_avsbench(S4, str(avsbench_root), "test")[0]["log_mel_file"]
    assert name == str(folder / "bbbbbbbbbbb.pkl")


def test_junk_entries_are_ignored(avsbench_root: Path) -> None:
    before = load_avsbench(MS3, str(avsbench_root), "train")
    frames = avsbench_root / "Multi-sources/ms3_data/visual_frames"
    for folder in (frames, frames / "0WxgIKuetYI_0", frames.parent / "audio_wav/train"):
        for junk in (".DS_Store", "._.DS_Store", "PaxHeader"):
            (folder / junk).write_bytes(b"junk")
    assert load_avsbench(MS3, str(avsbench_root), "train") == before


def test_clip_length_is_a_fact_of_the_subset(avsbench_root: Path) -> None:
    shorter = replace(MS3, clip_seconds=3, first_frame_number=2)
    record = load_avsbench(shorter, str(avsbench_root), "val")[0]
    assert [name[-5] for name in record["file_names"]] == ["2", "3", "4"]


def test_missing_files_are_counted_and_named(avsbench_root: Path) -> None:
    data = avsbench_root / "Multi-sources/ms3_data"
    for number in range(1, 6):
        (data / f"visual_frames/0WxgIKuetYI_0/0WxgIKuetYI_0.mp4_{number}.png").unlink()
    (data / "gt_masks/train/0WxgIKuetYI_0/0WxgIKuetYI_0_2.png").unlink()
    (data / "audio_wav/train/0WxgIKuetYI_0.wav").unlink()
    with pytest.raises(FileNotFoundError) as raised:
        load_avsbench(MS3, str(avsbench_root), "train")
    message = str(raised.value)
    assert "7 of the files" in message and "and 2 more" in message
    assert "0WxgIKuetYI_0.mp4_1.png" in message
    assert f"transavs.tools.check_avsbench {avsbench_root}" in message
    unchecked = load_avsbench(MS3, str(avsbench_root), "train", check_files=False)
    assert len(list(record_files(unchecked[0]))) == 5 + 5 + 1
    assert len(load_avsbench(MS3, str(avsbench_root), "val")) == 1, "other splits are whole"


def test_csv_needs_a_split_column(avsbench_root: Path) -> None:
    csv_of(avsbench_root).write_text("-en-yFsmIO8,0,dog_barking,train\n")
    with pytest.raises(ValueError, match="header with a column 'split'"):
        load_avsbench(S4, str(avsbench_root), "train")
    csv_of(avsbench_root).write_text("")
    with pytest.raises(ValueError, match=r"got \[\]"):
        load_avsbench(S4, str(avsbench_root), "train")


def test_csv_tolerates_marks_blanks_and_extra_columns(avsbench_root: Path) -> None:
    csv_of(avsbench_root, "ms3").write_bytes(
        b"\xef\xbb\xbfvideo, note ,split\r\n 0WxgIKuetYI_0 ,x, train \r\n\r\n,,\r\n"
    )
    rows = read_csv(MS3, str(avsbench_root))
    assert [(row.name, row.split, row.line) for row in rows] == [("0WxgIKuetYI_0", "train", 2)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../secret,0,dog_barking,train", "cannot be part of a file name"),
        ("..,0,dog_barking,train", "cannot be part of a file name"),
        ("a\\b,0,dog_barking,train", "cannot be part of a file name"),
        (",0,dog_barking,train", "cannot be part of a file name"),
        ("name,0,../dog_barking,train", "cannot be part of a file name"),
        ("name,0,dog_sleeping,train", "'dog_sleeping' is no category"),
        ("name,0,dog_barking,training", "expected a split out of train, val, test"),
        ("name,0", "expected at least 4 columns"),
        ("-en-yFsmIO8,5,dog_barking,test", "listed twice, on lines 2 and 3"),
    ],
)
def test_bad_rows_are_told_with_their_line(avsbench_root: Path, line: str, message: str) -> None:
    path = csv_of(avsbench_root)
    path.write_text(f"name,start,category,split\n-en-yFsmIO8,0,dog_barking,train\n{line}\n")
    with pytest.raises(ValueError, match=message) as raised:
        load_avsbench(S4, str(avsbench_root), "train")
    assert str(path) in str(raised.value)


def test_a_split_without_clips_is_an_error(avsbench_root: Path) -> None:
    csv_of(avsbench_root).write_text("name,start,category,split\n")
    with pytest.raises(ValueError, match="lists no clip of the split 'val'"):
        load_avsbench(S4, str(avsbench_root), "val")


def test_root_that_is_missing_or_a_level_too_deep(avsbench_root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS") as raised:
        load_avsbench(S4, str(avsbench_root / "nowhere"), "train")
    assert "does not exist" in str(raised.value)
    with pytest.raises(FileNotFoundError, match="let it point to the folder above"):
        load_avsbench(S4, str(avsbench_root / "Single-source") + "/", "train")
    with pytest.raises(FileNotFoundError, match="datasets/README.md"):
        load_avsbench(DEMO_S4, str(avsbench_root), "train")


def test_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert dataset_root() == "datasets"
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    assert dataset_root() == os.path.expanduser("~/data")
    # The composer writes where the reader reads.
    assert prepare_demo.build_parser().parse_args([]).root == Path(dataset_root())


def test_objects_file_must_be_there_and_agree(demo_root: Path) -> None:
    path = demo_root / "transavs_demo/Multi-sources/ms3_data/objects.json"
    objects = json.loads(path.read_text())
    clip = objects.pop("both_train")
    path.write_text(json.dumps(objects))
    with pytest.raises(ValueError, match="no entry for the clip 'both_train'"):
        load_avsbench(DEMO_MS3, str(demo_root), "train")
    clip["objects"][0]["sounding"] = [True]
    path.write_text(json.dumps({**objects, "both_train": clip}))
    with pytest.raises(ValueError, match="5 values of 'sounding'"):
        load_avsbench(DEMO_MS3, str(demo_root), "train")
    for broken in ("{", "[]", '{"both_train": {"objects": [{"id": 1}]}}'):
        path.write_text(broken)
        with pytest.raises(ValueError, match="objects.json: expected"):
            load_avsbench(DEMO_MS3, str(demo_root), "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="compose the set again"):
        load_avsbench(DEMO_MS3, str(demo_root), "train")


def test_equal_trees_are_equal_bytes(tmp_path: Path) -> None:
    first = avsbench_trees.write_demo(tmp_path / "a")
    second = avsbench_trees.write_demo(tmp_path / "b")
    for record in load_avsbench(DEMO_S4, str(first), "test"):
        for name in record_files(record):
            twin = name.replace(str(first), str(second))
            assert Path(name).read_bytes() == Path(twin).read_bytes()


def test_classes_file_fixes_the_labels(demo_root: Path) -> None:
    data = demo_root / "transavs_demo/Multi-sources/ms3_data"
    heard = list(load_sound_groups(DEMO_MS3, str(demo_root)))
    groups = {"aardvark": "animal", **dict.fromkeys(heard, "beast")}
    (data / "classes.json").write_text(json.dumps(groups))
    assert list(load_sound_groups(DEMO_MS3, str(demo_root)).items()) == list(groups.items())
    labels = load_avsbench(DEMO_MS3, str(demo_root), "test")[0]["sound_labels"]
    assert all(1 <= label <= len(heard) for second in labels for label in second)
    for content, words in (
        ("{", "expected JSON"),
        ('["dog"]', "expected JSON"),
        ('{"dog": 1}', "expected JSON"),
        ("{}", "lacks"),
    ):
        (data / "classes.json").write_text(content)
        with pytest.raises(ValueError, match=f"classes.json.*{words}"):
            load_avsbench(DEMO_MS3, str(demo_root), "test")
