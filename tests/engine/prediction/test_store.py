"""The folder of results: nothing lost and nothing twice, whatever a kill leaves behind."""

import itertools
import json
import shutil

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet")

from transavs.engine.prediction.manifest import Item  # noqa: E402
from transavs.engine.prediction.outcome import Outcome  # noqa: E402
from transavs.engine.prediction.reader import read_predictions  # noqa: E402
from transavs.engine.prediction.rows import encode_mask  # noqa: E402
from transavs.engine.prediction.store import ResultStore  # noqa: E402

DESCRIPTION = {"weights": "abc", "per_second": 1.0, "classes": []}
COUNT = 7


def mask_of(index, frame):
    mask = np.zeros((6, 8), dtype=bool)
    mask.flat[index : 3 * index + frame] = True
    return mask


def outcome(index):
    """Item ``index`` has one frame more than its number; the third cannot be predicted."""
    if index == 2:
        return Outcome(index, error="no film")
    rows = [
        {
            "frame": frame,
            "seconds": frame + 0.5,
            "height": 6,
            "width": 8,
            "counts": encode_mask(mask_of(index, frame)),
            "score": 0.25 * frame,
            "classes": ["dog"] if frame else None,
            "class_counts": [encode_mask(mask_of(index, 0))] if frame else None,
        }
        for frame in range(1 + index)
    ]
    return Outcome(index, rows)


def items(count=COUNT):
    return [Item(index, f"item {index}", video=f"{index}.mp4") for index in range(count)]


def open_store(folder, count=COUNT, **changes):
    return ResultStore(folder, items(count), {**DESCRIPTION, **changes}, shard_items=3)


