"""The folder of results: nothing lost and nothing twice, whatever a kill leaves behind."""

import json
import shutil

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet")

from transavs.apps.predict.manifest import Item  # noqa: E402
from transavs.apps.predict.model import Outcome, encode_mask  # noqa: E402
from transavs.apps.predict.results import ResultStore, read_predictions  # noqa: E402

COUNT = 7
FAILURE = "no video \u2028"  # a separator that ends no line of JSON
SHARD = "frames/shard-000001.parquet"


def mask_of(index, frame):
    mask = np.zeros((6, 8), dtype=bool)
    mask.flat[index : 3 * index + frame] = True
    return mask


def outcome(index):
    """Item ``index`` has one frame more than its number; the third cannot be predicted."""
    if index == 2:
        return Outcome(index, error=FAILURE)
    rows = [
        {
            "frame": frame,
            "seconds": frame + 0.1,
            "height": 6,
            "width": 8,
            "counts": encode_mask(mask_of(index, frame)),
            "score": 0.3 * frame,
            "classes": ["dog"] if frame else None,
            "class_counts": [encode_mask(mask_of(index, 0))] if frame else None,
        }
        for frame in range(1 + index)
    ]
    return Outcome(index, rows)


def items(count=COUNT):
    return [Item(index, f"item {index}", video=f"{index}.mp4") for index in range(count)]


def open_store(folder, manifest=None, **changes):
    description = {"weights": "a" * 64, "INPUT.FORMAT": "RGB", "shard_items": 3, **changes}
    return ResultStore(folder, manifest or items(), description)


def finish(folder, order=range(COUNT), **options):
    """Goes on with a folder to the end; returns it."""
    store = open_store(folder, **options)
    store.complete()
    left = {item.index for item in store.left}
    for index in order:
        if index in left:
            store.add(outcome(index))
    store.complete()
    assert not store.left
    return folder


def content(folder):
    """Bytes of all files by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def ids(folder):
    return list(dict.fromkeys(frame.id for frame in read_predictions(folder)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copied")


def test_what_was_added_is_read_back(whole):
    frames = list(read_predictions(whole))
    expected = [(i, f) for i in range(COUNT) if i != 2 for f in range(1 + i)]
    assert [(one.id, one.frame) for one in frames] == [(f"item {i}", f) for i, f in expected]
    for one, (index, frame) in zip(frames, expected, strict=True):
        assert np.array_equal(one.mask, mask_of(index, frame))
        assert (one.seconds, one.score) == (frame + 0.1, np.float32(0.3 * frame))
        assert one.classes == (["dog"] if frame else None)
        if frame:
            assert np.array_equal(one.mask_of("dog"), mask_of(index, 0))
            assert not one.mask_of("cat").any()
        else:
            with pytest.raises(ValueError, match="no classes"):
                one.mask_of("dog")
    shards = {f"frames/shard-{number:06d}.parquet" for number in range(3)}
    assert set(content(whole)) == {"run.json", "failed_items.jsonl", *shards}
    assert pq.read_table(whole / "frames").num_rows == len(expected)
    failed = {"index": 2, "id": "item 2", "error": FAILURE}
    assert json.loads((whole / "failed_items.jsonl").read_text()) == failed


@pytest.mark.parametrize("order", [range(COUNT)[::-1], (5, 0, 6, 2, 1, 4, 3)])
@pytest.mark.parametrize("killed_after", range(COUNT))
def test_order_and_kills_change_nothing(whole, tmp_path, order, killed_after):
    store = open_store(tmp_path)
    for index in order[:killed_after]:
        store.add(outcome(index))
    assert ids(tmp_path) == [
        f"item {index}" for index in sorted(order[:killed_after]) if index != 2
    ]
    assert content(finish(tmp_path, order)) == content(whole)


def test_killed_between_a_shard_and_its_items(whole, tmp_path, monkeypatch):
    store = open_store(tmp_path)
    for index in (0, 1):
        store.add(outcome(index))
    waiting = (tmp_path / "waiting.jsonl").read_bytes()
    store.add(outcome(2))
    (tmp_path / "waiting.jsonl").write_bytes(waiting)
    assert ids(tmp_path) == ["item 0", "item 1"] and len(list(read_predictions(tmp_path))) == 3
    monkeypatch.setattr(ResultStore, "_complete", lambda *_: None)  # before a shard was written
    store = open_store(tmp_path)
    for item in store.left:
        store.add(outcome(item.index))
    monkeypatch.undo()
    assert content(finish(tmp_path)) == content(whole)


def test_half_of_what_a_killed_run_was_writing(whole, tmp_path):
    store = open_store(tmp_path)
    for index in (3, 4, 2):
        store.add(outcome(index))
    path = tmp_path / "waiting.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with (tmp_path / "failed_items.jsonl").open("a") as file:
        file.write('{"index": 5, "id": "it')
    others = tmp_path / "mine" / ".video.mp4.part"
    others.parent.mkdir()
    for half in (tmp_path / ".run.json.x.part", tmp_path / "frames/.shard.x.part", others):
        half.write_bytes(b"half")
    assert [item.index for item in open_store(tmp_path).left] == [0, 1, 4, 5, 6]
    assert list(tmp_path.rglob("*.part")) == [others]
    shutil.rmtree(others.parent)
    assert content(finish(tmp_path)) == content(whole)


def test_a_damaged_shard_is_named_and_can_be_deleted(whole, copied):
    (copied / SHARD).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="shard-000001"):
        open_store(copied)
    (copied / SHARD).unlink()
    assert [item.index for item in open_store(copied).left] == [3, 4, 5]
    assert content(finish(copied)) == content(whole)
    pq.write_table(pq.read_table(copied / SHARD).slice(1), copied / SHARD)  # rows are gone
    with pytest.raises(ValueError, match="shard-000001"):
        list(read_predictions(copied))


def test_items_that_are_tried_again(copied):
    store = open_store(copied)
    assert store.left == []
    store.retry_failed()
    assert [item.index for item in store.left] == [2]
    store.add(Outcome(2, outcome(1).rows))
    assert ids(copied) == [f"item {index}" for index in range(COUNT)]
    assert not (copied / "failed_items.jsonl").exists()


def test_a_manifest_that_has_grown(copied, tmp_path):
    grown = finish(copied, range(COUNT + 1), manifest=items(COUNT + 1))
    fresh = finish(tmp_path / "fresh", range(COUNT + 1), manifest=items(COUNT + 1))
    assert content(grown) == content(fresh)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights": "d" * 64}, r"weights was aaaaaaaaaaaa\.\.\., is d"),
        ({"shard_items": 4}, "shard_items was 3, is 4"),
        ({"NEW": [2, 3]}, r"NEW was absent, is \[2, 3\]"),
        ({f"KEY{number}": number for number in range(9)}, "KEY5 was absent, is 5; and 3 more"),
        ({"manifest": items(COUNT - 1)}, "another manifest.* 7 items"),
        ({"manifest": items()[::-1]}, "another manifest"),
    ],
)
def test_another_run_is_refused(whole, changes, told):
    before = content(whole)
    with pytest.raises(ValueError, match=told) as caught:
        open_store(whole, **changes)
    assert str(whole) in str(caught.value) and content(whole) == before


def test_folders_without_a_run(copied, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        read_predictions(tmp_path)
    for text in ("{", '{"format": 1}'):
        (copied / "run.json").write_text(text)
        with pytest.raises(ValueError, match=r"run\.json"):
            open_store(copied)
    (copied / "run.json").unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        open_store(copied)
