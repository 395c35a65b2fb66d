"""Fixtures of the composer's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.drawn import make_drawn_assets

# The helper demo_files beside this file is imported by name.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def drawn_assets() -> DemoAssets:
    """The drawn assets, made once."""
    return make_drawn_assets()
