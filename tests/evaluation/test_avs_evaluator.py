"""The evaluator: worked examples, conditions, reports."""

import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from scored_clips import (
    CLASS_ARGUMENTS,
    SCORES_A,
    SCORES_B,
    TOP_ROW,
    class_pairs,
    evaluate,
    make_pair,
    random_pairs,
)

from transavs.evaluation import AVSEvaluator


class TestWorkedExamples:
    def test_jaccard_of_a_full_and_an_empty_frame(self):
        logits = torch.tensor([[[2.0, -2.0], [3.0, -1.0]], [[-2.0, -2.0], [4.0, -3.0]]])
        targets = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]]).bool()
        result = evaluate([make_pair("a", logits.sigmoid(), targets)])
        assert result["M_J"] == pytest.approx(54.17, abs=5e-3)
        assert result["M_J_nonempty"] == pytest.approx(100 / 3, abs=1e-4)
        assert (result["clips"], result["frames"], result["frames_empty"]) == (1, 2, 1)
        # One of four pixels is false in each frame.
        assert result["FPR"] == pytest.approx(0.25)
        assert result["frames_with_false_pixels"] == 100.0

    def test_f_depends_on_how_many_clips_share_a_threshold(self):
        pairs = [make_pair("a", SCORES_A, TOP_ROW), make_pair("b", SCORES_B, TOP_ROW)]
        for group, expected in ((1, 100.0), (2, 78.26), (4, 78.26)):
            result = evaluate(pairs, f_threshold_batch=group)
            assert (result["M_F"], result["M_F_group"]) == (
                pytest.approx(expected, abs=5e-3),
                group,
            )
            # Both common sizes are told whatever the chosen one is.
            assert result["M_F_group_1"] == pytest.approx(100.0)
            assert result["M_F_group_4"] == pytest.approx(78.26, abs=5e-3)
            assert result["M_F_dataset"] == pytest.approx(78.26, abs=5e-3)

    def test_an_empty_frame_beside_a_full_one_is_skipped(self):
        scores = torch.cat([SCORES_A, SCORES_A])
        targets = torch.cat([TOP_ROW, torch.zeros_like(TOP_ROW)])
        assert evaluate([make_pair("a", scores, targets)])["M_F"] == pytest.approx(100.0)

    @pytest.mark.parametrize(("rule", "expected"), [("zero", 50.0), ("skip", 100.0)])
    def test_an_empty_batch_counts_as_zero_by_the_official_rule(self, rule, expected):
        pairs = [
            make_pair("a", SCORES_A, TOP_ROW),
            make_pair("b", SCORES_A, torch.zeros_like(TOP_ROW)),
        ]
        result = evaluate(pairs, f_threshold_batch=1, empty_batch_f=rule)
        assert result["M_F"] == result["M_F_group_1"] == pytest.approx(expected)
        # In one group with the first clip, the silent one is not counted at all.
        assert result["M_F_group_4"] == result["M_F_dataset"] == pytest.approx(100.0)

    def test_all_ground_truth_empty(self):
        pairs = [make_pair("a", SCORES_A, torch.zeros_like(TOP_ROW))]
        result = evaluate(pairs)
        assert result["M_J"] == pytest.approx(100.0, abs=1e-4)
        assert result["M_F"] == 0.0
        assert math.isnan(result["M_J_nonempty"])
        assert math.isnan(result["M_F_dataset"])


