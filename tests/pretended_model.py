"""A model that a worker loads in a moment: what it does is written in an item's id."""

import os
import signal
import time
from pathlib import Path

from transavs.apps.predict.model import Outcome


def rows(index: int) -> list[dict]:
    """What is said of an item."""
    row = {"frame": 0, "seconds": 0.5, "height": 2, "width": 3, "counts": "6", "score": index / 8}
    return [{**row, "classes": None, "class_counts": None}]


def first_time(folder: str, what: object) -> bool:
    """Whether something is met for the first time, in any process."""
    path = Path(folder, f"met {what}")
    if path.exists():
        return False
    path.touch()
    return True


def predict(item) -> Outcome:
    if item.id == "crash" or (item.id == "crash once" and first_time(item.folder, item.index)):
        os.kill(os.getpid(), signal.SIGSEGV)
    if item.id == "sleep":
        Path(item.folder, "asleep").write_text(str(os.getpid()))
        time.sleep(60)
    if item.id == "unforeseen":
        raise RuntimeError("in disorder")
    return Outcome(item.index, error="no video") if item.id == "error" else Outcome(
        item.index, rows(item.index)
    )  # fmt: skip


def load():
    return predict


def refuse():
    raise ValueError("no such model")


def die():
    os._exit(4)
