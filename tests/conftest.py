"""Fixtures of all tests: fixed seeds, one thread, tiny data sets."""

from __future__ import annotations

import logging
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

# Helpers beside this file (avsbench_trees) are imported by name from every test folder.
sys.path.insert(0, str(Path(__file__).parent))

import avsbench_trees  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork come first, those that compile last: processes that are forked after a
    compiled or exported model was trained in this one could not train."""

    def place(item: pytest.Item) -> int:
        return bool(item.get_closest_marker("compiles")) - bool(item.get_closest_marker("forks"))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keeps sums in one order, and tests from competing for cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Takes back what commands do to the loggers, which would hide messages from other tests."""
    loggers = [logging.getLogger(name) for name in ("transavs", "detectron2", "fvcore")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def written_trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data sets written once a session; tests get copies, which they may break."""
    folder = tmp_path_factory.mktemp("trees")
    return {
        "avsbench": avsbench_trees.write_avsbench(folder / "avsbench"),
        "demo": avsbench_trees.write_demo(folder / "demo"),
        "avss": avsbench_trees.write_avss(folder / "avss"),
    }


@pytest.fixture
def avsbench_root(tmp_path: Path, written_trees: dict[str, Path]) -> Path:
    """A root of data sets with S4 and MS3: 2 training, 1 validation, 1 test clip each."""
    return Path(shutil.copytree(written_trees["avsbench"], tmp_path / "data"))


@pytest.fixture
def demo_root(tmp_path: Path, written_trees: dict[str, Path]) -> Path:
    """A root of data sets with the demo set: one clip in each of its four splits."""
    return Path(shutil.copytree(written_trees["demo"], tmp_path / "demo_data"))


@pytest.fixture
def avss_root(tmp_path: Path, written_trees: dict[str, Path]) -> Path:
    """A root of data sets with AVSS: 3 training, 1 validation, 2 test clips of 5 and 10 seconds."""
    return Path(shutil.copytree(written_trees["avss"], tmp_path / "avss_data"))


@pytest.fixture
def datasets_env(
    avsbench_root: Path, written_trees: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Sets DETECTRON2_DATASETS to a root with S4, MS3, AVSS and the demo set, and returns it."""
    for name in ("demo", "avss"):
        shutil.copytree(written_trees[name], avsbench_root, dirs_exist_ok=True)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(avsbench_root))
    return avsbench_root
