"""Two processes with half a batch each have the gradient of one process with all of it."""

import gloo_workers
import pytest
import torch

pytestmark = pytest.mark.forks

# True masks of each frame, for each of the two processes.
BATCHES = {
    "as many masks": [[1, 2], [2, 1]],
    "unequal masks": [[1, 0], [3, 2]],
    "one process without any": [[0, 0], [2, 2]],
    "one in all": [[1, 0], [0, 0]],
    "none at all": [[0, 0], [0, 0]],
    "unequal frames": [[1], [2, 1, 1, 0]],
}


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    gloo_workers.in_processes(gloo_workers.save_gradients, 2, list(BATCHES.values()), str(folder))
    results = [torch.load(folder / f"{rank}.pth") for rank in range(2)]
    return dict(zip(BATCHES, zip(*results, strict=True), strict=True))


@pytest.mark.parametrize("name", BATCHES)
def test_gradient_of_two_processes_is_that_of_one(in_two_processes, name):
    losses, expected = gloo_workers.gradients(BATCHES[name], [0, 1])
    assert losses["loss_aqdl"] > 0 and losses["loss_aqml"] > 0
    (losses_0, first), (losses_1, second) = in_two_processes[name]
    for parameter, gradient in expected.items():
        assert torch.equal(first[parameter], second[parameter])
        torch.testing.assert_close(first[parameter], gradient, rtol=1e-5, atol=1e-6)
    # The mean over the processes is what the log shows.
    for term, value in losses.items():
        mean = (losses_0[term] + losses_1[term]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-6)
