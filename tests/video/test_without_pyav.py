"""Without PyAV the film room says what is missing."""

import importlib
import sys

import pytest


def test_the_remedy_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("transavs.video")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"transavs\[video\]\"") as caught:
        importlib.import_module("transavs.video")
    assert caught.value.name == "av"