class TestBothFamilies:
    def test_pixels_over_the_data_set_by_hand(self):
        # The second clip has twice the pixels, and is not cut to the weight of the first.
        small = make_pair("a", SCORES_B, TOP_ROW)
        wide = torch.tensor([[[1, 1, 1, 1], [0, 0, 0, 0]]])
        large = make_pair("b", wide.float(), torch.zeros_like(wide).bool())
        result = evaluate([small, large])
        # Background: 2 + 4 of 2 + 4 predicted, 2 + 8 true. Sounding: 2 of 2 + 4 predicted, 2 true.
        assert result["dataset_mIoU"] == pytest.approx(100 * (6 / 10 + 2 / 6) / 2)
        f = [1.3 * p * r / (0.3 * p + r) for p, r in ((1, 0.6), (1 / 3, 1))]
        assert result["dataset_F"] == pytest.approx(100 * sum(f) / 2)
        mean = (result["dataset_mIoU"] + result["dataset_F"]) / 2
        assert result["dataset_JF"] == pytest.approx(mean)
        # The family of single frames sees two frames, one right and one half background.
        assert result["M_J"] == pytest.approx(75.0, abs=1e-4)
        assert not any(name.startswith("class") for name in result)

    def test_absent_classes_count_by_either_rule(self):
        """71 classes, three without any pixel, against sums in float64 without this package."""
        generator = np.random.default_rng(0)
        truth = generator.integers(0, 68, (3, 2, 40, 40))
        found = np.where(generator.random(truth.shape) < 0.7, truth, 0)
        pairs = []
        for index in range(3):
            masks = torch.tensor(truth[index]) > 0
            clip, output = make_pair(f"{index}", torch.tensor(found[index] > 0).float(), masks)
            clip["class_maps"] = torch.tensor(truth[index])
            output["class_maps"] = torch.tensor(found[index])
            pairs.append((clip, output))
        result = evaluate(pairs, num_classes=71)
        hits = [((truth == c) & (found == c)).sum() for c in range(68)]
        unions = [((truth == c) | (found == c)).sum() for c in range(68)]
        ious = np.asarray(hits, np.float64) / unions
        # DDESeg takes the classes that occur, CAVP all.
        assert result["class_dataset_mIoU"] == pytest.approx(100 * ious.mean(), abs=1e-10)
        absent_zero = result["class_dataset_mIoU_absent_zero"]
        assert absent_zero == pytest.approx(100 * ious.sum() / 71, abs=1e-10)
        # Both leave them out of the F.
        sizes = [(truth == c).sum() * 0.3 + (found == c).sum() for c in range(68)]
        f = 1.3 * np.asarray(hits, np.float64) / sizes
        assert result["class_dataset_F"] == pytest.approx(100 * f.mean(), abs=1e-10)
        # Of sounding and not, nothing is absent here, and one of two where nothing ever sounds.
        assert result["dataset_mIoU_absent_zero"] == result["dataset_mIoU"]
        silent = evaluate([make_pair("a", torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).bool())])
        assert silent["dataset_mIoU"] == pytest.approx(100)
        assert silent["dataset_mIoU_absent_zero"] == pytest.approx(50)

    def test_official_example_of_avss(self):
        """Three classes: the worked example of the official script, in two clips."""
        predicted = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [0, 2]]])
        truth = torch.tensor([[[0, 0], [1, 0]], [[0, 0], [0, 0]]])
        pairs = []
        for index in range(2):
            clip, output = make_pair(
                f"{index}", (predicted[index][None] > 0).float(), truth[index][None] > 0
            )
            clip["class_maps"], output["class_maps"] = truth[index][None], predicted[index][None]
            pairs.append((clip, output))
        result = evaluate(pairs, num_classes=3)
        for suffix in ("_unpadded", "_official", ""):
            assert result[f"class_mIoU{suffix}"] == pytest.approx(40.28, abs=1e-2)
            assert result[f"class_F{suffix}"] == pytest.approx(49.26, abs=1e-2)
        assert result["class_mIoU_official_no_last"] == pytest.approx(60.42, abs=1e-2)
        assert result["class_mIoU_foreground"] == pytest.approx(25.0, abs=1e-2)
        assert result["class_dataset_mIoU"] == pytest.approx(100 * (5 / 7 + 1 / 2) / 3)
        assert result["classes_seen"] == 3
        # A fourth class that never occurs counts only by the official rule.
        wider = evaluate(pairs, num_classes=4)
        assert wider["class_mIoU_official"] == pytest.approx(0.75 * result["class_mIoU_official"])
        assert wider["class_mIoU"] == result["class_mIoU"]
        # Clips of one frame, padded to three: two more for the background, in each clip.
        padded = evaluate(pairs, num_classes=3, longest_clip=3)
        expected = 100 * ((2 / 3 + 3 / 4 + 4) / 6 + 1 / 2) / 3
        assert padded["class_mIoU_official"] == pytest.approx(expected)
        changed = {name for name in result if padded[name] != result[name]}
        assert {name.removesuffix("_no_last") for name in changed} == {
            "class_mIoU_official",
            "class_F_official",
        }

    def test_only_with_classes_on_both_sides(self):
        pairs = class_pairs(3)
        assert "class_mIoU" in evaluate(pairs, **CLASS_ARGUMENTS)
        assert "class_mIoU" not in evaluate(pairs)
        for clip, output in pairs:
            without = [({**clip}, {k: v for k, v in output.items() if k != "class_maps"})]
            assert "class_mIoU" not in evaluate(without, **CLASS_ARGUMENTS)

    def test_unlabelled_frames_count_in_neither(self):
        pairs = class_pairs(4)
        expected = evaluate(pairs, **CLASS_ARGUMENTS)
        for clip, _ in pairs:
            clip["class_maps"][~clip["labelled"]] = 4
            clip["union_masks"][~clip["labelled"]] = True
        assert evaluate(pairs, **CLASS_ARGUMENTS) == expected

    def test_arguments_come_from_the_metadata(self):
        name = "test_avs_evaluator_classes"
        pairs = class_pairs(2)
        DatasetCatalog.register(name, lambda: [{"clip_id": clip["clip_id"]} for clip, _ in pairs])
        MetadataCatalog.get(name).set(pixel_classes=list("abcde"), clip_seconds=10)
        try:
            assert evaluate(pairs, dataset_name=name) == evaluate(pairs, **CLASS_ARGUMENTS)
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


