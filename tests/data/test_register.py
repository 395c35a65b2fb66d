"""Names in detectron2's catalogs."""

import importlib
from dataclasses import replace
from pathlib import Path

import avsbench_trees
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import transavs.data.register as register_module
from transavs.data.avsbench_spec import MS3, SplitSpec

NAMES = [
    *(
        f"avsbench_{subset}_{split}"
        for subset in ("s4", "ms3")
        for split in ("train", "val", "test")
    ),
    *(
        f"demo_{subset}_{split}"
        for subset in ("s4", "ms3")
        for split in ("train", "val", "test", "unseen")
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_loads_and_describes_itself(datasets_env: Path, name: str) -> None:
    records = DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    assert len(records[0]["file_names"]) == metadata.clip_seconds == metadata.spec.clip_seconds == 5
    assert metadata.thing_classes == ["sounding object"]
    assert metadata.evaluator_type == "avs"
    for labels in records[0].get("sound_labels", []):
        assert all(label < len(metadata.sound_classes) for label in labels)


@pytest.mark.parametrize("form", ["", "_rgb"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_avss_describes_itself(datasets_env: Path, form: str, split: str) -> None:
    records = DatasetCatalog.get(f"avsbench_avss{form}_{split}")
    metadata = MetadataCatalog.get(f"avsbench_avss{form}_{split}")
    assert len(records) == len(avsbench_trees.AVSS_CLIPS[split])
    assert metadata.clip_seconds == 10 and len(metadata.pixel_classes) == 71
    assert metadata.thing_classes == metadata.sound_classes == metadata.pixel_classes[1:]
    assert metadata.offscreen_lender == f"avsbench_avss{form}_{split}"
    assert set(metadata.sound_groups.values()) == {"human", "animal", "music", "vehicle", "device"}


def test_sound_classes_follow_the_root(
    datasets_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DatasetCatalog.get("demo_ms3_train")
    assert MetadataCatalog.get("demo_ms3_train").sound_classes == ["cow", "dog"]
    other = avsbench_trees.write_demo(tmp_path / "other")
    objects = other / "transavs_demo/Multi-sources/ms3_data/objects.json"
    objects.write_text(objects.read_text().replace('"cow"', '"owl"'))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(other))
    DatasetCatalog.get("demo_ms3_train")
    assert MetadataCatalog.get("demo_ms3_train").sound_classes == ["dog", "owl"]


def test_import_reads_nothing_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/nowhere")
    importlib.reload(register_module)
    assert set(NAMES) <= set(DatasetCatalog.list())
    with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
        DatasetCatalog.get("avsbench_s4_train")


def test_registering_anew_replaces(
    avsbench_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = replace(MS3, name="mine")
    names = register_module.register_subset("my", mine, "/nowhere")
    monkeypatch.setenv("HOME", str(avsbench_root.parent))
    try:
        register_module.register_subset("my", mine, "/nowhere")
        assert not caplog.records
        register_module.register_subset("my", mine, f"~/{avsbench_root.name}")
        assert [record.levelname for record in caplog.records] == ["WARNING"] * len(names)
        assert all(name in caplog.text for name in [*names, "/nowhere", str(avsbench_root)])
        assert DatasetCatalog.get(names[0])[0]["dataset"] == names[0]
        register_module.register_subset("my", replace(mine, clip_seconds=4))
        assert MetadataCatalog.get(names[0]).clip_seconds == 4
        assert len(caplog.records) >= 2 * len(names)
        with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
            monkeypatch.setenv("DETECTRON2_DATASETS", "/nowhere")
            DatasetCatalog.get(names[0])
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_own_subset(avsbench_root: Path) -> None:
    mine = replace(MS3, name="mine", splits=(SplitSpec("train", (0, 4)),))
    folder = avsbench_root / "Multi-sources"
    csv = folder / "ms3_meta_data.csv"
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join(line for line in lines if not line.endswith(("val", "test"))))
    names = register_module.register_subset("my", mine, str(avsbench_root))
    try:
        assert names == ["my_mine_train"]
        labels = DatasetCatalog.get("my_mine_train")[0]["mask_file_names"]
        assert [name is not None for name in labels] == [True, False, False, False, True]
    finally:
        DatasetCatalog.remove("my_mine_train")
        MetadataCatalog.remove("my_mine_train")
