"""docs/slurm/train.sbatch with stand-ins for srun, scontrol and python."""

import os
import subprocess
from pathlib import Path

import pytest
from detectron2.engine import default_argument_parser

from transavs.engine.distributed import Job, add_job_arguments, job_of

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "slurm" / "train.sbatch"
STAND_INS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; exit; fi\n'
    'echo "$@" >> "$CALLS"',
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || code=$?; done\n'
    "exit ${code:-0}",
    "python": 'printf "%s\\n" "$*" >> "$CALLS"; exit "$CODE"',
}


def run(tmp_path: Path, code: int) -> tuple[int, list[str]]:
    """Returns the script's exit code and the calls of python and scontrol."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "CODE": str(code),
        "SLURM_JOB_ID": "40123",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
    }
    command = ["bash", str(SCRIPT), "configs/s4_R50.yaml", "SEED", "3"]
    found = subprocess.run(command, env=environment, check=False)
    return found.returncode, calls.read_text().splitlines()


def test_it_is_bash():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_a_launch_on_every_machine(tmp_path):
    code, calls = run(tmp_path, 0)
    assert code == 0 and len(calls) == 2
    parser = default_argument_parser()
    add_job_arguments(parser)
    for rank, call in enumerate(calls):
        tool, *words = call.split()
        assert tool == "tools/train_net.py"
        args = parser.parse_args(words)
        assert job_of(args, {}) == Job(4, 2, rank, "tcp://node7:20123")
        assert args.resume and args.config_file == "configs/s4_R50.yaml"
        assert args.opts == ["SEED", "3"]


@pytest.mark.parametrize(("code", "requeued"), [(130, True), (1, False)])
def test_only_a_stopped_job_is_queued_again(tmp_path, code, requeued):
    found, calls = run(tmp_path, code)
    assert found == code
    assert ("requeue 40123" in calls) == requeued
