"""The file of results: whole, free of NaN, and a table that tells all of it."""

import json
from pathlib import Path

import pytest

from transavs.evaluation import format_table, merge_results, read_results, write_results
from transavs.evaluation.results_file import dataset_names, reference_models

SUMMARY = {"G_mIoU": 84.04, "G_F": float("nan"), "FPR": 0.0123, "J_pos": 75.6, "J_neg": 3.2}
RESULTS = {
    "robustness": {"a": {**SUMMARY, "conditions": {"silence": {"J": 3.2}, "noise": {}}}},
    "references": {"a": {"nothing": 20.0, "no audio": {"M_J": 44.4, "M_J_nonempty": 33.3}}},
    "b": {"original": {"M_J": 1.0}},
    "a": {"original": {"M_J": float("nan"), "M_F": 3.0, "FPR": 0.5}},
}


def test_data_sets_come_first_and_nan_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    write_results(path, RESULTS)
    content = json.loads(path.read_text())
    assert list(content) == ["a", "b", "references", "robustness"]
    assert content["a"]["original"]["M_J"] is None
    assert content["robustness"]["a"]["G_F"] is None
    assert read_results(path) == content
    assert [file.name for file in path.parent.iterdir()] == ["r.json"]


def test_parts() -> None:
    assert dataset_names(RESULTS) == ["b", "a"]
    assert reference_models(RESULTS, "a") == {"no audio": {"M_J": 44.4, "M_J_nonempty": 33.3}}
    assert reference_models(RESULTS, "b") == reference_models({}, "a") == {}


def test_table() -> None:
    lines = format_table(RESULTS).splitlines()
    rows = [line.split() for line in lines]
    assert ["b", "original", "1.0", "-", "-", "-", "-"] in rows
    assert ["a", "original", "-", "-", "3.0", "50.00", "-"] in rows
    assert ["a", "(no", "audio)", "44.4", "33.3", "-", "-", "-"] in rows
    assert ["a", "(mark", "nothing)", "20.0", "-"] in rows
    assert lines[-1] == (
        "a: G-mIoU 84.0, G-F -, FPR 0.012; J 75.6 with the clips' own sound, 3.2 on average of: "
        "silence, noise"
    )
    both = {"b": {"original": {"M_J": 2.0, "dataset_mIoU": 60.0, "class_F": 7.0}}}
    assert format_table(both).splitlines()[0].endswith("dataset mIoU    class F")
    assert format_table(both).split()[-7:] == ["2.0", "-", "-", "-", "-", "60.0", "7.0"]
    groups = {"M_F": 3.0, "M_F_group": 2, "M_F_group_1": 5.0, "M_F_group_4": 2.5}
    by_groups = {"b": {"original": groups}, "a": {"original": {"M_F": 9.0}}}
    lines = format_table(by_groups).splitlines()
    assert lines[0].endswith("M_F group 1    M_F group 4")
    assert lines[2].split() == ["b", "original", "-", "-", "3.0", "(2)", "-", "-", "5.0", "2.5"]
    assert lines[3].split() == ["a", "original", "-", "-", "9.0", "-", "-", "-", "-"]
    published = {"G_mIoU": 84.0, "G_mIoU_all_frames": 64.25, "G_F_group_1": 50.0}
    last = format_table({"robustness": {"a": published}}).splitlines()[-1]
    assert last == (
        "a, to set beside published ones: G-mIoU over all frames (above: over those in which "
        "something sounds) 64.2, G-F at groups of 1 50.0"
    )
    # What was read from a file has None in the place of NaN.
    assert format_table({"a": {"original": {"M_J": None}}}).split()[-5:] == ["-"] * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "no results"),
        ('{"a": 1}', "no results"),
        ('{"a": {"original": 3}}', "under 'a'"),
        ('{"a": {"original": {"M_J": "3"}}}', "under 'a'"),
        ('{"references": {"a": {"other": [1]}}}', "under 'references'"),
        ('{"robustness": {"a": {"G_F": []}}}', "under 'robustness'"),
        ('{"robustness": {"a": {"G_mIoU_all_frames": "x"}}}', "under 'robustness'"),
        ('{"a": {"original": {"M_F_group": "<b>"}}}', "under 'a'"),
        ('{"by_class": {"a": {"dog": {"J": "x"}}}}', "under 'by_class'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_merging_takes_all_that_a_data_set_has() -> None:
    kept = {
        "a": {"original": {"M_J": 1.0}},
        "b": {"original": {"M_J": 2.0}},
        "references": {"a": {"nothing": 3.0}, "b": {"nothing": 4.0}},
        "by_class": {"a": {"dog": {"J": 5.0}}},
    }
    own = {"a": {"silence": {"M_J": 6.0}}, "robustness": {"a": {"G_F": 7.0}}}
    assert merge_results(kept, own) == {
        "a": {"silence": {"M_J": 6.0}},
        "b": {"original": {"M_J": 2.0}},
        "references": {"b": {"nothing": 4.0}},
        "robustness": {"a": {"G_F": 7.0}},
    }
    assert kept["references"] == {"a": {"nothing": 3.0}, "b": {"nothing": 4.0}}
    assert merge_results({}, own) == own
