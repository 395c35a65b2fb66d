"""AVSS on disk: records, clips of two lengths, class targets, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import avsbench_trees as trees
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg

from transavs.config import add_transavs_config
from transavs.data import AVSDatasetMapper, load_records, with_condition
from transavs.data.avsbench import load_avsbench
from transavs.data.avsbench_spec import AVSS, AVSS_RGB, MS3
from transavs.data.offscreen import OffscreenSounds

CLASSES = ("MODEL.TRANSAVS.TARGETS", "classes", "MODEL.TRANSAVS.NUM_CLASSES", 70)
LONG = ("INPUT.CLIP_SECONDS", 10)
BACKGROUND = ("MODEL.TRANSAVS.BACKGROUND_TARGET", True)


def map_clip(record: dict, *options: object, is_train: bool = True) -> dict:
    """The clip of a record, with the frames left as they are."""
    cfg = get_cfg()
    add_transavs_config(cfg)
    as_they_are = ["INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.MIN_SIZE_TEST", 0]
    cfg.merge_from_list([*as_they_are, "INPUT.RANDOM_FLIP", "none", *options])
    return AVSDatasetMapper(cfg, is_train)(record)


@pytest.fixture
def train(avss_root: Path) -> list[dict]:
    return load_avsbench(AVSS, str(avss_root), "train")


def test_records(avss_root: Path, train: list[dict]) -> None:
    v1s, v1m, v2 = train
    place = f"{avss_root}/AVSBench_semantic/v2/-HeRZSisQLY_10000_20000"
    assert v2["clip_id"] == "v2/-HeRZSisQLY_10000_20000"
    assert v2["file_names"] == [f"{place}/frames/{second}.jpg" for second in range(10)]
    assert v2["mask_file_names"] == [
        f"{place}/labels_semantic/{second}.png" for second in range(10)
    ]
    assert v2["audio_file"] == f"{place}/audio.wav"
    assert v2["log_mel_file"] is None and "sound_labels" not in v2
    assert v2["heard_classes"] == v2["visible_classes"] == ["cat", "helicopter"]
    assert (v2["mask_form"], v2["pixel_classes"]) == ("class_ids", 71)
    # The flags of the official loader: which frames there are, and which are labelled.
    assert [len(record["file_names"]) for record in train] == [5, 5, 10]
    labelled = [[name is not None for name in record["mask_file_names"]] for record in train]
    assert labelled == [[True] + [False] * 4, [True] * 5, [True] * 10]
    test = load_avsbench(AVSS, str(avss_root), "test")
    assert all(test[0]["mask_file_names"]), "every frame of v1s is labelled outside of training"


def test_colour_coded_maps_give_the_same_clips(avss_root: Path, train: list[dict]) -> None:
    other = load_avsbench(AVSS_RGB, str(avss_root), "train")
    assert other[0]["mask_file_names"][0].endswith("labels_rgb/0.png")
    for first, second in zip(train, other, strict=True):
        ids, colors = (map_clip(r, *CLASSES, *LONG) for r in (first, second))
        for a, b in zip(ids["target_masks"], colors["target_masks"], strict=True):
            assert torch.equal(a, b)
        ids, colors = (map_clip(r, *LONG, is_train=False) for r in (first, second))
        assert torch.equal(ids["class_maps"], colors["class_maps"])


def test_training_targets_are_the_classes_of_each_frame(train: list[dict]) -> None:
    v1s, v1m, v2 = (map_clip(record, *CLASSES, *LONG) for record in train)
    assert v1s["frame_index"].tolist() == [0] and v1s["audio"].shape == (5, 1, 96, 64)
    assert [classes.tolist() for classes in v1s["target_classes"]] == [[16]]
    # Guitar 28 until second 3, man 41 from second 2 on: pixel values minus 1.
    expected = [[27], [27], [27, 40], [27, 40], [40]]
    assert [classes.tolist() for classes in v1m["target_classes"]] == expected
    assert v2["frames"].shape[0] == 10 and v2["audio"].shape == (10, 1, 96, 64)
    assert [len(masks) for masks in v2["target_masks"]] == [1, 1] + [2] * 7 + [1]
    labels = trees.class_map((28, 41), 2, 5)
    for mask, label in zip(v1m["target_masks"][2], (28, 41), strict=True):
        assert (mask.numpy() == (labels == label)).all()


def test_background_is_the_class_behind_the_others(train: list[dict]) -> None:
    clip = map_clip(train[1], *BACKGROUND, *CLASSES, *LONG)
    assert [classes.tolist() for classes in clip["target_classes"]][1:3] == [[27, 70], [27, 40, 70]]
    assert (clip["target_masks"][1].sum(0) == 1).all()
    union = map_clip(train[1], *BACKGROUND, *LONG)
    assert [classes.tolist() for classes in union["target_classes"]] == [[0, 1]] * 5


def test_evaluation_has_class_maps(train: list[dict]) -> None:
    clip = map_clip(train[1], *LONG, is_train=False)
    assert clip["class_maps"].dtype == torch.uint8
    for second in range(5):
        labels = trees.class_map((28, 41), second, 5)
        assert (clip["class_maps"][second].numpy() == labels).all()
        assert (clip["union_masks"][second].numpy() == (labels > 0)).all()
    assert map_clip(train[0], *LONG, is_train=False)["labelled"].tolist() == [True] + [False] * 4


def test_evaluation_at_one_size(train: list[dict], avsbench_root: Path) -> None:
    """The official script stretches frames and maps of any shape to 224 x 224."""
    stretch = ("INPUT.STRETCH_TEST", (48, 16))
    clip = map_clip(train[1], *stretch, *LONG, is_train=False)
    assert clip["frames"].shape == (5, 3, 48, 16) and (clip["height"], clip["width"]) == (48, 16)
    # 24 x 32 pixels: every row twice, every other column.
    labels = trees.class_map((28, 41), 2, 5).repeat(2, axis=0)[:, 1::2]
    assert clip["class_maps"].dtype == torch.uint8
    assert (clip["class_maps"][2].numpy() == labels).mean() > 0.97
    assert torch.equal(clip["union_masks"], clip["class_maps"] > 0)
    binary = load_avsbench(MS3, str(avsbench_root), "train")[0]
    clip = map_clip(binary, *stretch, is_train=False)
    assert clip["union_masks"].shape == (5, 48, 16) and clip["union_masks"].dtype == torch.bool
    assert "class_maps" not in clip
    # Training goes by its own sizes.
    assert map_clip(binary, *stretch)["frames"].shape == (5, 3, *trees.SIZE)


def test_targets_and_facts_must_fit(train: list[dict], avsbench_root: Path) -> None:
    with pytest.raises(ValueError, match="has 10 seconds, but INPUT.CLIP_SECONDS is 5"):
        map_clip(train[2], *CLASSES)
    with pytest.raises(ValueError, match="70 classes, but MODEL.TRANSAVS.NUM_CLASSES is 1: set it"):
        map_clip(train[0], *CLASSES[:2], *LONG)
    with pytest.raises(ValueError, match="has no class maps, which the targets 'classes' need"):
        map_clip(load_avsbench(MS3, str(avsbench_root), "train")[0], *CLASSES)
    with pytest.raises(FileNotFoundError, match="has no log-mel pickle.*'wav'"):
        map_clip(train[0], "INPUT.AUDIO_SOURCE", "log_mel", *LONG, *CLASSES)
    trees.write_image(Path(train[0]["mask_file_names"][0]), np.zeros((12, 16), np.uint8))
    with pytest.raises(ValueError, match="0.png is 16 x 12 pixels, but its frame"):
        map_clip(train[0], *LONG, *CLASSES)


def test_silence_and_noise_last_as_long_as_the_clip(train: list[dict]) -> None:
    for condition in ("silence", "noise"):
        changed = with_condition(train, condition)
        lengths = [len(map_clip(record, *LONG, is_train=False)["audio"]) for record in changed]
        assert lengths == [5, 5, 10]


def table(root: Path) -> Path:
    return root / "AVSBench_semantic" / "metadata.csv"


def test_table_with_unknown_words(avss_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = table(avss_root).read_text()
    table(avss_root).write_text(text.replace("cat_helicopter", "cat_robot"))
    assert load_avsbench(AVSS, str(avss_root), "train")[2]["heard_classes"] == ["cat"]
    assert "metadata.csv names classes that are none of AVSBench-semantic" in caplog.text
    assert "left out: robot" in caplog.text
    for wrong, message in (
        (text.replace(",v1m", ",v3"), "line 3: expected a part out of v1s, v1m, v2, got 'v3'"),
        (text.replace(",v1m", ""), "line 3: expected at least 7 columns"),
    ):
        table(avss_root).write_text(wrong)
        with pytest.raises(ValueError, match=message):
            load_avsbench(AVSS, str(avss_root), "val")


@pytest.mark.parametrize(
    "move",
    [
        lambda cells: ["0", *cells],  # an index, as pandas writes it
        lambda cells: [cells[1], cells[0], *cells[2:]],
        lambda cells: [*cells[:5], cells[6], cells[5]],
        lambda cells: cells[:3] + cells[4:],
    ],
)
def test_table_with_moved_columns(avss_root: Path, move: Callable) -> None:
    rows = [line.split(",") for line in table(avss_root).read_text().splitlines()]
    table(avss_root).write_text("".join(",".join(move(row)) + "\n" for row in rows))
    message = "metadata.csv: columns are read by position, expected vid, uid, .*; restore the order"
    with pytest.raises(ValueError, match=message):
        load_avsbench(AVSS, str(avss_root), "val")


def test_table_with_further_columns(avss_root: Path) -> None:
    wanted = load_avsbench(AVSS, str(avss_root), "val")
    lines = table(avss_root).read_text().splitlines()
    table(avss_root).write_text("".join(f"{line},note\n" for line in lines))
    assert load_avsbench(AVSS, str(avss_root), "val") == wanted


def test_table_in_another_encoding(avss_root: Path) -> None:
    text = table(avss_root).read_text().replace("YYbShzoZWRo_25", "\xe4")
    for encoding in ("utf-16", "latin-1"):
        table(avss_root).write_text(text, encoding=encoding)
        with pytest.raises(ValueError, match="metadata.csv: expected text in UTF-8"):
            load_avsbench(AVSS, str(avss_root), "val")
    table(avss_root).write_text(text.replace("\xe4", "x" * 140000))
    with pytest.raises(ValueError, match="metadata.csv is no readable csv .*field"):
        load_avsbench(AVSS, str(avss_root), "val")


def test_junk_in_the_folders_is_ignored(avss_root: Path, train: list[dict]) -> None:
    folder = Path(train[0]["file_names"][0]).parent
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder.parent / "labels_semantic" / ".DS_Store").write_bytes(b"junk")
    assert load_avsbench(AVSS, str(avss_root), "train") == train


def test_missing_form_of_the_maps_is_told(avss_root: Path) -> None:
    for path in avss_root.rglob("labels_semantic/*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="16 of the files.*\\n.*labels_semantic/0.png"):
        load_avsbench(AVSS, str(avss_root), "train")
    assert len(load_avsbench(AVSS_RGB, str(avss_root), "train")) == 3


def test_offscreen_sounds(datasets_env: Path) -> None:
    """A dog; a guitar and a man; a cat and a helicopter, for ten seconds."""
    records = load_records("avsbench_avss_train")
    lent = set()
    for seed in range(8):
        changed = with_condition(records, "offscreen", seed)
        lent.add(tuple(record["audio_clip_id"].split("/")[0] for record in changed))
    # A man's voice is distant from neither a dog nor a cat: any class that is absent. Two sounds
    # end after five seconds, but no clip of ten has another sound than the third's own.
    assert lent <= {(a, b, c) for a in ("v1m", "v2") for b in ("v1s", "v2") for c in ("v1s", "v1m")}
    assert len(lent) > 3
    long = {
        **records[2],
        "clip_id": "v2/other",
        "heard_classes": ["violin"],
        "file_names": ["x"] * 10,
    }
    sounds = OffscreenSounds([*records, long], AVSS.offscreen, AVSS.offscreen.groups)
    for seed in range(8):
        lender, distant = sounds.choose(records[2], np.random.default_rng(seed))
        assert (lender["clip_id"], distant) == ("v2/other", True)
