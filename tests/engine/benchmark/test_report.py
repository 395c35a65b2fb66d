"""Files of benchmarks: what was written is read, and what is damaged is told with its place."""

import contextlib

import pytest

from transavs.engine.benchmark import format_comparison, read_benchmark, write_benchmark

BENCHMARK = {
    "settings": {"threads": 1, "compile": False, "opts": [], "frames": None},
    "machine": {"torch": "2"},
    "cost": {"parameters": 3, "macs": 2, "limit_macs": 1, "macs_by_part": {"backbone": 1}},
    "inference": [{"batch": 1, "ratio": 1.5, "seconds": 0.5}],
    "training": [{"batch": 2, "frames": 1, "masks": 1, "ratio": 2.0, "stages": {"forward": 0.1}}],
    "compiled": [{"work": "training", "batch": 2, "frames": 1, "ratio": 0.5, "breaks": {"x": 2}}],
    "loader": {"train_clip": 0.25},
    "scaling": {"queries": [{"value": 20, "seconds_per_clip": 0.5, "ratio": 1.25}]},
    "soak": {"samples": [{"iteration": 1}]},
}


def test_what_was_written_is_read_and_compared(tmp_path):
    path = tmp_path / "a.json"
    write_benchmark(path, BENCHMARK)
    read = read_benchmark(path)
    assert read == {"version": 1, **BENCHMARK}
    names = [line.rsplit(maxsplit=3)[0] for line in format_comparison(read, read).splitlines()[2:]]
    assert names == [
        "parameters", "macs", "limit_macs",
        "inference (batch 1): ratio", "inference (batch 1): seconds",
        "training (batch 2, frames 1, masks 1): ratio",
        "training (batch 2, frames 1, masks 1): stage forward",
        "compiled (work training, batch 2, frames 1): ratio",
        "loader: train_clip", "queries 20: seconds_per_clip", "queries 20: ratio",
    ]  # fmt: skip


def test_what_cannot_be_compared_is_named():
    empty = {"version": 1, "machine": {"torch": "2"}}
    for pair, name in (((BENCHMARK, empty), "b.json"), ((empty, empty), "a.json")):
        with pytest.raises(ValueError, match=f"^{name} holds no number to compare"):
            format_comparison(*pair, names=("a.json", "b.json"))
    halves = [{part: BENCHMARK[part]} for part in ("cost", "loader")]
    with pytest.raises(ValueError, match=r"^a\.json and b\.json have no number in common"):
        format_comparison(*halves, names=("a.json", "b.json"))


@pytest.mark.parametrize("name", BENCHMARK)
def test_every_part_may_be_missing(name, tmp_path):
    path = tmp_path / "a.json"
    write_benchmark(path, {key: value for key, value in BENCHMARK.items() if key != name})
    assert format_comparison(read_benchmark(path), read_benchmark(path))


@pytest.mark.parametrize(("text", "message"), [
    ('"settings": null, "cost": {"parameters": 1}', "settings: expected an object, got None"),
    ('"machine": "abacus"', "machine: expected an object, got 'abacus'"),
    ('"cost": [1]', "cost: expected an object, got [1]"),
    ('"cost": {"parameters": 1}', "cost: expected a 'macs' in it, got {'parameters': 1}"),
    ('"inference": {}', "inference: expected a list, got {}"),
    ('"inference": [{"ratio": 1}]', "inference[0]: expected a 'batch' in it, got {'ratio': 1}"),
    ('"inference": [{"batch": 1, "ratio": true}]',
     "inference[0].ratio: expected a finite number, got True"),
    ('"training": [{"batch": 1, "frames": 1, "masks": 1, "ratio": 1, "stages": 7}]',
     "training[0].stages: expected an object, got 7"),
    ('"compiled": [{"work": 3, "batch": 1, "frames": 1, "breaks": {}}]',
     "compiled[0].work: expected a text, got 3"),
    ('"scaling": {"queries": [{"value": 1}]}',
     "scaling.queries[0]: expected a 'seconds_per_clip' in it"),
    ('"loader": {"x": "abc"}', "loader.x: expected a finite number, got 'abc'"),
    ('"loader": {"x": NaN}', "loader.x: expected a finite number, got nan"),
    ('"loader": {"x": 1e999}', "loader.x: expected a finite number, got inf"),
    (f'"loader": {{"x": 1{400 * "0"}}}', "loader.x: expected a finite number, got 1000"),
    ('"cost": {"parameters": 1, "macs": 1, "limit_macs": 1, "more": [-Infinity]}',
     "cost.more[0]: expected a finite number, got -inf"),
])  # fmt: skip
def test_damage_is_told_with_its_place(text, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f'{{"version": 1, {text}}}')
    with pytest.raises(ValueError) as told:
        read_benchmark(path)
    assert str(told.value).startswith(f"{path}: ")
    assert message in str(told.value)
    assert str(told.value).endswith("; measure again, or name another file")


@pytest.mark.parametrize("depth", [10, 900, 2000, 5000, 20_000])
def test_depth_is_no_mistake_of_ours(depth, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f'{{"version": 1, "loader": {{"x": 1}}, "a": {depth * "["}{depth * "]"}}}')
    if depth == 10:
        assert read_benchmark(path)["loader"] == {"x": 1}
        return
    with contextlib.suppress(ValueError):  # how deep Python goes depends on its version
        read_benchmark(path)


def test_a_folder_is_told(tmp_path):
    with pytest.raises(ValueError, match="is a folder, expected a .json file"):
        read_benchmark(tmp_path)
