"""The model zoo page: what is read from trainings, and what stands on the page."""

import json
import sys
from pathlib import Path

import pytest
import tiny_models

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools" / "maintainers"))

from make_model_zoo import _PART, generated_parts, main, read_published  # noqa: E402

PAGE = """# Zoo

By hand.

<!-- generated: measured -->
old
<!-- end of generated -->

<!-- generated: published resnet -->
<!-- end of generated -->

Also by hand.
"""


def write_run(folder, seed, jaccard, *opts, results="results.json", dataset="demo_s4_test"):
    folder.mkdir(parents=True)
    cfg = tiny_models.tiny_cfg("SEED", seed, "OUTPUT_DIR", folder, *opts)
    (folder / "config.yaml").write_text(cfg.dump())
    scores = {
        dataset: {"original": {"M_J": jaccard, "M_J_nonempty": jaccard, "M_F": 80.0}},
        "references": {dataset: {"nothing": 0.0}},
        "robustness": {dataset: {"G_mIoU": 70.25, "G_F": None, "FPR": 0.0125}},
    }
    (folder / results).write_text(json.dumps(scores))


@pytest.fixture
def files(tmp_path):
    page = tmp_path / "ZOO.md"
    page.write_text(PAGE)
    return ["--page", str(page), "--entries", str(tmp_path / "entries.json")]


def rows_of(page, start):
    return [line for line in page.read_text().splitlines() if line.startswith(start)]


def test_seeds_become_mean_and_spread(tmp_path, files):
    grid = tmp_path / "grid" / "mine" / "runs"
    for seed, jaccard in ((0, 70.0), (1, 72.0), (2, 74.0)):
        write_run(grid / "small" / f"seed_{seed}", seed, jaccard)
    command = ["python", "-m", "train", "--config-file", "configs/s4_R50.yaml", "SEED", "0"]
    (grid / "small" / "seed_0" / "run.json").write_text(json.dumps({"command": command}))
    # A run of train_net.py with another setting, evaluated by TEST.ROBUSTNESS.
    more = ("MODEL.TRANSAVS.NUM_QUERIES", 7)
    write_run(tmp_path / "grid" / "other", 0, 60.0, *more, results="robustness.json")
    benchmark = {
        "version": 2,
        "size": [{"parameters": 12_340_000, "macs": 5_600_000_000, "encoder_baseline_macs": 1}],
        "inference": [{"batch": 4, "ratio": 9.0}, {"batch": 1, "ratio": 2.345}],
    }
    (grid / "small" / "seed_1" / "benchmark.json").write_text(json.dumps(benchmark))
    assert main(["--runs", str(tmp_path / "grid"), "--no-size", *files]) == 0
    page = tmp_path / "ZOO.md"
    (row,) = rows_of(page, "| [mine: small](configs/s4_R50.yaml) |")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "[mine: small](configs/s4_R50.yaml)", "ResNet-50", "32", "0, 1, 2",
        "72.0 ± 2.0", "72.0 ± 2.0", "-", "80.0 ± 0.0", "70.2 ± 0.0",
        "-", "-", "1.25 ± 0.00", "12.3", "5.6", "2.35", "measured",
    ]  # fmt: skip
    (row,) = rows_of(page, "| other |")
    assert "| 0 | 60.0 | 60.0 | - | 80.0 | 70.2 | - | - | 1.25 | - | - | - | measured |" in row
    text = page.read_text()
    assert text.startswith("# Zoo\n\nBy hand.\n") and text.endswith("\nAlso by hand.\n")
    assert "old" not in text

    assert main(["--check", *files]) == 0
    page.write_text(text.replace("72.0 ± 2.0", "82.0 ± 2.0"))
    assert main(["--check", *files]) == 1
    assert "82.0" in page.read_text()  # it writes nothing
    assert main(files) == 0
    assert page.read_text() == text


def test_our_rows_stand_beside_published_ones_of_their_family(tmp_path, files):
    write_run(tmp_path / "run", 3, 81.5, dataset="avsbench_s4_test")
    assert main(["--runs", str(tmp_path / "run"), "--no-size", *files]) == 0
    # The file is too old to tell the group of its M_F; the configuration does.
    (row,) = rows_of(tmp_path / "ZOO.md", "| **run** |")
    assert row.startswith("| **run** | ResNet-50 | 4 | 32 |")
    assert "| 81.5 | 80.0 | - | - | - | - | measured, 1 seed |" in row
    entries = json.loads((tmp_path / "entries.json").read_text())["entries"]
    parts = generated_parts(read_published(), entries)
    assert "**run**" in parts["published table_1"]
    assert "**run**" not in parts["published mean_iou"] + parts["published j_and_f"]


