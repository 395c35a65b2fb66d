"""metrics.json taken back to a checkpoint, with and without what the checkpoint knows of it."""

import json

import pytest
from detectron2.utils.events import EventStorage

from transavs.engine.run_log import MetricsFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.json"


def log(path, *iterations: int) -> MetricsFile:
    file = MetricsFile(str(path))
    with EventStorage() as storage:
        for iteration in iterations:
            storage.put_scalar("loss", iteration / 2, cur_iter=iteration)
            file.write()
            file.write()
    return file


def iterations(path) -> list[int]:
    return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]


def test_a_line_an_iteration(path):
    file = log(path, 4, 9)
    assert path.read_text() == '{"iteration": 4, "loss": 2.0}\n{"iteration": 9, "loss": 4.5}\n'
    assert (file.last_write, file.size) == (9, path.stat().st_size)


def test_scalars_of_several_iterations_are_sorted(path):
    file = MetricsFile(str(path))
    with EventStorage() as storage:
        storage.put_scalar("late", 1.0, cur_iter=7)
        storage.put_scalar("early", 2.0, cur_iter=3)
        file.write()
    assert iterations(path) == [3, 7]


def test_back_to_a_size(path):
    size = log(path, 4, 9).size
    # A run that was started by mistake has written the same iterations again.
    log(path, 4, 14)
    file = MetricsFile(str(path))
    file.go_back(9, size)
    assert iterations(path) == [4, 9] and file.size == size


@pytest.mark.parametrize("size", [None, 10**6, 7])
def test_back_by_iteration_where_the_size_does_not_fit(path, size):
    log(path, 4, 9, 14)
    MetricsFile(str(path)).go_back(9, size)
    assert iterations(path) == [4, 9]


def test_half_a_line_is_dropped(path):
    log(path, 4, 9)
    for half in ('{"iteration": 14, "lo', '{"iteration": 14, "loss": 7.0}', '{"iteration": \n'):
        with path.open("a") as file:
            file.write(half)
        MetricsFile(str(path)).drop_half_a_line()
        assert iterations(path) == [4, 9]


def test_killed_before_the_first_checkpoint(path):
    log(path, 4, 9)
    file = MetricsFile(str(path))
    file.go_back(-1, 0)
    assert path.read_text() == "" and file.last_write == -1


def test_no_file(path):
    file = MetricsFile(str(path))
    file.go_back(9, 100)
    file.drop_half_a_line()
    assert not path.exists() and file.last_write == 9
