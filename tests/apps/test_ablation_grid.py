"""Grid files: what they give, and that each mistake names its place."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from transavs.apps.ablation.grid import read_grid
from transavs.data import CONDITIONS
from transavs.utils.package_files import shipped_grids

CONTENT = {
    "config": "configs/demo/demo_ms3.yaml",
    "overrides": {"SOLVER.MAX_ITER": 100, "DATASETS.VAL": [], "TEST.EVAL_PERIOD": 0},
    "seeds": [0, 1],
    "test": ["demo_ms3_test", "demo_ms3_unseen"],
    "conditions": ["original", "silence"],
    "rows": [
        {"name": "base", "title": "the model", "baseline": True},
        {
            "name": "big",
            "group": "size",
            "overrides": {
                "MODEL.TRANSAVS.NUM_QUERIES": 50,
                "SOLVER.MAX_ITER": 200,
                "SOLVER.BASE_LR": "2e-3",
                "MODEL.AUDIO.WEIGHTS": "",
                "MODEL.TRANSAVS.AQDL_THRESHOLD": [0.6, 0.6],
            },
            "seeds": [1, 7],
        },
        {"name": "s4", "config": "configs/demo/demo_s4.yaml", "overrides": {"DATASETS.VAL": "()"}},
    ],
}


def write(folder: Path, content: object) -> Path:
    path = folder / "grid.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(text)
    return path


def test_rows_and_their_settings(tmp_path: Path) -> None:
    base, big, s4 = read_grid(write(tmp_path, CONTENT)).rows
    assert base.baseline and base.title == "the model" and base.group == ""
    assert (big.title, big.group, big.seeds, base.seeds) == ("big", "size", (1, 7), (0, 1))
    assert (base.iterations, big.iterations) == (100, 200)
    assert s4.config == "configs/demo/demo_s4.yaml"
    # Each key once, where it was named first; text as one would type it.
    common = ("SOLVER.MAX_ITER", "200", "DATASETS.VAL", "[]", "TEST.EVAL_PERIOD", "0")
    own = ("MODEL.TRANSAVS.NUM_QUERIES", "50", "SOLVER.BASE_LR", "2e-3", "MODEL.AUDIO.WEIGHTS", "")
    assert big.options == (*common, *own, "MODEL.TRANSAVS.AQDL_THRESHOLD", "[0.6, 0.6]")
    # Settings hold what the file of the configuration changes, too, but no default.
    assert base.settings["MODEL.TRANSAVS.NUM_QUERIES"] == 30
    assert big.settings["SOLVER.BASE_LR"] == 0.002
    assert big.settings["MODEL.TRANSAVS.AQDL_THRESHOLD"] == [0.6, 0.6]
    defaults = {"MODEL.AUDIO.WEIGHTS", "DATASETS.VAL"}
    assert not ({"SEED", "OUTPUT_DIR", "DATASETS.TEST"} | defaults) & set(big.settings)
    assert base.command == (
        "python tools/train_net.py --config-file configs/demo/demo_ms3.yaml SOLVER.MAX_ITER 100 "
        "DATASETS.VAL '[]' TEST.EVAL_PERIOD 0 SEED 0"
    )


def test_which_model_counts(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    del content["overrides"]["DATASETS.VAL"]
    content["rows"][1]["overrides"]["TEST.EVAL_PERIOD"] = 50
    rows = read_grid(write(tmp_path, content)).rows
    # Validation sets without a period keep no best model.
    assert [row.validated for row in rows] == [False, True, False]


def test_runs_go_seed_by_seed(tmp_path: Path) -> None:
    grid = read_grid(write(tmp_path, CONTENT))
    chosen = [f"{row.name} {seed}" for row, seed in grid.choose([], [])]
    assert chosen == ["base 0", "s4 0", "base 1", "big 1", "s4 1", "big 7"]
    assert [seed for _, seed in grid.choose(["big"], [7, 0])] == [7]


def test_conditions_of_data_sets(tmp_path: Path) -> None:
    own = {"demo_ms3_test": None, "demo_ms3_unseen": ["original"]}
    grid = read_grid(write(tmp_path, {**CONTENT, "test": own}))
    both = ("original", "silence")
    assert grid.test == {"demo_ms3_test": both, "demo_ms3_unseen": ("original",)}
    assert read_grid(write(tmp_path, CONTENT)).test["demo_ms3_unseen"] == both
    unsaid = {key: value for key, value in CONTENT.items() if key != "conditions"}
    assert set(read_grid(write(tmp_path, unsaid)).test["demo_ms3_test"]) == set(CONDITIONS)


def test_extra_overrides_yield_to_rows(tmp_path: Path) -> None:
    extra = {"SOLVER.MAX_ITER": "300", "MODEL.AUDIO.WEIGHTS": "mine.pth"}
    base, big, _ = read_grid(write(tmp_path, CONTENT), extra).rows
    assert (base.iterations, big.iterations) == (300, 200)
    assert base.settings["MODEL.AUDIO.WEIGHTS"] == "mine.pth"
    assert "MODEL.AUDIO.WEIGHTS" not in big.settings


def changed(**fields: object) -> dict:
    return {**CONTENT, **fields}


def with_row(**fields: object) -> dict:
    return changed(rows=[{"name": "base"}, {"name": "x", **fields}])


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("- a\n", "fields"),
        ("rows: [", "no plain YAML"),
        ("seeds: [0]\nseeds: [1]\n", "'seeds' is given twice"),
        (changed(seed=[0]), "'seed'"),
        ({"config": "a.yaml"}, "seeds and test and rows"),
        (changed(seeds=3), "seeds.*got 3"),
        (changed(seeds=[True]), "seeds"),
        (changed(seeds=[0, 0]), "seeds"),
        (changed(seeds=[-1]), "seeds"),
        (changed(test=[]), "test"),
        (changed(test=["demo_ms3_tes"]), "test.*near it: demo_ms3_test.*'demo_ms3_tes'"),
        (changed(conditions=["original", "loud"]), "conditions.*silence.*'loud'"),
        (changed(conditions=["silence"]), "conditions.*'original'"),
        (changed(test={}), "test"),
        (changed(test={"demo_ms3_test": ["loud"]}), "test: demo_ms3_test.*'loud'"),
        (changed(test={"demo_ms3_test": []}), "test: demo_ms3_test"),
        (changed(rows=[]), r"rows: .*got \[\]"),
        (changed(rows=["base"]), "row 1"),
        (changed(rows=[{"title": "x"}]), "row 1.*name"),
        (changed(rows=[{"name": 3}]), "row 3: name"),
        (changed(rows=[{"name": "../x"}]), "row '../x': name"),
        (changed(rows=[{"name": "x" * 90}]), "name"),
        (with_row(name="Base"), "rows.*base"),
        (with_row(override={}), "row 'x'.*overrides.*'override'"),
        (with_row(title=3), "row 'x': title.*got 3"),
        (with_row(group="a\nb"), "row 'x': group"),
        (with_row(baseline="yes"), "row 'x': baseline"),
        (changed(rows=[{"name": n, "baseline": True} for n in "ab"]), "baseline.*'a', 'b'"),
        (with_row(seeds=[]), "row 'x': seeds"),
        (with_row(config="s5.yaml"), "row 'x'.*'s5.yaml'"),
        (with_row(config=[]), "row 'x': config"),
        (with_row(overrides=["a"]), "row 'x': overrides"),
        (with_row(overrides={"SEED": 3}), "row 'x'.*seeds.*SEED"),
        (with_row(overrides={"OUTPUT_DIR": "a"}), "row 'x'.*--output.*OUTPUT_DIR"),
        (with_row(overrides={"MODEL": {"DEVICE": "cpu"}}), "row 'x': overrides: MODEL"),
        (with_row(overrides={"MODEL.TRANSAVS.NUM_QUERYS": 3}), "row 'x'.*NUM_QUERIES"),
        (with_row(overrides={"SOLVER.MAX_ITER": "many"}), "row 'x'.*MAX_ITER"),
        (with_row(overrides={"INPUT.FORMAT": "GBR"}), "row 'x'.*RGB, BGR"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, content: object, names: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read_grid(path)
    told = str(caught.value)
    assert "grid.yaml" in told and re.search(names, told, re.DOTALL), told


@pytest.mark.parametrize("name", shipped_grids())
def test_shipped_grids(name: str) -> None:
    grid = read_grid(name)
    assert len([row for row in grid.rows if row.baseline]) == 1
    # What differs is trained: two rows of equal settings would be one.
    assert len({str(row.settings) for row in grid.rows}) == len(grid.rows)
