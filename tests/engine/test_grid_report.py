"""Tables of a grid: numbers worked out by hand, dashes for what is not there."""

import json
from pathlib import Path

import pytest

from transavs.engine.grid import Grid, RunFolder, read_grid, write_report
from transavs.engine.grid.report import format_markdown
from transavs.engine.grid.run_folder import Record
from transavs.engine.grid.scores import metrics_of, read_scores, statistic

GRID = """
config: configs/demo/demo_ms3.yaml
overrides: {SOLVER.MAX_ITER: 100, DATASETS.VAL: []}
seeds: [0, 1, 2]
test: [demo_ms3_test, demo_ms3_unseen]
rows:
- {name: base, title: the model, baseline: true}
- {name: big, title: more queries, group: size, overrides: {MODEL.TRANSAVS.NUM_QUERIES: 50}}
- {name: late, title: "a | b", group: size, overrides: {SOLVER.BASE_LR: 0.1}}
"""


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    path = tmp_path / "sizes.yaml"
    path.write_text(GRID)
    return read_grid(path)


def add_run(grid: Grid, output: Path, row: str, seed: int, results: dict | None) -> RunFolder:
    (run,) = grid.runs([row], [seed])
    folder = RunFolder(grid, run, output)
    stage = "evaluation" if results is None else "finished"
    folder.record = Record(folder.settings, ["train"], stage, seconds=100.0 + seed)
    folder.save()
    if results is not None:
        folder.results.write_text(json.dumps(results))
    return folder


def results(m_j: float, unseen: float | None = None, **more: object) -> dict:
    found: dict = {
        "demo_ms3_test": {
            "original": {"M_J": m_j, "M_J_nonempty": m_j - 10, "M_F": None, **more},
            "shuffled": {"M_J": 99.0, "M_J_nonempty": m_j / 2},
            "silence": {"FPR": 0.0},
            "noise": {"FPR": 0.0123},
        },
        "robustness": {
            "demo_ms3_test": {"G_mIoU": m_j + 5},
            "demo_ms3_unseen": {"G_mIoU": m_j - 5},
        },
    }
    if unseen is not None:
        found["demo_ms3_unseen"] = {"original": {"M_J_nonempty": unseen}}
    return found


@pytest.fixture
def output(tmp_path: Path, grid: Grid) -> Path:
    output = tmp_path / "out"
    for seed, m_j in enumerate((60.0, 62.0, 64.0)):
        add_run(grid, output, "base", seed, results(m_j, unseen=40.0 + seed, query_cosine=0.5))
    # Differences to the baseline, seed by seed: 3 and 5, though the means are 4.5 apart.
    add_run(grid, output, "big", 0, results(63.0))
    add_run(grid, output, "big", 2, results(69.0))
    add_run(grid, output, "big", 1, None)
    folder = add_run(grid, output, "late", 0, None)
    assert folder.record is not None
    folder.record.failure = "evaluation ended with code 1"
    folder.save()
    return output


def test_statistics() -> None:
    found = statistic([60.0, None, 62.0, 64.0])
    # Squared distances to the mean 4, 0, 4, over two.
    assert (found.mean, found.spread, found.count) == (62, 2, 3)
    assert statistic([3.0]).spread is None and statistic([None]).mean is None


def test_columns(grid: Grid) -> None:
    assert [metric.key for metric in metrics_of(grid)] == [
        *("M_J", "M_J_nonempty", "M_F", "M_F_group_1", "M_F_group_4", "M_J_nonempty_shuffled"),
        *("FPR_silence", "FPR_noise", "FPR_offscreen", "G_mIoU", "G_mIoU_all_frames", "G_F"),
        *("M_J_nonempty:demo_ms3_unseen", "G_mIoU:demo_ms3_unseen"),
        *("query_cosine", "query_overlap", "queries_confident", "seconds"),
    ]


