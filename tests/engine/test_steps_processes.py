"""Two processes, one of them with NaN: both stop, or both leave the step out."""

import json

import gloo_steps
import pytest
from detectron2.engine import launch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    with pytest.MonkeyPatch.context() as patch:
        # detectron2 would choose NCCL where a GPU is visible.
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        launch(gloo_steps.train_both, 2, dist_url="auto", args=(str(folder),))
    return folder


@pytest.fixture(params=["stop", "skip"])
def trained(request, folder):
    own = folder / request.param
    results = [json.loads((own / f"{rank}.json").read_text()) for rank in range(2)]
    return request.param, own / "nonfinite", results


def test_both_processes_decide_alike(trained):
    action, _, (first, second) = trained
    assert first["weights"] == second["weights"] and first["counts"] == second["counts"]
    assert first["error"] == second["error"]
    assert first["counts"]["skipped"] == 1
    if action == "stop":
        assert "SOLVER.NONFINITE skip" in first["error"] and len(first["weights"]) == 1
    else:
        before, left_out, after = first["weights"]
        assert first["error"] == "" and before == left_out != after
        assert first["counts"]["in_a_row"] == 0


def test_both_notes_name_what_their_process_saw(trained):
    action, notes, (first, _) = trained
    fine, faulty = (
        json.loads((notes / f"iter_0000001{end}.json").read_text()) for end in ("", "_process1")
    )
    assert fine["clips"] == ["clip_1_0"] and faulty["clips"] == ["clip_1_1"]
    assert fine["clips_alone"][0]["output"] is None and "nan" not in fine["losses"].values()
    (alone,) = faulty["clips_alone"]
    # Behind the head's hook the matching is the first to see NaN. It spoils the last frame, here
    # that of the clip's second copy.
    assert alone["matching"].startswith("matching cost of class, output 0 of the decoder, frame 9")
    assert set(faulty["losses"].values()) == {"nan"}
    if action == "stop":
        assert "process 1: iteration 1: losses that are not finite" in first["error"]
