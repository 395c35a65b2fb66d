"""One, two and four processes: the same gradients, and exactly the same scores."""

import json
from pathlib import Path

import gloo_workers
import listening_model
import pytest
import tiny_models
import torch

pytestmark = pytest.mark.forks

#: Sums in another order: of the largest gradient of a tensor plus 0.01, and of a loss.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}


@pytest.fixture(scope="module", params=[2, 4])
def alone_and_shared(request, tmp_path_factory):
    """Losses and gradients of one process, and of each of several, by batch and precision."""
    folders = {count: tmp_path_factory.mktemp("gradients") for count in (1, request.param)}
    for count, folder in folders.items():
        gloo_workers.in_processes(gloo_workers.save_model_gradients, count, str(folder))
    return [
        [torch.load(folder / f"{rank}.pth") for rank in range(count)]
        for count, folder in folders.items()
    ]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", gloo_workers.CLIPS)
def test_gradients_of_the_whole_model(alone_and_shared, name, dtype):
    (alone,), shared = alone_and_shared
    losses, expected = alone[name, dtype]
    assert losses["loss_aqdl"] > 0 and losses["loss_aqml"] > 0 and losses["loss_agreement"] > 0
    for rank, found in enumerate(shared):
        gradients = found[name, dtype][1]
        assert gradients.keys() == expected.keys()
        for parameter, gradient in expected.items():
            assert torch.equal(gradients[parameter], shared[0][name, dtype][1][parameter]), rank
            scale = gradient.abs().max().item()
            error = (gradients[parameter] - gradient).abs().max().item()
            assert error <= TOLERANCE[dtype] * (scale + 1e-2), parameter
    # What the log shows is the mean over the processes.
    for term, value in losses.items():
        mean = torch.stack([found[name, dtype][0][term] for found in shared]).mean()
        assert mean.item() == pytest.approx(value.item(), rel=TOLERANCE[dtype])


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, list[str]]]:
    """Configurations and options of a model whose scores are known, and of a whole TransAVS."""
    root = listening_model.write_clips(tmp_path / "clips")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    options = [
        "OUTPUT_DIR", str(tmp_path / "run"),
        "TEST.ROBUSTNESS", "('original','silence','noise','offscreen','shuffled')",
        "MODEL.TRANSAVS.AQDL_THRESHOLD", "[0.5,0.2]",
    ]  # fmt: skip
    tiny = [*tiny_models.TINY, "DATASETS.TEST", "('demo_ms3_test',)", "INPUT.MIN_SIZE_TEST", "64"]
    return {
        "listening": (str(listening_model.write_config(tmp_path)), options),
        "whole": ("ms3_R50.yaml", [*tiny, *options]),
    }


@pytest.mark.parametrize("model", ["listening", "whole"])
def test_scores_of_three_clips(cases, model, tmp_path):
    """Two processes get one clip and two, four of them none, one, one and one."""
    config, options = cases[model]
    results = tmp_path / "run" / "robustness.json"
    written, found, seen = [], [], []
    for count in (1, 2, 4):
        gloo_workers.in_processes(
            gloo_workers.save_test_results, count, config, options, str(tmp_path)
        )
        ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(count)]
        assert [scores for scores, _ in ranks[1:]] == [{}] * (count - 1)
        found.append(json.dumps(ranks[0][0]))
        seen.append([clips for _, clips in ranks])
        written.append(results.read_text())
        results.unlink()
    # To the last digit; NaN is equal to itself as text.
    assert found[0] == found[1] == found[2]
    assert written[0] == written[1] == written[2]
    one, two, four = seen
    assert sorted(one[0]) == sorted(5 * listening_model.CLIPS)
    assert [len(clips) for clips in two] == [5, 10] and [len(clips) for clips in four] == [
        0,
        5,
        5,
        5,
    ]
    assert sorted(sum(two, [])) == sorted(sum(four, [])) == sorted(one[0])
    scores = json.loads(found[0])
    assert list(scores) == ["avs", "robustness"] and scores["avs"]["clips"] == 3
    if model == "listening":
        assert scores["avs"]["queries_confident"] == pytest.approx(25 / 15)
