"""The grid of tests/grid_workplace.py, in the test's folder."""

import os
from pathlib import Path

import pytest
from grid_workplace import Workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    workplace = Workplace(tmp_path)
    monkeypatch.setenv("FAKE_TRAININGS", str(workplace.control))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return workplace
