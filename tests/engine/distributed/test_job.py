"""Which processes there are: options, torchrun's environment, and their contradictions."""

import pytest
from detectron2.engine import default_argument_parser

from transavs.engine.distributed import Job, add_job_arguments, job_of

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0", "MASTER_PORT": "29500",
}  # fmt: skip


def job(*words: str, **environ: str) -> Job:
    parser = default_argument_parser()
    add_job_arguments(parser)
    return job_of(parser.parse_args(words), environ)


def test_options():
    assert job() == Job()
    assert job("--num-gpus", "3").world_size == 3
    several = job(
        "--num-gpus", "4", "--num-machines", "2", "--machine-rank", "1",
        "--dist-url", "tcp://node0:2000", "--timeout", "60",
    )  # fmt: skip
    assert several == Job(4, 2, 1, "tcp://node0:2000", timeout=60.0)
    assert several.address == ("node0", 2000)
    assert [several.rank(local_rank) for local_rank in range(4)] == [4, 5, 6, 7]


def test_torchrun():
    found = job(**TORCHRUN)
    assert found == Job(4, 2, 1, "tcp://node0:29500", local_rank=1)
    assert found.world_size == 8 and found.rank(1) == 5
    # What agrees may be said twice.
    assert job("--num-gpus", "4", "--num-machines", "2", **TORCHRUN) == found


@pytest.mark.parametrize(
    ("words", "environ", "message"),
    [
        (["--num-gpus", "0"], {}, "--num-gpus must be at least 1"),
        (["--num-machines", "2"], {}, "--num-machines needs --machine-rank"),
        (["--num-machines", "2", "--machine-rank", "2"], {}, r"in 0\.\.1 for 2 machines, got 2"),
        (["--num-machines", "2", "--machine-rank", "0"], {}, "tcp://HOST:PORT.*got 'auto'"),
        (["--dist-url", "tcp://host:port"], {}, "got 'tcp://host:port'"),
        (["--dist-url", "file:///tmp/x"], {}, "tcp://HOST:PORT"),
        (["--timeout", "0"], {}, "--timeout must be a positive"),
        (["--num-gpus", "2"], TORCHRUN, "--num-gpus 2 contradicts .* which says 4"),
        (["--machine-rank", "0"], TORCHRUN, "--machine-rank 0 contradicts"),
        ([], {"RANK": "0", "LOCAL_RANK": "0"}, "but not WORLD_SIZE, LOCAL_WORLD_SIZE"),
        ([], {**TORCHRUN, "LOCAL_WORLD_SIZE": "3"}, "as many processes on every machine"),
        ([], {**TORCHRUN, "RANK": "first"}, "environment is broken"),
    ],
)
def test_contradictions(words, environ, message):
    with pytest.raises(ValueError, match=message):
        job(*words, **environ)
