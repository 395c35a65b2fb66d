"""Tables of a grid: numbers worked out by hand, dashes for what is not there."""

import json
from pathlib import Path

import pytest

from transavs.apps.ablation.grid import Grid, read_grid
from transavs.apps.ablation.report import draw, metrics_of, read_scores, write_report
from transavs.apps.ablation.runs import Record, Run

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
    (tmp_path / "sizes.yaml").write_text(GRID)
    return read_grid(tmp_path / "sizes.yaml")


def add_run(grid: Grid, output: Path, row: str, seed: int, m_j: float | None, **more) -> None:
    ((chosen, _),) = grid.choose([row], [seed])
    run = Run(grid, chosen, seed, output)
    failure = "" if m_j is not None else "evaluation ended with code 1"
    run.record = Record(run.settings, ["train"], "evaluation", 100.0 + seed, failure=failure)
    run.save()
    if m_j is None:
        return
    found: dict = {
        "demo_ms3_test": {
            "original": {"M_J": m_j, "M_J_nonempty": m_j - 10, "M_F": None, **more},
            "shuffled": {"M_J": 99.0, "M_J_nonempty": m_j / 2},
            "silence": {"FPR": 0.0},
            "noise": {"FPR": 0.0123},
        },
        "robustness": {"demo_ms3_test": {"G_mIoU": m_j + 5}, "demo_ms3_unseen": {"G_mIoU": 40.0}},
    }
    if row == "base":
        found["demo_ms3_unseen"] = {"original": {"M_J_nonempty": 40.0 + seed}}
    (run.folder / "results.json").write_text(json.dumps(found))


@pytest.fixture
def output(tmp_path: Path, grid: Grid) -> Path:
    output = tmp_path / "out"
    for seed, m_j in enumerate((60.0, 62.0, 64.0)):
        add_run(grid, output, "base", seed, m_j, query_cosine=0.5)
    # Differences to the baseline, seed by seed: 3 and 5, though the means are 4.5 apart.
    add_run(grid, output, "big", 0, 63.0)
    add_run(grid, output, "big", 2, 69.0)
    add_run(grid, output, "late", 0, None)
    return output


def test_columns(grid: Grid) -> None:
    assert [metric.key for metric in metrics_of(grid)] == [
        *("M_J", "M_J_nonempty", "M_F", "M_F_group_1", "M_F_group_4", "M_J_nonempty_shuffled"),
        *("FPR_silence", "FPR_noise", "FPR_offscreen", "G_mIoU", "G_mIoU_all_frames", "G_F"),
        *("M_J_nonempty:demo_ms3_unseen", "G_mIoU:demo_ms3_unseen"),
        *("query_cosine", "query_overlap", "queries_confident", "seconds"),
    ]


def cells(text: str, start: str) -> list[str]:
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in text.splitlines()]
    (row,) = [row for row in rows if " | ".join(row).startswith(start)]
    return row


def test_table_for_people(grid: Grid, output: Path) -> None:
    write_report(grid, output)
    text = (output / "table.md").read_text()
    assert text.startswith("# sizes: 5 of 9 trainings\n")
    scores, _, rest = text.partition("## Differences to the baseline")
    differences, _, commands = rest.partition("## Commands")
    assert cells(scores, " | **the model**") == [
        *("", "**the model**", "3", "62.0 ± 2.0", "52.0 ± 2.0", *"–––", "31.0 ± 1.0"),
        *("0.00 ± 0.00", "1.23 ± 0.00", "–", "67.0 ± 2.0", "–", "–", "41.0 ± 1.0", "40.0 ± 0.0"),
        *("0.50 ± 0.00", "–", "–", "101 ± 1", "–"),
    ]
    big = cells(scores, "size | more queries")
    assert big[2:4] == ["2 of 3", "66.0 ± 4.2"] and big[-1] == "+4.0 ± 1.4"
    assert cells(scores, "size | a \\| b")[2:] == ["0 of 3", *["–"] * 19]
    assert cells(differences, "more queries")[:3] == ["more queries", "2", "+4.0 ± 1.4"]
    assert "| the model" not in differences
    assert cells(commands, "more queries")[1].endswith("MODEL.TRANSAVS.NUM_QUERIES 50 SEED 0`")
    assert cells(commands, "a \\| b | 0")[2] == "evaluation ended with code 1"

    add_run(grid, output, "late", 0, 55.0)
    write_report(grid, output)
    late = cells((output / "table.md").read_text().split("##")[0], "size | a \\| b")
    assert late[2:4] == ["1 of 3", "55.0"] and late[-1] == "−5.0"


def test_file_for_programs_and_plot(grid: Grid, output: Path) -> None:
    write_report(grid, output)
    data = json.loads((output / "table.json").read_text())
    base, big, late = data["rows"]
    assert base["baseline"] and "difference" not in base and base["seeds"] == [0, 1, 2]
    assert base["by_seed"]["2"]["M_J"] == 64 and base["by_seed"]["1"]["FPR_silence"] == 0
    assert base["scores"]["M_J"] == {"mean": 62, "spread": 2, "count": 3}
    assert base["scores"]["M_J_nonempty:demo_ms3_unseen"]["mean"] == 41
    assert big["difference"]["M_J"]["mean"] == 4
    assert big["difference"]["M_J"]["spread"] == pytest.approx(2**0.5)
    assert late["scores"]["M_J"] == {"mean": None, "spread": None, "count": 0}
    assert late["failures"] == {"0": "evaluation ended with code 1"}
    assert data["metrics"]["G_mIoU"] == "G-mIoU"
    assert len((output / "plot.png").read_bytes()) > 10_000


def test_plot(grid: Grid, output: Path) -> None:
    rows = read_scores(grid, output)
    figure = draw(rows, metrics_of(grid)[:2])
    assert [axes.get_title() for axes in figure.axes] == ["M_J ↑", "M_J non-empty ↑"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["the model", "size", "more queries", "a | b"]
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in points] == [[60, 62, 64], [63, 69]]
    assert [set(line.get_ydata()) for line in points] == [{0}, {2}]


def test_nothing_to_report_yet(grid: Grid, tmp_path: Path) -> None:
    write_report(grid, tmp_path / "empty")
    assert (tmp_path / "empty" / "table.md").read_text().startswith("# sizes: 0 of 9 trainings")
    assert (tmp_path / "empty" / "plot.png").stat().st_size > 1000


def test_another_grid(grid: Grid, output: Path) -> None:
    """Without a baseline there are no differences; runs with other settings are left out."""
    text = GRID.replace(", baseline: true", "").replace("NUM_QUERIES: 50", "NUM_QUERIES: 60")
    Path(grid.path).write_text(text)
    write_report(read_grid(grid.path), output)
    assert "Differences" not in (output / "table.md").read_text()
    assert json.loads((output / "table.json").read_text())["rows"][1]["by_seed"] == {}
