"""A long training whose memory, files, threads and processes should stay as they are."""

from __future__ import annotations

import ctypes
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
    "own_bytes": "of it not files', shared pages once, MB",
    "files": "open files",
    "threads": "threads",
    "processes": "processes",
}
#: Part of the training at its start that does not count.
WARM_UP = 0.25
#: Part of the median by which ``STEADY`` may differ from it, and anything drift upwards.
TOLERANCE = 0.02
#: What stays within ``TOLERANCE``. Not what processes share, and files: these come and go with the
#: clips in the loader's queue.
STEADY = ("rss_bytes", "threads", "processes")


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
            give_back_free_memory()
            self.samples.append({"iteration": following, **held(os.getpid())})


def give_back_free_memory() -> None:
    """Hands what this process has freed back to the system, where the C library is glibc.

    Of its own accord it does so by chance: when nothing in use lies behind. One small block that
    goes then takes a tenth of the resident memory with it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
                "own_bytes": _own(folder),
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
    """Returns ``first``, ``median``, ``last``, ``fall``, ``rise``, ``drift``, ``flat`` by quantity.

    The first quarter of the iterations is left out. ``fall`` and ``rise`` are the largest distances
    below and above the median, ``drift`` the change along a straight line through the samples, all
    as parts of the median. Flat is what does not drift up by more than ``TOLERANCE``, and for
    ``STEADY`` what neither falls nor rises by more either.
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
        drift = slope * (at[-1] - at[0]) / median
        fall, rise = 1 - min(values) / median, max(values) / median - 1
        steady = max(fall, rise) <= TOLERANCE or name not in STEADY
        summary[name] = {
            "first": values[0],
            "median": median,
            "last": values[-1],
            "fall": fall,
            "rise": rise,
            "drift": drift,
            "flat": float(steady and drift <= TOLERANCE),
        }
    return summary


def format_soak(summary: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the table that the tool prints."""
    rows = []
    for name, entry in summary.items():
        unit = 1e6 if name.endswith("bytes") else 1
        numbers = [f"{entry[key] / unit:.0f}" for key in ("first", "median", "last")]
        parts = [f"{100 * entry[key]:.2f}" for key in ("fall", "rise", "drift")]
        rows.append([QUANTITIES[name], *numbers, *parts, "yes" if entry["flat"] else "NO"])
    heads = ["after the warm-up", "first", "median", "last", "fall %", "rise %", "drift %", "flat"]
    align = ("left", *["right"] * 7)
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


def _own(folder: Path) -> int:
    """What is no file's, divided by the number of processes that share it.

    Pages of libraries and data would count the less the more strangers have the same ones open.
    """
    found = 0
    for line in (folder / "smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("Pss_Anon", "Pss_Shmem"):
            found += int(value.split()[0]) * 1024
    return found
