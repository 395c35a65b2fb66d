"""A long training whose memory, files, threads and processes should stay as they are."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from tabulate import tabulate

from transavs.engine.trainer import Trainer

Sample = dict[str, float]

#: What is sampled, in words.
QUANTITIES = {
    "rss_bytes": "resident memory, MB",
    "pss_bytes": "the same, shared pages once, MB",
    "files": "open files",
    "threads": "threads",
    "processes": "processes",
}
#: Part of the training at its start that does not count.
WARM_UP = 0.25
#: Of memory the largest distance from the median, of counts the largest drift, as parts of it.
TOLERANCE = 0.02


class SoakWatch(HookBase):  # type: ignore[misc]
    """Samples what the training's process and its descendants hold.

    Args:
        period: iterations between two samples.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        self.samples: list[Sample] = []

    def after_step(self) -> None:
        following = self.trainer.iter + 1
        if following % self._period == 0:
            self.samples.append({"iteration": following, **held(os.getpid())})


def held(pid: int) -> dict[str, float]:
    """Returns ``QUANTITIES`` of a process and its descendants together, read from ``/proc``.

    Raises:
        OSError: the system has no ``/proc`` (it is not Linux).
    """
    page = os.sysconf("SC_PAGE_SIZE")
    totals = dict.fromkeys(QUANTITIES, 0.0)
    for folder in [Path("/proc") / str(member) for member in _family(pid)]:
        try:
            found = {
                "rss_bytes": int((folder / "statm").read_text().split()[1]) * page,
                "pss_bytes": _pss(folder),
                "files": len(os.listdir(folder / "fd")),
                "threads": len(os.listdir(folder / "task")),
                "processes": 1,
            }
        except (FileNotFoundError, ProcessLookupError):
            if folder.name == str(pid):
                raise
            continue  # a child that has just ended
        for name, value in found.items():
            totals[name] += value
    return totals


def measure_soak(cfg: CfgNode, period: int) -> dict[str, Any]:
    """Trains as ``cfg`` says, evaluation, checkpoints and writers included, and samples.

    Returns:
        ``samples``, and ``summary`` of :func:`summarize_soak`.
    """
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    watch = SoakWatch(period)
    trainer.register_hooks([watch])
    trainer.train()
    return {"samples": watch.samples, "summary": summarize_soak(watch.samples)}


def summarize_soak(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Returns ``first``, ``median``, ``last``, ``spread``, ``drift`` and ``flat`` by quantity.

    The first quarter of the iterations is left out. ``spread`` is the largest distance from the
    median, ``drift`` the change along a straight line through the samples, both as parts of the
    median. Flat is memory that stays within ``TOLERANCE`` of its median, and a count that does not
    drift by more: files come and go with the clips that wait in the loader's queue.
    """
    end = samples[-1]["iteration"] if samples else 0
    counted = [sample for sample in samples if sample["iteration"] > WARM_UP * end]
    if len(counted) < 2:
        raise ValueError("expected at least two samples behind the warm-up: train longer")
    summary = {}
    for name in QUANTITIES:
        values = [sample[name] for sample in counted]
        median = statistics.median(values)
        at = [sample["iteration"] for sample in counted]
        slope = statistics.linear_regression(at, values).slope
        spread = max(abs(value - median) for value in values) / median
        drift = slope * (at[-1] - at[0]) / median
        change = spread if name.endswith("bytes") else abs(drift)
        summary[name] = {
            "first": values[0],
            "median": median,
            "last": values[-1],
            "spread": spread,
            "drift": drift,
            "flat": float(change <= TOLERANCE),
        }
    return summary


def format_soak(summary: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the table that the tool prints."""
    rows = []
    for name, entry in summary.items():
        unit = 1e6 if name.endswith("bytes") else 1
        numbers = [f"{entry[key] / unit:.0f}" for key in ("first", "median", "last")]
        parts = [f"{100 * entry[key]:.2f}" for key in ("spread", "drift")]
        rows.append([QUANTITIES[name], *numbers, *parts, "yes" if entry["flat"] else "NO"])
    heads = ["after the warm-up", "first", "median", "last", "spread %", "drift %", "flat"]
    align = ("left", *["right"] * 6)
    return tabulate(rows, heads, disable_numparse=True, colalign=align)


def _family(pid: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # The name in parentheses may hold anything.
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry))
    family = [pid]
    for member in family:  # grows meanwhile
        family += children.get(member, [])
    return family


def _pss(folder: Path) -> int:
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
