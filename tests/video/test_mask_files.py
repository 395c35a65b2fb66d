"""Saved masks: PNGs and COCO's run lengths give the pixels back."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from transavs.utils import whole_files
from transavs.video import PngMasks, RleMasks, mask_files, open_mask_files


@pytest.fixture
def masks():
    first = np.zeros((6, 8), dtype=bool)
    first[1:3, 2:5] = True
    second = np.zeros((6, 8), dtype=bool)
    second[4:, 6:] = True
    return first, second


def test_pngs_by_their_milliseconds(tmp_path, masks):
    with open_mask_files(tmp_path / "masks") as files:
        assert isinstance(files, PngMasks)
        files.add(0, 0.5, masks[0], [])
        files.add(1, 61.25, masks[1] & False, [])
    names = sorted(file.name for file in (tmp_path / "masks").iterdir())
    assert names == ["000000500.png", "000061250.png"]
    picture = np.array(Image.open(tmp_path / "masks" / names[0]))
    assert np.array_equal(picture, masks[0] * 255)


def test_run_lengths_are_cocos(tmp_path, masks):
    path = tmp_path / "masks.json"
    with open_mask_files(path) as files:
        assert isinstance(files, RleMasks)
        files.add(0, 0.5, masks[0] | masks[1], [(3, 0.9, masks[0]), (7, 0.6, masks[1])])
        files.add(1, 1.5, masks[0] & False, [])
        files.add(2, 2.5, masks[1], [])
        assert not path.exists()
    entries = json.loads(path.read_text())
    assert [entry["image_id"] for entry in entries] == [0, 0, 2]
    assert [entry["track_id"] for entry in entries] == [3, 7, 0]
    assert [entry["seconds"] for entry in entries] == [0.5, 0.5, 2.5]
    for entry, mask in zip(entries, [*masks, masks[1]], strict=True):
        assert np.array_equal(coco_mask.decode(entry["segmentation"]), mask)
    # The official reader takes the list.
    truth = COCO()
    truth.dataset = {"images": [{"id": number} for number in range(3)], "categories": [{"id": 1}]}
    truth.createIndex()
    loaded = truth.loadRes(str(path))
    assert loaded.anns[1]["area"] == masks[0].sum()


def test_no_masks_are_an_empty_list(tmp_path):
    with RleMasks(tmp_path / "masks.json"):
        pass
    assert json.loads((tmp_path / "masks.json").read_text()) == []


@pytest.mark.parametrize("name", ["masks.json", "masks", "results/masks"])
def test_a_failure_leaves_no_half(tmp_path, masks, name):
    with pytest.raises(RuntimeError), open_mask_files(tmp_path / name) as files:
        files.add(0, 0.5, masks[0], [])
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["masks.json", "masks"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, masks, monkeypatch, name):
    """/dev/full takes bytes into buffers and refuses them when those are written."""

    class FullFile(whole_files.WholeFile):
        def __init__(self, path):
            super().__init__(path)
            self.temporary.unlink()
            self.temporary.symlink_to("/dev/full")

    monkeypatch.setattr(mask_files, "WholeFile", FullFile)
    with (
        pytest.raises(OSError, match=f"cannot write .*{name}.*No space left"),
        open_mask_files(tmp_path / name) as files,
    ):
        files.add(0, 0.5, masks[0], [])
    assert not [file for file in tmp_path.rglob("*") if not file.is_dir()]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "masks").write_text("x")
    with pytest.raises(OSError, match="cannot write .*masks is a file, expected a folder"):
        open_mask_files(tmp_path / "masks")
