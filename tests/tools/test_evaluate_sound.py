"""evaluate_sound: scores under each condition, the file it writes, and its answers to mistakes."""

import json
import re
from pathlib import Path

import avsbench_trees
import listening_model
import numpy as np
import pytest
import torch
from listening_model import LOUD_JACCARD, QUIET_JACCARD

from transavs.tools.evaluate_sound import format_table, main, write_results


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    root = listening_model.write_clips(tmp_path / "clips")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    config = listening_model.write_config(tmp_path)
    weights, output = tmp_path / "model.pth", tmp_path / "out" / "results.json"
    return [
        *("--config-file", str(config), "--weights", str(weights)),
        *("--output", str(output)),
    ]


def results_of(arguments: list[str]) -> dict:
    return json.loads(Path(arguments[-1]).read_text())


def test_scores_under_each_sound(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    results = results_of(arguments)
    assert list(results) == ["demo_ms3_test", "references"]
    scores = results["demo_ms3_test"]
    assert list(scores) == ["original", "shuffled", "silence"]

    # Two clips are loud and one is quiet, with whatever sound they are given in exchange.
    frames = np.array([LOUD_JACCARD, LOUD_JACCARD, QUIET_JACCARD])
    for condition in ("original", "shuffled"):
        assert scores[condition]["M_J"] == pytest.approx(100 * frames.mean())
        assert scores[condition]["M_J_nonempty"] == pytest.approx(100 * frames[:, :4].mean())
    assert scores["silence"]["M_J_nonempty"] == 0
    assert scores["silence"]["FPR"] == 0
    # The dog is false where only the cow sounds, and where nothing does.
    expected = 2 * 2 * listening_model.MARKED_SHARE / 15
    assert scores["original"]["FPR"] == pytest.approx(expected)
    assert {"M_F", "M_F_dataset", "frames_with_false_pixels", "clips"} <= set(scores["original"])

    # Both objects have equal areas: marking both overlaps by half, half, whole and half.
    references = results["references"]["demo_ms3_test"]
    assert references["every_object_nonempty"] == pytest.approx(100 * (0.5 + 0.5 + 1 + 0.5) / 4)
    assert references["nothing"] == pytest.approx(100 / 5)
    table = capsys.readouterr().out
    assert "shuffled" in table and "(mark every object)" in table and "40.8" in table


def test_shuffled_sounds_follow_the_seed(arguments: list[str]) -> None:
    only = ["--conditions", "shuffled", "--seed"]
    # The clips hold other objects here, so that it shows which one got the quiet sound.
    path = Path(arguments[1]).parent / "clips" / "transavs_demo" / "Multi-sources" / "ms3_data"
    for number in range(1, 6):
        mask = path / "gt_masks" / "test" / "loud_a" / f"loud_a_{number}.png"
        avsbench_trees.write_image(mask, np.zeros(listening_model.SIZE, dtype=np.uint8))
    seen = set()
    for seed in "0123":
        scores = []
        for _ in range(2):
            assert main([*arguments[:-2], *only, seed, *arguments[-2:]]) == 0
            (condition,) = results_of(arguments)["demo_ms3_test"].values()
            scores.append(condition["M_J"])
        assert scores[0] == scores[1]
        seen.add(scores[0])
    assert len(seen) == 2


def test_silence_counts_every_marked_pixel_as_false(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model that always hears something marks the dog in silence as well.
    monkeypatch.setattr(listening_model, "SILENCE_LOG_MEL", -100.0)
    assert main([*arguments[:-2], "--conditions", "silence", *arguments[-2:]]) == 0
    scores = results_of(arguments)["demo_ms3_test"]["silence"]
    assert scores["FPR"] == pytest.approx(listening_model.MARKED_SHARE)
    assert scores["frames_with_false_pixels"] == 100


def test_merge_keeps_other_data_sets(arguments: list[str]) -> None:
    path = Path(arguments[-1])
    other = {"original": {"M_J": 1.0}}
    write_results(path, {"references": {"x": {"nothing": 2.0}}, "x": other, "demo_ms3_test": other})
    assert main([*arguments[:-2], "--merge", *arguments[-2:]]) == 0
    merged = results_of(arguments)
    assert merged["x"] == other and merged["references"]["x"] == {"nothing": 2.0}
    assert "shuffled" in merged["demo_ms3_test"] and "demo_ms3_test" in merged["references"]
    assert main(arguments) == 0
    assert "x" not in results_of(arguments)


def test_data_without_objects_has_no_references(arguments: list[str], datasets_env: Path) -> None:
    words = [*arguments[:-2], "--datasets", "avsbench_ms3_test", "--conditions", "original,silence"]
    assert main([*words, *arguments[-2:], "INPUT.MIN_SIZE_TEST", "0"]) == 0
    output = Path(words[words.index("--weights") + 1]).parent / "out" / "results.json"
    assert list(json.loads(output.read_text())) == ["avsbench_ms3_test"]


def test_nan_becomes_null_and_a_dash(tmp_path: Path) -> None:
    results = {"a": {"original": {"M_J": float("nan"), "M_F": 3.0}}}
    write_results(tmp_path / "r.json", results)
    assert json.loads((tmp_path / "r.json").read_text())["a"]["original"]["M_J"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert format_table(results).splitlines()[-1].split() == [
        "a",
        "original",
        "-",
        "-",
        "3.0",
        "-",
        "-",
    ]


def _checkpoint_of_another_shape(folder: Path) -> str:
    path = folder / "other.pth"
    torch.save({"model": {"query_decoder.mask_logits": torch.zeros(3, 4, 4)}}, path)
    return str(path)


def _checkpoint_of_nothing(folder: Path) -> str:
    path = folder / "empty.pth"
    torch.save({"model": {"unknown": torch.zeros(1)}}, path)
    return str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--conditions": "original,loud"}, "--conditions: expected .* out of original, silence"),
        ({"--conditions": ","}, "--conditions: expected"),
        (
            {"--datasets": "demo_ms4_test"},
            "no data set is called 'demo_ms4_test'; known:.*demo_ms3",
        ),
        ({"--weights": "nowhere.pth"}, "no checkpoint nowhere.pth"),
        ({"--weights": ""}, "no weights: name the checkpoint"),
        ({"--config-file": "nowhere.yaml"}, "nowhere.yaml"),
        ({"MODEL.NO_SUCH_KEY": "1"}, "NO_SUCH_KEY"),
        ({"TEST.IMS_PER_BATCH": "many"}, "Type mismatch.*IMS_PER_BATCH"),
        ({"DATASETS.TEST": "()"}, "no DATASETS.TEST"),
        ({"--weights": _checkpoint_of_another_shape}, r"mask_logits.*\[3, 4, 4\]"),
        ({"--weights": _checkpoint_of_nothing}, "empty.pth holds no tensor"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str],
    changes: dict,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in changes.items():
        value = value(tmp_path) if callable(value) else value
        if name in arguments:
            arguments[arguments.index(name) + 1] = value
        elif name.startswith("--"):
            arguments[:0] = [name, value]
        else:
            arguments += [name, value]
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors), errors
    assert "Traceback" not in errors and errors.startswith("evaluate_sound: error: ")


def test_broken_results_are_not_merged(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(arguments[-1])
    path.parent.mkdir()
    for content, message in (("{", "is no JSON"), ("[1]", "holds no results")):
        path.write_text(content)
        assert main([*arguments[:-2], "--merge", *arguments[-2:]]) == 2
        assert message in capsys.readouterr().err
        assert path.read_text() == content
