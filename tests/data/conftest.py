"""The first training clip of either data set that most tests of clips begin with."""

from pathlib import Path

import pytest

from transavs.data.avsbench import load_avsbench
from transavs.data.avsbench_spec import MS3, S4


@pytest.fixture
def ms3(avsbench_root: Path) -> dict:
    return load_avsbench(MS3, str(avsbench_root), "train")[0]


@pytest.fixture
def s4(avsbench_root: Path) -> dict:
    return load_avsbench(S4, str(avsbench_root), "train")[0]
