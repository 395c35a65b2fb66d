"""What a GPU would find wrong, on a device that is pretended: see ``pretended_device.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Older PyTorch has no devices that are written in Python.
pretended_device = pytest.importorskip("pretended_device", exc_type=ImportError)
from on_pretended_device import FAULTY, MODELS  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    """What was found on both devices; registering one is for good, so in a process of its own."""
    return _run(str(HERE / "on_pretended_device.py"))


@pytest.mark.parametrize("name", MODELS)
def test_training_and_evaluation_agree_with_the_cpu(found, name):
    expected, here = found["cpu"][name], found[pretended_device.NAME][name]
    assert "error" not in expected, expected["error"]
    assert "error" not in here, here["error"]
    trained, reference = here["train"], expected["train"]
    assert trained["losses"].keys() == reference["losses"].keys()
    for loss, values in reference["losses"].items():
        assert trained["losses"][loss] == pytest.approx(values, rel=1e-3, abs=1e-4), loss
    for weight, value in reference["weights"].items():
        assert trained["weights"][weight] == pytest.approx(value, rel=1e-3, abs=0.02), weight
    assert trained["skipped"] == reference["skipped"] == (name == FAULTY)
    assert here["ask"]["sums"] == pytest.approx(expected["ask"]["sums"], rel=1e-4)
    for score, value in expected["ask"]["scores"].items():
        assert here["ask"]["scores"][score] == pytest.approx(value, rel=1e-4, nan_ok=True), score


@pytest.mark.parametrize("name", [name for name in MODELS if name != FAULTY])
def test_a_step_and_an_answer_wait_once(found, name):
    """For the costs of the matching, and for the number of sounding queries."""
    here = found[pretended_device.NAME][name]
    matched = "TPAVI" not in name
    assert sum(here["train"]["waits"].values()) == matched
    by_query = matched and name != "several classes"
    assert sum(here["ask"]["waits"].values()) == by_query
    # Nothing waits on the CPU, or the counting counts everything.
    assert not found["cpu"][name]["train"]["waits"]


# Each runs with ``far``, of the device, and ``near``, of the CPU, both float [3, 2].
REFUSED = {
    "far + near": "are on the CPU",
    "far @ near.T": "are on the CPU",
    "torch.where(far > 0, far, near)": "are on the CPU",
    "near[far[:, 0].long()]": "are on the CPU",
    "far[torch.tensor([0, 1])] = near[:2]": "are on the CPU",
    "far.numpy()": "numpy() is not supported",
}
# How often each waits for the device.
ALLOWED = {
    "far * torch.tensor(2.0) + near.to(NAME, non_blocking=True)": 0,
    "far[torch.tensor([0])] = far[torch.tensor([1])]": 0,
    "far.copy_(near)": 0,
    "assert far.sum().item() == 6": 1,
    "assert far[far > 0].numel() == 6": 1,
    "assert far.tolist() == near.tolist()": 1,
    "near.copy_(far)": 1,
    "assert len(far.nonzero()) == 6": 1,
    "assert torch.equal(far.cpu(), near)": 1,
}
TRY = """
import json, sys, torch
from pretended_device import NAME, WAITS, PretendedDevice, register

register()
found = {}
with PretendedDevice():
    for line in json.loads(sys.argv[1]):
        far, near = torch.ones(3, 2).to(NAME), torch.ones(3, 2)
        WAITS.clear()
        try:
            exec(line)
            found[line] = sum(WAITS.values())
        except Exception as error:
            found[line] = repr(error)
print(json.dumps(found))
"""


def test_the_device_refuses_and_waits_as_a_gpu_does():
    found = _run("-c", TRY, json.dumps([*REFUSED, *ALLOWED]))
    for line, message in REFUSED.items():
        assert message in str(found[line]), line
    assert {line: found[line] for line in ALLOWED} == ALLOWED


def _run(*arguments):
    """What a process that finds the test's modules prints, as JSON."""
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
