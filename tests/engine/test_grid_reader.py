"""Grid files: what they give, and the one line that each mistake in them is answered with."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from transavs.data import CONDITIONS
from transavs.engine.grid import read_grid, shown_command
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
                "MODEL.TRANSAVS.AQDL_NORMALIZE": True,
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
    grid = read_grid(write(tmp_path, CONTENT))
    base, big, s4 = grid.rows
    assert grid.baseline is base and base.title == "the model" and base.group == ""
    assert (big.title, big.group, big.seeds, base.seeds) == ("big", "size", (1, 7), (0, 1))
    assert (base.iterations, big.iterations) == (100, 200)
    assert s4.config == "configs/demo/demo_s4.yaml"
    # Each key once, where it was named first; text as one would type it.
    assert big.options[:6] == (
        *("SOLVER.MAX_ITER", "200"),
        *("DATASETS.VAL", "[]"),
        *("TEST.EVAL_PERIOD", "0"),
    )
    assert big.options[6:] == (
        *("MODEL.TRANSAVS.NUM_QUERIES", "50"),
        *("SOLVER.BASE_LR", "2e-3"),
        *("MODEL.AUDIO.WEIGHTS", ""),
        *("MODEL.TRANSAVS.AQDL_NORMALIZE", "True"),
        *("MODEL.TRANSAVS.AQDL_THRESHOLD", "[0.6, 0.6]"),
    )
    # Settings hold what the file of the configuration changes, too, but no default.
    assert base.settings["MODEL.TRANSAVS.NUM_QUERIES"] == 30
    assert big.settings["SOLVER.BASE_LR"] == 0.002
    assert big.settings["MODEL.TRANSAVS.AQDL_THRESHOLD"] == [0.6, 0.6]
    assert "MODEL.AUDIO.WEIGHTS" not in big.settings  # its default
    assert not {"SEED", "OUTPUT_DIR", "DATASETS.TEST", "DATASETS.VAL"} & set(base.settings)
    assert shown_command(base) == (
        "python tools/train_net.py --config-file configs/demo/demo_ms3.yaml SOLVER.MAX_ITER 100 "
        "DATASETS.VAL '[]' TEST.EVAL_PERIOD 0 SEED 0"
    )


def test_which_model_counts(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    assert not any(row.validated for row in read_grid(write(tmp_path, content)).rows)
    del content["overrides"]["DATASETS.VAL"]
    content["rows"][1]["overrides"]["TEST.EVAL_PERIOD"] = 50
    rows = read_grid(write(tmp_path, content)).rows
    # Validation sets without a period keep no best model.
    assert [row.validated for row in rows] == [False, True, False]


def test_runs_go_seed_by_seed(tmp_path: Path) -> None:
    grid = read_grid(write(tmp_path, CONTENT))
    assert [str(run) for run in grid.runs()] == [
        *("base seed 0", "s4 seed 0"),
        *("base seed 1", "big seed 1", "s4 seed 1"),
        "big seed 7",
    ]
    assert [str(run) for run in grid.runs(["big"], [7, 0])] == ["big seed 7"]
    assert str(grid.runs()[0].subfolder) == "runs/base/seed_0"
    with pytest.raises(ValueError, match="no row is called 'bigg'; near it: big"):
        grid.runs(["bigg"])
    with pytest.raises(ValueError, match="no seed is called 3; known: 0, 1, 7"):
        grid.runs((), [3])


def test_conditions_of_data_sets(tmp_path: Path) -> None:
    both = ("original", "silence")
    expected = {"demo_ms3_test": both, "demo_ms3_unseen": both}
    grid = read_grid(write(tmp_path, CONTENT))
    assert grid.test == expected and grid.main_test == "demo_ms3_test"
    own = {"demo_ms3_test": None, "demo_ms3_unseen": ["original"]}
    grid = read_grid(write(tmp_path, {**CONTENT, "test": own}))
    assert grid.test == {**expected, "demo_ms3_unseen": ("original",)}
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
    ("content", "message"),
    [
        ("- a\n", "expected the fields config, overrides"),
        ("rows: [", "no plain YAML"),
        ("seeds: !!python/object/apply:os.getcwd []\n", "no plain YAML"),
        ("seeds: [0]\nseeds: [1]\n", "no plain YAML: line 1: 'seeds' is given twice"),
        (changed(seed=[0]), "no field is called 'seed'; near it: seeds"),
        ({"config": "a.yaml"}, "seeds and test and rows must be given"),
        (changed(seeds=3), r"seeds: expected a list of different whole numbers.*got 3"),
        (changed(seeds=[True]), "seeds: expected a list of different whole numbers"),
        (changed(seeds=[0, 0]), "seeds: expected a list of different whole numbers"),
        (changed(seeds=[-1]), "seeds: expected a list of different whole numbers"),
        (changed(test=[]), "test: expected a list of different names"),
        (changed(test=["demo_ms3_tes"]), "no data set is called 'demo_ms3_tes'; near it: demo_ms3"),
        (changed(conditions=["original", "loud"]), "no audio condition is called 'loud'; known"),
        (changed(conditions=["silence"]), "conditions: 'original' must be among them"),
        (changed(test={}), "test: expected a list of different names"),
        (changed(test={"demo_ms3_test": ["loud"]}), "no audio condition is called 'loud'"),
        (changed(test={"demo_ms3_test": []}), "test: demo_ms3_test: expected a list of different"),
        (changed(rows=[]), r"rows: expected a list of rows, got \[\]"),
        (changed(rows=["base"]), "row number 1: expected the fields name, title"),
        (changed(rows=[{"title": "x"}]), "row number 1: name must be given"),
        (changed(rows=[{"name": 3}]), "row number 1: name: expected a name for a folder"),
        (changed(rows=[{"name": "../x"}]), "row '../x': name: expected a name for a folder"),
        (changed(rows=[{"name": "x" * 90}]), "name: expected a name for a folder"),
        (with_row(name="Base"), "two rows are called 'Base': rename one"),
        (with_row(override={}), "row 'x': no field is called 'override'; near it: overrides"),
        (with_row(title=3), "row 'x': title: expected a line of text, got 3"),
        (with_row(baseline="yes"), "row 'x': baseline: expected true or false, got 'yes'"),
        (with_row(seeds=[]), "row 'x': seeds: expected a list"),
        (with_row(config="s5.yaml"), "row 'x': config: no config file 's5.yaml'"),
        (with_row(config=[]), r"row 'x': config: expected a file, got \[\]"),
        (with_row(overrides=["a"]), "row 'x': overrides: expected lines 'KEY: value'"),
        (with_row(overrides={"SEED": 3}), "row 'x': SEED is set by the grid: use seeds"),
        (with_row(overrides={"OUTPUT_DIR": "a"}), "OUTPUT_DIR is set by the grid: use --output"),
        (with_row(overrides={"MODEL": {"DEVICE": "cpu"}}), "row 'x': overrides: expected dotted"),
        (with_row(overrides={"MODEL.TRANSAVS.NUM_QUERYS": 3}), "row 'x'.*near it: .*NUM_QUERIES"),
        (with_row(overrides={"SOLVER.MAX_ITER": "many"}), "row 'x'.*Type mismatch"),
        (with_row(overrides={"INPUT.FORMAT": "GBR"}), "row 'x'.*must be one of RGB, BGR"),
        (
            changed(rows=[{"name": "a", "baseline": True}, {"name": "b", "baseline": True}]),
            r"at most one row with baseline: true, got \['a', 'b'\]",
        ),
    ],
)
def test_mistakes_name_file_row_and_field(content: object, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        read_grid(path)
    assert str(path) in str(error.value)


def test_a_merged_mapping_is_no_repetition(tmp_path: Path) -> None:
    text = yaml.safe_dump(changed(rows=[]), sort_keys=False).replace(
        "rows: []",
        "rows:\n- &first\n  name: base\n  title: one\n- <<: *first\n  name: other\n",
    )
    assert [row.title for row in read_grid(write(tmp_path, text)).rows] == ["one", "one"]


def test_missing_file_lists_the_shipped_ones() -> None:
    with pytest.raises(FileNotFoundError, match="no grid file.*grid/demo_ms3.yaml"):
        read_grid("demo_ms4.yaml")


@pytest.mark.parametrize("name", shipped_grids())
def test_shipped_grids_change_one_thing_at_a_time(name: str) -> None:
    grid = read_grid(name)
    assert grid.baseline is grid.rows[0]
    # Grids on listening ask for every sound, those on the speed of a model for its own alone.
    assert set(grid.test[grid.main_test]) in ({"original"}, set(CONDITIONS))
    different = {json.dumps(row.settings, sort_keys=True) for row in grid.rows}
    assert len(different) == len(grid.rows)
    for row in grid.rows:
        # No validation: the last model counts; and Ctrl-C at any time loses little.
        assert not row.validated and row.seeds == (0, 1, 2)
        assert row.iterations >= 2 * row.settings["SOLVER.CHECKPOINT_PERIOD"]