def test_tables_hold_one_group_of_m_f_each(tmp_path, files):
    write_run(tmp_path / "run", 0, 81.5, dataset="avsbench_s4_test")
    content = json.loads((tmp_path / "run" / "results.json").read_text())
    groups = {"M_F_group": 2, "M_F": 82.0, "M_F_group_1": 85.0, "M_F_group_4": 80.0}
    content["avsbench_s4_test"]["original"] |= groups
    classes = {"M_J": 70.0, "class_mIoU_official": 31.0, "class_F_official": 36.0}
    content["avsbench_avss_test"] = {"original": {**classes, "M_F": 75.0, "M_F_group": 2}}
    (tmp_path / "run" / "results.json").write_text(json.dumps(content))
    assert main(["--runs", str(tmp_path / "run"), "--no-size", *files]) == 0
    # Ours at each of its groups, and the classes of AVSS by the metric of that column.
    for row, clips, m_f in zip(
        rows_of(tmp_path / "ZOO.md", "| **run** |"), "124", ("85.0", "82.0", "80.0"), strict=True
    ):
        assert f"| {clips} | 32 | 81.5 | {m_f} | - | - | 31.0 | 36.0 | measured, 1 seed |" in row
    for name, group in read_published().items():
        text = generated_parts({name: group}, [])[f"published {name}"]
        tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("| ")]
        if "M_F" not in group["family"]["values"]:
            assert "M_F" not in text and len(tables) == 1
            continue
        sizes = [{row.split(" | ")[2] for row in table[2:]} for table in tables]
        assert all(len(size) == 1 for size in sizes), name
        assert len(set.union(*sizes)) == len(tables)
        assert sum(len(table) - 2 for table in tables) == len(group["rows"])
    assert {r.get("f_clips") for r in read_published()["resnet"]["rows"]} == {1, 2, 4, None}


def test_size_is_counted_where_no_benchmark_lies(tmp_path, files):
    write_run(tmp_path / "run", 0, 70.0)
    assert main(["--runs", str(tmp_path / "run"), *files]) == 0
    (entry,) = json.loads((tmp_path / "entries.json").read_text())["entries"]
    assert entry["size"]["macs"] > entry["size"]["limit_macs"] > 0
    model = tiny_models.tiny_model()
    assert entry["size"]["parameters"] == sum(p.numel() for p in model.parameters())


def test_published_numbers():
    groups = read_published()
    (transavs,) = [row for row in groups["table_1"]["rows"] if row["backbone"] == "ResNet-101"]
    assert (transavs["S4"], transavs["MS3"]) == ([83.1, 90.6], [58.9, 72.9])
    parts = generated_parts(groups, [])
    line = next(row for row in parts["published table_1"].splitlines() if "Swin-Base" in row)
    assert "| 224 | 89.4 | 94.2 | 63.5 | 75.2 | published | config here: [S4](configs/" in line
    assert "published, read second-hand" in parts["published pvt"]
    # One model in both families: the numbers stand in different tables.
    assert "78.8" in parts["published resnet"] and "89.4" not in parts["published resnet"]
    assert "89.4" in parts["published mean_iou"] and "78.8" not in parts["published mean_iou"]
    assert "| 84.8 | - |" in parts["published pvt"]  # VCT printed no M_F there


def test_the_page_of_the_repository_is_up_to_date():
    assert main([
        "--check", "--page", str(ROOT / "MODEL_ZOO.md"),
        "--entries", str(ROOT / "docs" / "model_zoo.json"),
    ]) == 0  # fmt: skip
    names = {match["name"] for match in _PART.finditer((ROOT / "MODEL_ZOO.md").read_text())}
    assert names == {"measured", *(f"published {name}" for name in read_published())}


def test_mistakes_are_told(tmp_path, files, capsys):
    def error(*arguments):
        assert main([*arguments]) == 2
        return capsys.readouterr().err

    assert "none.md" in error("--page", str(tmp_path / "none.md"))
    (tmp_path / "empty").mkdir()
    assert "no finished training in" in error("--runs", str(tmp_path / "empty"), *files)
    for page in ("by hand", "<!-- generated: measured -->\n", PAGE.replace("measured", "poems")):
        (tmp_path / "page.md").write_text(page)
        assert "the page asks for" in error("--page", str(tmp_path / "page.md"), *files[2:])
    write_run(tmp_path / "a", 1, 70.0)
    write_run(tmp_path / "b", 1, 71.0)
    runs = ("--runs", str(tmp_path / "a"), str(tmp_path / "b"), "--no-size")
    assert "hold the same training" in error(*runs, *files)
    (tmp_path / "a" / "config.yaml").write_text("MODEL:\n  POEMS: 3\nVERSION: 2\n")
    assert "a/config.yaml: Non-existent" in error(*runs, *files)
