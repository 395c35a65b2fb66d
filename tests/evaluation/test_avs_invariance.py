"""Scores depend on no batch, order, duplicate or number of processes."""

import random

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from detectron2.utils import comm
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

from transavs.evaluation import AVSEvaluator, f_curve, frame_jaccard


class TestInvariance:
    def test_batch_size_and_order_do_not_matter_to_classes(self):
        pairs = class_pairs(9)
        expected = evaluate(pairs, **CLASS_ARGUMENTS)
        shuffled = random.Random(0).sample(pairs, len(pairs))
        assert evaluate(pairs, batch=4, **CLASS_ARGUMENTS) == expected
        assert evaluate(shuffled + pairs[:2], batch=3, **CLASS_ARGUMENTS) == expected

    def test_batch_size_and_order_do_not_matter(self):
        pairs = random_pairs(11)
        expected = evaluate(pairs)
        shuffled = random.Random(0).sample(pairs, len(pairs))
        for variant in (evaluate(pairs, batch=4), evaluate(shuffled), evaluate(shuffled, batch=3)):
            assert variant == expected

    def test_matches_the_official_average_of_batches_when_batches_are_equal(self):
        pairs = random_pairs(12)
        batches = []
        for start in range(0, 12, 4):
            values = [
                float(frame_jaccard(out["scores"][t : t + 1], clip["union_masks"][t : t + 1]))
                for clip, out in pairs[start : start + 4]
                for t in range(3)
            ]
            batches.append(np.mean(values))
        assert evaluate(pairs)["M_J"] == pytest.approx(100 * np.mean(batches), abs=1e-10)

    @pytest.mark.parametrize("group", [1, 4, 5])
    def test_m_f_equals_the_official_loop_over_batches(self, group):
        pairs = random_pairs(11)
        best = []
        for start in range(0, 11, group):
            rows = [
                f_curve(out["scores"][t : t + 1], clip["union_masks"][t : t + 1])[0]
                for clip, out in pairs[start : start + group]
                for t in range(3)
                if clip["union_masks"][t].any()
            ]
            best.append(float(torch.stack(rows).mean(dim=0).max()) if rows else 0.0)
        result = evaluate(pairs, f_threshold_batch=group)
        assert result["M_F"] == pytest.approx(100 * np.mean(best), abs=1e-10)
        # With any other choice of the group as well.
        other = evaluate(pairs, f_threshold_batch=3).get(f"M_F_group_{group}")
        assert other == (None if group == 5 else result["M_F"])

    def test_clip_order_decides_which_clips_share_a_threshold(self):
        pairs = [
            make_pair(name, scores, TOP_ROW)
            for name, scores in zip("abcd", [SCORES_A, SCORES_B] * 2, strict=True)
        ]
        alphabetical = evaluate(pairs, f_threshold_batch=2)
        paired = evaluate(pairs, f_threshold_batch=2, clip_order=["a", "c", "b", "d"])
        assert alphabetical["M_F"] == pytest.approx(78.26, abs=5e-3)
        assert paired["M_F"] == pytest.approx(100.0)
        assert paired["M_F_dataset"] == alphabetical["M_F_dataset"]

    def test_duplicates_count_once(self):
        pairs = random_pairs(5)
        assert evaluate(pairs + pairs[:2]) == evaluate(pairs)

    def test_reset_forgets(self):
        pairs = random_pairs(4)
        evaluator = AVSEvaluator()
        evaluator.process(*zip(*pairs[2:], strict=True))
        evaluator.reset()
        evaluator.process(*zip(*pairs[:2], strict=True))
        assert evaluator.evaluate()["avs"] == evaluate(pairs[:2])


def _run_rank(rank, shards, init_file, result_file):
    """One process of a group: evaluates its shard; the main process writes the result."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{init_file}", rank=rank, world_size=len(shards)
    )
    comm.create_local_process_group(len(shards))
    order = [clip["clip_id"] for clip, _ in class_pairs(7)]
    evaluator = AVSEvaluator(clip_order=order, **CLASS_ARGUMENTS)
    for clip, output in shards[rank]:
        evaluator.process([clip], [output])
    result = evaluator.evaluate()
    assert (result is None) == (rank != 0)
    if result is not None:
        torch.save(dict(result["avs"]), result_file)
    # As transavs.engine.distributed.worker does: nobody leaves while another still reads.
    comm.synchronize()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("layout", ["uneven with a duplicate", "one rank empty"])
def test_two_processes_equal_one(layout, tmp_path):
    pairs = class_pairs(7)
    expected = evaluate(pairs, **CLASS_ARGUMENTS)
    for name in ("class_mIoU", "class_dataset_mIoU_absent_zero", "M_F_group_1", "M_F_group_4"):
        assert expected[name] > 0
    shards = [[], pairs] if layout == "one rank empty" else [pairs[1::2], pairs[::2] + pairs[1:2]]
    result_file = tmp_path / "result.pt"
    torch.multiprocessing.spawn(
        _run_rank, (shards, str(tmp_path / "init"), str(result_file)), nprocs=2
    )
    assert torch.load(result_file, weights_only=True) == expected