class TestInputs:
    def test_masks_give_the_jaccard_and_scores_the_f_measure(self):
        # The decision differs from "score > 0.5": marks everything, while the scores are perfect.
        scores = TOP_ROW.float() * 0.4
        pair = make_pair("a", scores, TOP_ROW, masks=torch.ones_like(TOP_ROW))
        result = evaluate([pair])
        assert result["M_J"] == pytest.approx(50.0, abs=1e-4)
        assert result["M_F"] == pytest.approx(100.0)
        assert result["FPR"] == pytest.approx(0.5)

    def test_unlabelled_frames_are_left_out(self):
        ((clip, output),) = random_pairs(1, frames=4, seed=3)
        clip["labelled"] = torch.tensor([True, False, False, False])
        clip["union_masks"][1:] = False
        alone = make_pair("clip_00", output["scores"][:1], clip["union_masks"][:1])
        assert evaluate([(clip, output)]) == evaluate([alone])

    def test_a_clip_without_any_label_contributes_nothing(self):
        pairs = random_pairs(3)
        unlabelled = make_pair(
            "clip_000", torch.rand(2, 4, 4), torch.zeros(2, 4, 4).bool(), torch.zeros(2).bool()
        )
        assert evaluate([*pairs, unlabelled], f_threshold_batch=1) == evaluate(
            pairs, f_threshold_batch=1
        )

    def test_negative_condition_counts_all_predicted_pixels(self):
        pairs = [make_pair("a", SCORES_B, TOP_ROW)]
        original = evaluate(pairs)
        negative = evaluate(pairs, negative=True)
        assert original["FPR"] == 0.0
        assert original["frames_with_false_pixels"] == 0.0
        assert negative["FPR"] == 0.5
        assert negative["frames_with_false_pixels"] == 100.0
        assert negative["M_J"] == original["M_J"] == pytest.approx(100.0, abs=1e-4)

    def test_frames_with_false_pixels_starts_above_half_a_percent(self):
        scores = torch.zeros(2, 20, 20)
        scores[0, 0, :2] = 1.0  # 2 of 400 pixels: exactly 0.5 %, does not count
        scores[1, 0, :3] = 1.0
        result = evaluate([make_pair("a", scores, torch.zeros(2, 20, 20).bool())])
        assert result["frames_with_false_pixels"] == 50.0

    def test_wrong_size_names_the_clip(self):
        clip, output = make_pair("a/b", torch.rand(1, 4, 4), torch.zeros(1, 8, 8).bool())
        with pytest.raises(ValueError, match=r"'a/b'.*\[1, 8, 8\], got \[1, 4, 4\]"):
            AVSEvaluator().process([clip], [output])

    def test_wrong_labelled_shape(self):
        clip, output = make_pair("a", torch.rand(1, 4, 4), torch.zeros(1, 4, 4).bool())
        clip["labelled"] = torch.ones(2).bool()
        with pytest.raises(ValueError, match=r"labelled \[T\], got \[1, 4, 4\] and \[2\]"):
            AVSEvaluator().process([clip], [output])

    def test_missing_key_is_named(self):
        clip, output = make_pair("a", SCORES_A, TOP_ROW)
        del output["scores"]
        with pytest.raises(ValueError, match=r"'scores' in the output for 'a'.*\['masks'\]"):
            AVSEvaluator().process([clip], [output])

    def test_a_clip_of_another_data_set(self):
        with pytest.raises(ValueError, match="one of the 1 clips of the data set, got 'b'"):
            AVSEvaluator(clip_order=["a"]).process(
                *zip(make_pair("b", SCORES_A, TOP_ROW), strict=True)
            )

    def test_bad_parameters(self):
        with pytest.raises(ValueError, match="F_THRESHOLD_BATCH"):
            AVSEvaluator(f_threshold_batch=0)
        with pytest.raises(ValueError, match="'zero' or 'skip', got 'nan'"):
            AVSEvaluator(empty_batch_f="nan")
        with pytest.raises(ValueError, match="got both"):
            AVSEvaluator("some_dataset", clip_order=["a"])