def test_scores_of_rows(grid: Grid, output: Path) -> None:
    base, big, late = read_scores(grid, output)
    assert base.by_seed[1]["M_J"] == 62 and base.by_seed[1]["M_J_nonempty_shuffled"] == 31
    assert base.statistic("FPR_noise").mean == pytest.approx(1.23)
    assert base.by_seed[1]["FPR_silence"] == 0 and base.by_seed[1]["FPR_offscreen"] is None
    assert base.by_seed[1]["G_mIoU:demo_ms3_unseen"] == 57
    assert base.statistic("seconds").mean == 101
    assert base.statistic("M_J_nonempty:demo_ms3_unseen").mean == 41
    assert big.statistic("M_J").mean == 66 and big.statistic("M_F").mean is None
    difference = big.difference(base, "M_J")
    assert (difference.mean, difference.count) == (4, 2)
    assert difference.spread == pytest.approx(2**0.5)
    assert late.by_seed == {} and late.failures == {0: "evaluation ended with code 1"}


def table(grid: Grid, output: Path) -> str:
    return format_markdown(grid, read_scores(grid, output), metrics_of(grid))


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_table_for_people(grid: Grid, output: Path) -> None:
    write_report(grid, output)
    text = (output / "table.md").read_text()
    assert text.startswith("# sizes: 5 of 9 trainings\n")
    assert "sample standard deviation" in text
    scores, _, rest = text.partition("## Differences to the baseline")
    differences, _, commands = rest.partition("## Commands")
    assert cells(scores, "|  | **the model**") == [
        *("", "**the model**", "3", "62.0 ± 2.0", "52.0 ± 2.0", *"–––", "31.0 ± 1.0"),
        *("0.00 ± 0.00", "1.23 ± 0.00", "–", "67.0 ± 2.0", "–", "–", "41.0 ± 1.0", "57.0 ± 2.0"),
        *("0.50 ± 0.00", "–", "–", "101 ± 1", "–"),
    ]
    big = cells(scores, "| size | more queries")
    assert big[2:4] == ["2 of 3", "66.0 ± 4.2"] and big[-1] == "+4.0 ± 1.4"
    assert cells(scores, "| size | a \\| b")[2:] == ["0 of 3", *["–"] * 19]
    assert cells(differences, "| more queries")[:3] == ["more queries", "2", "+4.0 ± 1.4"]
    assert "| the model | +" not in differences
    assert cells(commands, "| more queries")[1].endswith("MODEL.TRANSAVS.NUM_QUERIES 50 SEED 0`")
    assert cells(commands, "| a \\| b | 0 |")[2] == "evaluation ended with code 1"


def test_negative_differences_have_a_minus(grid: Grid, output: Path) -> None:
    add_run(grid, output, "late", 0, results(55.0))
    scores = table(grid, output).split("## Differences")[0]
    late = cells(scores, "| size | a \\| b")
    assert late[2:4] == ["1 of 3", "55.0"] and late[-1] == "−5.0"


def test_file_for_programs_and_plot(grid: Grid, output: Path) -> None:
    write_report(grid, output)
    data = json.loads((output / "table.json").read_text())
    assert data["spread"] == "sample standard deviation"
    base, big, late = data["rows"]
    assert base["baseline"] and "difference" not in base
    assert base["by_seed"]["2"]["M_J"] == 64
    assert base["scores"]["M_J"] == {"mean": 62, "spread": 2, "count": 3}
    assert big["difference"]["M_J"]["mean"] == 4
    assert late["scores"]["M_J"] == {"mean": None, "spread": None, "count": 0}
    assert late["failures"] == {"0": "evaluation ended with code 1"}
    picture = (output / "plot.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_nothing_to_report_yet(grid: Grid, tmp_path: Path) -> None:
    write_report(grid, tmp_path / "empty")
    assert (tmp_path / "empty" / "table.md").read_text().startswith("# sizes: 0 of 9 trainings")
    assert (tmp_path / "empty" / "plot.png").stat().st_size > 1000


def test_without_a_baseline(grid: Grid, output: Path) -> None:
    Path(grid.path).write_text(GRID.replace(", baseline: true", ""))
    assert "Differences" not in table(read_grid(grid.path), output)


def test_runs_with_other_settings_are_left_out(grid: Grid, output: Path) -> None:
    Path(grid.path).write_text(GRID.replace("NUM_QUERIES: 50", "NUM_QUERIES: 60"))
    _, big, _ = read_scores(read_grid(grid.path), output)
    assert big.by_seed == {}
