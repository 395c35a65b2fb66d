"""eval_robustness: scores by condition, references, summaries, and its answers to mistakes."""

import json
import re
import shutil
from pathlib import Path

import avsbench_trees
import listening_model
import numpy as np
import pytest
import torch
from listening_model import LOUD_JACCARD, QUIET_JACCARD

from transavs.evaluation import write_results
from transavs.tools.eval_robustness import main


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
    return json.loads(Path(arguments[arguments.index("--output") + 1]).read_text())


def test_scores_under_each_sound(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    results = results_of(arguments)
    assert list(results) == ["demo_ms3_test", "references", "robustness", "by_class"]
    scores = results["demo_ms3_test"]
    assert list(scores) == ["original", "silence", "noise", "offscreen", "shuffled"]

    # Two clips are loud and one is quiet, with whatever sound they are given in exchange.
    frames = np.array([LOUD_JACCARD, LOUD_JACCARD, QUIET_JACCARD])
    for condition in ("original", "shuffled"):
        assert scores[condition]["M_J"] == pytest.approx(100 * frames.mean())
        assert scores[condition]["M_J_nonempty"] == pytest.approx(100 * frames[:, :4].mean())
    # Noise and the bird are loud in all three clips.
    loud = np.mean(LOUD_JACCARD[:4])
    for condition in ("noise", "offscreen"):
        assert scores[condition]["M_J_nonempty"] == pytest.approx(100 * loud)
        assert scores[condition]["FPR"] == pytest.approx(listening_model.MARKED_SHARE)
        assert scores[condition]["frames_with_false_pixels"] == 100
    assert scores["silence"]["M_J_nonempty"] == 0
    assert scores["silence"]["FPR"] == 0
    # The dog is false where only the cow sounds, and where nothing does.
    expected = 2 * 2 * listening_model.MARKED_SHARE / 15
    assert scores["original"]["FPR"] == pytest.approx(expected)
    assert {"M_F", "M_F_dataset", "frames_with_false_pixels", "clips"} <= set(scores["original"])

    # Both objects have equal areas: marking both overlaps by half, half, whole and half.
    robustness = results["robustness"]["demo_ms3_test"]
    assert robustness["J_pos"] == pytest.approx(100 * loud * 2 / 3)
    assert robustness["J_neg"] == pytest.approx(100 * loud * 2 / 3)
    assert robustness["FPR"] == pytest.approx(listening_model.MARKED_SHARE * 2 / 3)
    expected = 2 * loud * 2 / 3 * (1 - loud * 2 / 3)
    assert robustness["G_mIoU"] == pytest.approx(100 * expected)
    assert list(robustness["conditions"]) == ["silence", "noise", "offscreen"]

    # The dog alone in two seconds, the cow in one; the quiet clip of three is missed.
    by_class = results["by_class"]["demo_ms3_test"]
    assert {name: found["frames"] for name, found in by_class.items()} == {"cow": 3, "dog": 6}
    # The model marks the dog alone.
    assert by_class["dog"]["J"] == pytest.approx(100 * np.mean(LOUD_JACCARD[:2]) * 2 / 3)
    assert by_class["dog"]["missed"] == pytest.approx(100 / 3)
    assert (by_class["cow"]["J"], by_class["cow"]["missed"]) == (0, 100)

    references = results["references"]["demo_ms3_test"]
    assert references["every_object_nonempty"] == pytest.approx(100 * (0.5 + 0.5 + 1 + 0.5) / 4)
    assert references["nothing"] == pytest.approx(100 / 5)
    table = capsys.readouterr().out
    assert "shuffled" in table and "(mark every object)" in table and "40.8" in table
    assert f"demo_ms3_test: G-mIoU {100 * expected:.1f}, G-F " in table
    assert "one class alone is heard: cow 0.0, dog 65.3" in table


def test_homogeneity_of_the_queries_is_told_for_the_original_sound(arguments: list[str]) -> None:
    assert main(arguments) == 0
    scores = results_of(arguments)["demo_ms3_test"]
    # The surest query alone is above 0.65, in the ten loud frames of fifteen.
    assert scores["original"]["queries_confident"] == pytest.approx(2 / 3)
    assert scores["original"]["query_cosine"] is scores["original"]["query_overlap"] is None
    assert not any("quer" in key for name in ("silence", "shuffled") for key in scores[name])
    assert main([*arguments, "MODEL.TRANSAVS.AQDL_THRESHOLD", "[0.5,0.2]"]) == 0
    original = results_of(arguments)["demo_ms3_test"]["original"]
    # Now the one of 30 % is, too: the dog's and the cow's, 45 degrees apart.
    assert original["queries_confident"] == pytest.approx((10 * 2 + 5) / 15)
    assert original["query_cosine"] == pytest.approx(np.sqrt(0.5))
    assert original["query_overlap"] == 0


def test_references_are_other_models_with_the_original_sound(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "other.pth"
    model = listening_model.ListeningModel(None)
    # This one takes the cow for the dog.
    model.query_decoder.mask_logits.data = model.query_decoder.mask_logits.data[[1, 0, 2]]
    torch.save({"model": model.state_dict()}, weights)
    reference = ["--reference", "cow finder", arguments[1], str(weights)]
    assert main([*reference, "--conditions", "original", *arguments]) == 0
    results = results_of(arguments)
    assert list(results["demo_ms3_test"]) == ["original"] and "robustness" not in results
    references = results["references"]["demo_ms3_test"]
    assert set(references) > {"nothing", "every_object", "cow finder"}
    # Two clips of three are loud: the cow sounds in two of their four seconds, once with the dog.
    marked = listening_model.MARKED_PIXELS / listening_model.OBJECT_PIXELS
    expected = 100 * 2 / 3 * (marked / 2 + marked) / 4
    assert references["cow finder"]["M_J_nonempty"] == pytest.approx(expected)
    assert references["cow finder"]["queries_confident"] == pytest.approx(2 / 3)
    assert "(cow finder)" in capsys.readouterr().out


def test_data_sets_without_negatives_have_no_summary(
    arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*arguments[:-2], "--conditions", "original,silence", *arguments[-2:]]) == 0
    assert "robustness" in results_of(arguments)
    only = ["--merge", "--conditions", "silence,shuffled"]
    with caplog.at_level("INFO"):
        assert main([*arguments[:-2], *only, *arguments[-2:]]) == 0
    assert "demo_ms3_test: no G-mIoU: the condition 'original' was not evaluated" in caplog.text
    assert "robustness" not in results_of(arguments)


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
    # AVSBench's own test splits; the helicopter of S4 is heard off screen in MS3.
    for name, sounds in (
        ("avsbench_ms3_test", "original,silence,noise,offscreen"),
        ("avsbench_s4_test", "original,silence,noise"),
    ):
        words = [*arguments[:-2], "--datasets", name, "--conditions", sounds]
        assert main([*words, *arguments[-2:], "INPUT.MIN_SIZE_TEST", "0"]) == 0
        results = results_of(arguments)
        assert [part for part in results if part != "by_class"] == [name, "robustness"]
        assert list(results[name]) == sounds.split(",")


def test_what_clips_cannot_have_is_left_out_unless_it_was_asked_for(
    arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    # The only clip shows all classes there are, and has nobody to exchange its sound with.
    assert main([*arguments[:-2], "--datasets", "demo_s4_test", *arguments[-2:]]) == 0
    results = results_of(arguments)
    assert list(results["demo_s4_test"]) == ["original", "silence", "noise"]
    assert list(results["robustness"]["demo_s4_test"]["conditions"]) == ["silence", "noise"]
    for condition in ("offscreen", "shuffled"):
        text = f"demo_s4_test is evaluated without the audio condition '{condition}'"
        assert text in caplog.text


def test_sounds_that_are_not_on_this_machine_are_asked_for(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "clips" / "transavs_demo" / "Single-source")
    assert main(arguments) == 2
    message = "audio condition 'offscreen': the off-screen sounds of demo_ms3_test are those of"
    assert message in capsys.readouterr().err


def test_seeds_repeat_the_noise(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[torch.Tensor] = []
    forward = listening_model.ListeningModel.forward

    def listen(self: torch.nn.Module, clips: list[dict]) -> list[dict]:
        heard.extend(clip["audio"] for clip in clips)
        return forward(self, clips)

    monkeypatch.setattr(listening_model.ListeningModel, "forward", listen)
    for seed in ("1", "1", "2"):
        words = ["--conditions", "noise", "--seed", seed]
        assert main([*words, *arguments]) == 0
    first, again, other = (torch.stack(heard[start : start + 3]) for start in (0, 3, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


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
            {"INPUT.AUDIO_SOURCE": "log_mel"},
            "conditions silence, noise are computed .* Set INPUT.AUDIO_SOURCE wav",
        ),
        (
            {"--datasets": "demo_s4_test", "--conditions": "original,offscreen"},
            "audio condition 'offscreen': clip 'bird/sings' shows every class",
        ),
        ({"--reference": ("a", "no.yaml", "no.pth")}, "no.yaml"),
        ({"--reference": ("nothing", "no.yaml", "no.pth")}, "--reference: .* got 'nothing'"),
        (
            {"--datasets": "demo_ms4_test"},
            "no data set is called 'demo_ms4_test'; known:.*demo_ms3",
        ),
        ({"--weights": "nowhere.pth"}, "no checkpoint nowhere.pth"),
        ({"--seed": "-1"}, "--seed must be at least 0, got -1"),
        ({"--output": str}, "--output names a folder, .*: name a file in it"),
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
            arguments[:0] = [name, *([value] if isinstance(value, str) else value)]
        else:
            arguments += [name, value]
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors), errors
    assert "Traceback" not in errors and errors.startswith("eval_robustness: error: ")


def test_broken_results_are_not_merged(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(arguments[-1])
    path.parent.mkdir()
    for content, message in (
        ("{", "is no JSON"),
        ("[1]", "holds no results"),
        ('{"x": {"original": 3}}', "holds no results of an evaluation (under 'x')"),
    ):
        path.write_text(content)
        assert main([*arguments[:-2], "--merge", *arguments[-2:]]) == 2
        assert message in capsys.readouterr().err
        assert path.read_text() == content
