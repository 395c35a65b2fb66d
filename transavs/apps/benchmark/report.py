"""A benchmark as a file, as tables and as curves, and two of them compared.

A benchmark has ``settings`` (the options of the command line), ``machine``, and for each part that
was measured a list of records: flat dicts of numbers, and of words that tell records apart.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator
from matplotlib.ticker import StrMethodFormatter as Format
from tabulate import tabulate

from transavs.apps.benchmark.measure import Record
from transavs.utils.whole_files import write_text

#: Of the file's form.
VERSION = 2

#: What tells the records of a part apart.
_LABELS = ("quantity", "value", "phase", "batch", "frames", "masks")
_COLORS = ("#0072b2", "#e69f00")


def describe_machine(device: torch.device) -> dict[str, str]:
    """Returns the names of the processor (the GPU where it does the work), PyTorch and Python."""
    processor = platform.processor() or platform.machine()
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    elif os.path.isfile("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
        processor = names[0].strip() if names else processor
    return {"processor": processor, "torch": torch.__version__, "python": platform.python_version()}


def write_benchmark(path: str | os.PathLike[str], benchmark: dict[str, Any]) -> None:
    """Writes a benchmark as JSON in one step."""
    write_text(path, json.dumps({"version": VERSION, **benchmark}, indent=1) + "\n")


def format_benchmark(parts: dict[str, list[Record]]) -> str:
    """Returns a table for each part, in which records are columns unless they are many."""
    tables = []
    for part, records in parts.items():
        columns = [list(records[0]), *(map(_cell, record.values()) for record in records)]
        rows = list(zip(*columns, strict=True))
        if len(records) > len(rows):
            rows = list(zip(*rows, strict=True))
        align = ("left", *["right"] * (len(rows[0]) - 1))
        tables.append(f"{part}\n{tabulate(rows, disable_numparse=True, colalign=align)}")
    return "\n\n".join(tables)


def _cell(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def format_comparison(first: str, second: str) -> str:
    """Returns a table of all numbers that two files share, with the second over the first.

    Settings that differ are named above it, since they make numbers hard to compare.

    Raises:
        OSError: a file cannot be read.
        ValueError: one holds something else, or they have no number in common.
    """
    (old, before), (new, after) = _read(first), _read(second)
    rows = [
        (name, value, after[name], after[name] / value if value else math.nan)
        for name, value in before.items()
        if name in after
    ]
    if not rows:
        raise ValueError(f"{first} and {second} have no number in common: measure the same parts")
    different = [
        f"Differs: {name}: {old.get(name)} -> {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    heads = ("", "first", "second", "second / first")
    return "\n".join([*different, tabulate(rows, heads, floatfmt=("", ".6g", ".6g", ".3f"))])


def _read(path: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Settings and machine of a file, and its numbers with names that say what they are."""
    content = Path(path).read_bytes()
    try:
        parts = json.loads(content)
        if parts.pop("version") != VERSION:
            raise ValueError("another version")
        settings = {**parts.pop("settings"), **parts.pop("machine")}
        numbers = {}
        for part, records in parts.items():
            for record in records:
                label = ", ".join(
                    f"{name} {record.pop(name)}" for name in _LABELS if name in record
                )
                for name, value in record.items():
                    if not isinstance(value, str):
                        numbers[f"{part} ({label}): {name}" if label else f"{part}: {name}"] = value
        if not numbers or not all(math.isfinite(value) for value in numbers.values()):
            raise ValueError("no numbers, or some that are not finite")
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as e:
        raise ValueError(
            f"{path}: expected a benchmark of version {VERSION}, as tools/benchmark.py writes with "
            f"--output, got {type(e).__name__} ({e}); measure again"
        ) from e
    return settings, numbers


def draw_scaling(records: Sequence[Record], title: str) -> Figure:
    """Returns a figure with a column for each quantity: time of a clip above, ratio below.

    All panels of a row share their scale.

    Args:
        records: the part "scaling" of a benchmark.
        title: above all.
    """
    quantities = list(dict.fromkeys(record["quantity"] for record in records))
    figure = Figure(figsize=(3.6 * len(quantities), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(2, len(quantities), sharey="row", squeeze=False)
    for (above, below), quantity in zip(panels.T, quantities, strict=True):
        points: list[Any] = [record for record in records if record["quantity"] == quantity]
        values = [point["value"] for point in points]
        for key, style, color, label in (
            ("seconds", "o-", _COLORS[0], "model"),
            ("encoder_baseline_seconds", "s--", _COLORS[1], "encoders alone"),
        ):
            times = [1000 * point[key] / point["batch"] for point in points]
            above.plot(values, times, style, color=color, label=label)
        below.plot(values, [point["ratio"] for point in points], "o-", color=_COLORS[0])
        below.axhline(1, color=_COLORS[1], linestyle="--")
        above.set_yscale("log")
        above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        above.yaxis.set_major_formatter(Format("{x:,.10g}"))
        above.yaxis.set_minor_formatter(NullFormatter())
        for axes in (above, below):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(values))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(Format("{x:g}"))
            axes.grid(alpha=0.3)
        below.set_ylim(bottom=0)
        below.set_xlabel(str(quantity))
    panels[0, 0].set_ylabel("ms a clip")
    panels[1, 0].set_ylabel("ratio to the encoders alone")
    panels[0, 0].legend()
    return figure