def content(folder):
    """Bytes of all files but the waiting ones' folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    store = open_store(folder)
    for index in range(COUNT):
        assert store.add(outcome(index))
    store.set_aside.sort()
    return folder


class TestContent:
    def test_what_was_added_is_read_back(self, whole):
        frames = list(read_predictions(whole))
        expected = [(i, f) for i in range(COUNT) if i != 2 for f in range(1 + i)]
        assert [(one.id, one.frame) for one in frames] == [(f"item {i}", f) for i, f in expected]
        for one, (index, frame) in zip(frames, expected, strict=True):
            assert np.array_equal(one.mask, mask_of(index, frame))
            assert one.seconds == frame + 0.5 and one.score == pytest.approx(0.25 * frame)
            assert one.classes == (["dog"] if frame else None)
            if frame:
                assert np.array_equal(one.mask_of("dog"), mask_of(index, 0))
                assert not one.mask_of("cat").any()
            else:
                with pytest.raises(ValueError, match="tell no classes apart"):
                    one.mask_of("dog")

    def test_the_files(self, whole):
        names = set(content(whole))
        shards = {f"frames/shard-{number:06d}.parquet" for number in range(3)}
        assert names == {"run.json", "set_aside.jsonl", *shards}
        table = pq.read_table(whole / "frames")
        assert table.num_rows == sum(1 + i for i in range(COUNT) if i != 2)
        assert table.column("id").to_pylist()[0] == "item 0"
        line = json.loads((whole / "set_aside.jsonl").read_text())
        assert line == {"index": 2, "id": "item 2", "error": "no film"}

    @pytest.mark.parametrize("order", [range(COUNT)[::-1], (5, 0, 6, 2, 1, 4, 3)])
    def test_the_order_of_finishing_changes_nothing(self, whole, tmp_path, order):
        store = open_store(tmp_path)
        for index in order:
            store.add(outcome(index))
        store.set_aside.sort()
        assert content(tmp_path) == content(whole)


class TestResuming:
    @pytest.mark.parametrize("finished", [*itertools.product((0, 3, 6), (0, 4))])
    def test_what_is_left(self, whole, tmp_path, finished):
        done = list(dict.fromkeys(finished)) + [2]
        first = open_store(tmp_path)
        for index in done:
            first.add(outcome(index))
        found = list(dict.fromkeys(frame.id for frame in read_predictions(tmp_path)))
        assert found == [f"item {index}" for index in sorted(set(done) - {2})]
        second = open_store(tmp_path)
        assert [item.index for item in second.left] == sorted(set(range(COUNT)) - set(done))
        for item in second.left:
            assert second.add(outcome(item.index))
        for index in range(COUNT):
            assert not second.add(outcome(index))
        second.set_aside.sort()
        assert content(tmp_path) == content(whole)

    def test_killed_between_a_shard_and_its_items(self, whole, tmp_path):
        store = open_store(tmp_path)
        for index in (0, 1):
            store.add(outcome(index))
        saved = shutil.copytree(tmp_path / "waiting", tmp_path.parent / "saved")
        store.add(outcome(2))
        shutil.copytree(saved, tmp_path / "waiting", dirs_exist_ok=True)
        assert len(list(read_predictions(tmp_path))) == 1 + 2
        again = open_store(tmp_path)
        assert again.finished == {0, 1} and not list((tmp_path / "waiting").iterdir())

    def test_killed_before_a_shard_was_written(self, tmp_path, whole, monkeypatch):
        store = open_store(tmp_path)
        monkeypatch.setattr(store, "complete", lambda shards: None)
        for index in range(COUNT):
            store.add(outcome(index))
        assert not list((tmp_path / "frames").iterdir())
        again = open_store(tmp_path)
        again.complete()
        again.set_aside.sort()
        assert content(tmp_path) == content(whole)

    def test_half_of_a_file(self, tmp_path, caplog):
        store = open_store(tmp_path)
        for index in (3, 4):
            store.add(outcome(index))
        store.add(outcome(2))
        path = tmp_path / "waiting" / "item-0000000004.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        (tmp_path / "waiting" / ".item.x.part").write_bytes(b"PAR1")
        with (tmp_path / "set_aside.jsonl").open("a") as file:
            file.write('{"index": 5, "id": "it')
        again = open_store(tmp_path)
        assert again.finished == {3} and set(again.set_aside.errors) == {2}
        assert "its item is predicted again" in caplog.text
        assert not list(tmp_path.rglob("*.part"))
        again.add(outcome(4))
        again.set_aside.add(5, "item 5", "lost")
        assert set(open_store(tmp_path).set_aside.errors) == {2, 5}

    def test_a_damaged_shard_is_an_error(self, tmp_path, whole):
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        (tmp_path / "frames" / "shard-000001.parquet").write_bytes(b"PAR1")
        with pytest.raises(ValueError, match=r"shard-000001\.parquet holds no pred.*delete it"):
            open_store(tmp_path)
        # What the message recommends.
        (tmp_path / "frames" / "shard-000001.parquet").unlink()
        store = open_store(tmp_path)
        assert [item.index for item in store.left] == [3, 4, 5]
        for item in store.left:
            store.add(outcome(item.index))
        assert content(tmp_path) == content(whole)

    def test_items_that_are_tried_again(self, tmp_path, whole):
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        store = open_store(tmp_path)
        assert store.left == [] and store.set_aside.clear() == 1
        assert [item.index for item in store.left] == [2]
        store.add(Outcome(2, outcome(1).rows))
        ids = list(dict.fromkeys(frame.id for frame in read_predictions(tmp_path)))
        assert ids == [f"item {index}" for index in range(COUNT)]
        assert not (tmp_path / "set_aside.jsonl").exists()

    def test_a_manifest_that_has_grown(self, tmp_path, whole):
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        store = open_store(tmp_path, count=COUNT + 1)
        assert [item.index for item in store.left] == [COUNT]
        store.add(outcome(COUNT))
        fresh = tmp_path / "fresh"
        other = open_store(fresh, count=COUNT + 1)
        for index in range(COUNT + 1):
            other.add(outcome(index))
        shutil.move(fresh, tmp_path.parent / "fresh")
        assert content(tmp_path) == content(tmp_path.parent / "fresh")


class TestRefusals:
    def test_another_model_or_other_settings(self, whole):
        with pytest.raises(ValueError, match="weights was abc, is def.*name another folder"):
            open_store(whole, weights="def")
        with pytest.raises(ValueError, match="per_second was 1.0, is 2.0"):
            open_store(whole, per_second=2.0)
        with pytest.raises(ValueError, match="shard_items was 3, is 4"):
            ResultStore(whole, items(), DESCRIPTION, shard_items=4)

    def test_another_configuration_is_told_by_its_keys(self, tmp_path):
        def described(config, **configuration):
            return {**DESCRIPTION, "config": config * 64, "configuration": configuration}

        def open_with(description):
            return ResultStore(tmp_path, items(), description, shard_items=3)

        sizes = {"INPUT.MIN_SIZE_TEST": 224, "INPUT.FORMAT": "RGB"}
        open_with(described("a", **sizes, OLD=1))
        open_with(described("a", **sizes, OLD=1))
        with pytest.raises(ValueError, match="other settings") as caught:
            open_with(described("b", **{**sizes, "INPUT.MIN_SIZE_TEST": 96}, NEW=[2, 3]))
        assert (
            "(INPUT.MIN_SIZE_TEST was 224, is 96; NEW was absent, is [2, 3]; OLD was 1, is absent)"
        ) in str(caught.value)
        with pytest.raises(ValueError, match="KEY3 was absent, is 3; and 6 more keys"):
            open_with(described("b", **{f"KEY{number}": number for number in range(9)}))

    def test_a_folder_of_before_keys_were_kept(self, tmp_path):
        open_store(tmp_path, config="a" * 64)
        with pytest.raises(ValueError, match="kept no keys: compare --config-file and --set"):
            open_store(tmp_path, config="b" * 64, configuration={"SEED": 1})
        open_store(tmp_path, config="a" * 64, configuration={"SEED": 1})
        with pytest.raises(ValueError, match=r"weights was abc, is cccccccccccc\.\.\.\)"):
            open_store(tmp_path, config="a" * 64, weights="c" * 64)

    def test_another_manifest(self, whole):
        changed = [*items()[:3], Item(3, "item 3", video="other.mp4"), *items()[4:]]
        for others in (items(COUNT - 1), items()[::-1], changed):
            with pytest.raises(ValueError, match="another manifest: its 7 items"):
                ResultStore(whole, others, DESCRIPTION, shard_items=3)

    def test_no_predictions(self, tmp_path, whole):
        with pytest.raises(FileNotFoundError, match=r"expected run\.json in it"):
            read_predictions(tmp_path)
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        (tmp_path / "run.json").write_text("{")
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            open_store(tmp_path)
        (tmp_path / "run.json").unlink()
        with pytest.raises(ValueError, match=r"holds predictions but no run\.json"):
            open_store(tmp_path)


def test_files_of_others_in_the_folder_stay(tmp_path):
    run = tmp_path / "run"
    own, other = run / "frames" / ".0.parquet.part", run / "mine" / ".film.mp4.part"
    open_store(run)
    for path in (own, other):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    open_store(run)
    assert not own.exists() and other.exists()