class TestReports:
    def test_nothing_processed(self, caplog):
        assert AVSEvaluator().evaluate() == {}
        assert "no clip was evaluated" in caplog.text

    def test_missing_clips_are_reported(self, caplog):
        evaluate([make_pair("a", SCORES_A, TOP_ROW)], clip_order=["a", "b"])
        assert "only 1 of the 2 clips" in caplog.text

    def test_order_of_a_registered_data_set(self):
        name = "test_avs_evaluator_order"
        DatasetCatalog.register(name, lambda: [{"clip_id": "b"}, {"clip_id": "a"}])
        try:
            evaluator = AVSEvaluator(name, f_threshold_batch=2)
        finally:
            DatasetCatalog.remove(name)
        pairs = [make_pair("a", SCORES_A, TOP_ROW), make_pair("b", SCORES_B, TOP_ROW)]
        evaluator.process(*zip(*pairs, strict=True))
        assert [clip.clip_id for clip in evaluator._in_order(evaluator._clips)] == ["b", "a"]

    def test_scores_of_every_frame(self, tmp_path):
        targets = torch.cat([TOP_ROW, torch.zeros_like(TOP_ROW)])
        pair = make_pair("a", torch.cat([SCORES_B, SCORES_B]), targets)
        result = evaluate([pair], output_dir=tmp_path / "inference")
        content = json.loads((tmp_path / "inference" / "frame_scores.json").read_text())
        assert content["summary"] == result
        first, second = content["clips"]["a"]
        assert first["frame_index"] == 0
        assert first["jaccard"] == pytest.approx(1.0)
        assert first["best_f"] == pytest.approx(1.0)
        assert (first["is_empty"], second["is_empty"]) == (False, True)
        assert second["predicted_share"] == second["false_share"] == 0.5

    def test_nan_is_written_as_null(self, tmp_path):
        pair = make_pair("a", SCORES_A, torch.zeros_like(TOP_ROW))
        evaluate([pair], output_dir=tmp_path)
        assert '"M_J_nonempty": null' in (tmp_path / "frame_scores.json").read_text()
