"""A benchmark as a file and for people, and two of them compared."""

from __future__ import annotations

import json
import os
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tabulate import tabulate

from transavs.utils.whole_files import write_text

#: Of the file's form.
VERSION = 1

Benchmark = dict[str, Any]

#: Of what is read from a file: a mapping with these names at least (``...`` is every other one), a
#: list of such entries, a type, or ``object`` for anything. Any part of a benchmark may be missing.
_FORM: dict[str, Any] = {
    "settings": {},
    "machine": {},
    "cost": {"parameters": float, "macs": float, "limit_macs": float},
    "inference": [{"batch": float, "ratio": float, ...: float}],
    "training": [
        {
            "batch": float,
            "frames": float,
            "masks": float,
            "ratio": float,
            "stages": {...: float},
            ...: float,
        }
    ],
    "compiled": [
        {"work": str, "batch": float, "frames": float, "breaks": {...: float}, ...: float},
    ],
    "loader": {...: float},
    "scaling": {...: [{"value": float, "seconds_per_clip": float, "ratio": float, ...: float}]},
}
_KINDS = {dict: "an object", list: "a list", str: "a text", float: "a finite number"}

_LOADER_ROWS = {
    "train_clip": "clip for training",
    "test_clip": "clip for evaluation",
    "decode_frame": "decoding a frame",
    "sound": "reading its sound",
    "train_clip_cached_sound": "clip for training, cached audio features",
    "test_clip_cached_sound": "clip for evaluation, cached audio features",
    "cached_sound": "cached audio features",
    "cached_sound_again": "cached audio features, file seen before",
    "score_clip": "scoring a clip",
}


def write_benchmark(path: str | os.PathLike[str], benchmark: Benchmark) -> None:
    """Writes a benchmark as JSON in one step."""
    write_text(path, json.dumps({"version": VERSION, **benchmark}, indent=1) + "\n")


def read_benchmark(path: str | os.PathLike[str]) -> Benchmark:
    """Returns the content of a benchmark's file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is a folder, or holds something else or a newer form of it.
    """
    if os.path.isdir(path):
        raise ValueError(
            f"{path} is a folder, expected a .json file that tools/benchmark.py wrote with "
            "--output: name one"
        )
    with open(path, encoding="utf-8") as file:
        try:
            data = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON ({error}); measure again") from error
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError(
            f"{path}: expected a benchmark of version {VERSION}, as tools/benchmark.py writes with "
            "--output"
        )
    try:
        for name, value in data.items():
            _check_form(value, _FORM.get(name, object), name)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}; measure again, or name another file") from error
    return data


def _check_form(value: Any, form: Any, place: str) -> None:
    """Raises ValueError with the place of what has not this form or is no finite number.

    Args:
        value: read from JSON.
        form: as in ``_FORM``.
        place: what the value is called in the message.
    """
    kind = form if isinstance(form, type) else type(form)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and kind is object:
        kind = float
    fits = number and abs(value) <= sys.float_info.max if kind is float else isinstance(value, kind)
    if not fits:
        raise ValueError(f"{place}: expected {_KINDS[kind]}, got {reprlib.repr(value)}")
    if isinstance(value, dict):
        forms = form if isinstance(form, dict) else {}
        for name in forms:
            if name is not ... and name not in value:
                raise ValueError(f"{place}: expected a {name!r} in it, got {reprlib.repr(value)}")
        for name, entry in value.items():
            _check_form(entry, forms.get(name, forms.get(..., object)), f"{place}.{name}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            own = form[0] if isinstance(form, list) else object
            _check_form(entry, own, f"{place}[{index}]")


def format_benchmark(benchmark: Benchmark) -> str:
    """Returns the tables that the tool prints."""
    parts = []
    if "cost" in benchmark:
        parts.append(_cost_table(benchmark["cost"]))
    if benchmark.get("inference"):
        rows = [
            [
                entry["batch"],
                f"{1000 * entry['seconds_per_clip']:.1f}",
                f"{entry['clips_per_second']:.2f}",
                f"{entry['frames_per_second']:.1f}",
                f"{1000 * entry['limit_seconds'] / entry['batch']:.1f}",
                f"{entry['ratio']:.2f}",
                _megabytes(entry.get("memory_bytes")),
            ]
            for entry in benchmark["inference"]
        ]
        heads = ["batch", "ms a clip", "clips/s", "frames/s", "limit, ms a clip"]
        parts.append(_table("Inference", rows, [*heads, "ratio to the limit", "peak MB"]))
    parts += [_training_table(entry) for entry in benchmark.get("training", [])]
    if benchmark.get("compiled"):
        parts.append(_compiled_table(benchmark["compiled"]))
    if "loader" in benchmark:
        rows = [
            [_LOADER_ROWS.get(name, name), f"{1000 * value:.2f}"]
            for name, value in benchmark["loader"].items()
        ]
        parts.append(_table("Loading, one core", rows, ["part", "ms"]))
    for quantity, points in benchmark.get("scaling", {}).items():
        rows = [
            [p["value"], f"{1000 * p['seconds_per_clip']:.1f}", f"{p['ratio']:.2f}"] for p in points
        ]
        parts.append(_table(f"By {quantity}", rows, [quantity, "ms a clip", "ratio to the limit"]))
    return "\n\n".join(parts)


def format_comparison(
    before: Benchmark, after: Benchmark, names: tuple[str, str] = ("the first", "the second")
) -> str:
    """Returns a table of all numbers that two benchmarks share, with the second over the first.

    Settings that differ are named above it, since they make numbers hard to compare.

    Args:
        before: a benchmark.
        after: another.
        names: of both, for messages.

    Raises:
        ValueError: there is no such number.
    """
    first, second = dict(_numbers(before)), dict(_numbers(after))
    for name, numbers in zip(names, (first, second), strict=True):
        if not numbers:
            raise ValueError(f"{name} holds no number to compare: measure again with --output")
    rows = [
        [name, f"{value:.6g}", f"{second[name]:.6g}", _quotient(second[name], value)]
        for name, value in first.items()
        if name in second
    ]
    if not rows:
        raise ValueError(f"{' and '.join(names)} have no number in common: measure the same parts")
    table = _table("", rows, ["", "first", "second", "second / first"])
    settings = [before.get("settings", {}), after.get("settings", {})]
    settings = [
        {**found, **side.get("machine", {})}
        for found, side in zip(settings, (before, after), strict=True)
    ]
    different = [
        f"{name}: {settings[0].get(name)} -> {settings[1].get(name)}"
        for name in sorted({*settings[0], *settings[1]})
        if settings[0].get(name) != settings[1].get(name)
    ]
    return "\n".join([*(f"Differs: {line}" for line in different), table])


def _cost_table(cost: Mapping[str, Any]) -> str:
    rows = [
        ["parameters", f"{cost['parameters'] / 1e6:.2f} M", _times(cost, "parameters")],
        ["of them learning", f"{cost['learning_parameters'] / 1e6:.2f} M", ""],
        ["multiply-accumulates of a clip", f"{cost['macs'] / 1e9:.2f} G", _times(cost, "macs")],
    ]
    rows += [
        [f"  {name}", f"{count / 1e9:.2f} G", f"{count / cost['macs']:.0%} of all"]
        for name, count in cost["macs_by_part"].items()
    ]
    return _table("Size", rows, ["", "", "ratio to the limit"])


def _times(cost: Mapping[str, Any], name: str) -> str:
    return f"{cost[name] / cost[f'limit_{name}']:.2f}"


def _training_table(entry: Mapping[str, Any]) -> str:
    whole = entry["seconds"]
    rows = []
    if "data_seconds" in entry:
        rows.append(["data (beside the step)", f"{1000 * entry['data_seconds']:.1f}", ""])
    rows += [
        [name, f"{1000 * seconds:.1f}", f"{seconds / whole:.1%}"]
        for name, seconds in entry["stages"].items()
    ]
    rows.append(["step", f"{1000 * whole:.1f}", f"{entry['ratio']:.2f} x the limit"])
    if "images_per_second" in entry:
        rows.append(["images a second", f"{entry['images_per_second']:.1f}", ""])
    rows.append(["matching and losses", "", f"{entry['loss_share']:.1%}"])
    rows.append(["peak memory", f"{_megabytes(entry['memory_bytes'])} MB", ""])
    if "activation_bytes" in entry:
        share = entry["loss_bytes"] / max(entry["activation_bytes"], 1)
        rows.append(["activations", f"{_megabytes(entry['activation_bytes'])} MB", ""])
        rows.append(
            ["added by the losses", f"{_megabytes(entry['loss_bytes'])} MB", f"{share:.1%}"]
        )
    title = (
        f"Training step: {entry['batch']} clips of {entry['frames']} labelled frame(s), "
        f"{entry['masks']} mask(s) each"
    )
    return _table(title, rows, ["stage", "ms", "share"])


def _compiled_table(entries: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{entry['work']}, {entry['batch']} clip(s) of {entry['frames']} frame(s)",
            f"{1000 * entry['seconds']:.1f}",
            f"{1000 * entry['compiled_seconds']:.1f}",
            f"{entry['ratio']:.2f}",
            f"{entry['first_seconds']:.0f}",
            entry["graphs"],
            sum(entry["breaks"].values()),
        ]
        for entry in entries
    ]
    heads = ["", "ms", "compiled, ms", "ratio", "first call, s", "graphs", "graph breaks"]
    return _table("torch.compile", rows, heads)


def _table(title: str, rows: list[list[Any]], headers: list[str]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    table = tabulate(rows, headers, disable_numparse=True, colalign=align)
    return f"{title}\n{table}" if title else table


def _megabytes(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}"


def _quotient(second: float, first: float) -> str:
    return f"{second / first:.3f}" if first else "-"


def _numbers(benchmark: Benchmark) -> Iterator[tuple[str, float]]:
    """All measured numbers with a name that says what they are."""
    for name, value in benchmark.get("cost", {}).items():
        if isinstance(value, int | float):
            yield f"{name}", value
    for kind, keys in (
        ("inference", ("batch",)),
        ("training", ("batch", "frames", "masks")),
        ("compiled", ("work", "batch", "frames")),
    ):
        for entry in benchmark.get(kind, []):
            label = ", ".join(f"{key} {entry[key]}" for key in keys)
            flat = {**entry, **{f"stage {k}": v for k, v in entry.get("stages", {}).items()}}
            for name, value in flat.items():
                if isinstance(value, int | float) and name not in keys:
                    yield f"{kind} ({label}): {name}", value
    for name, value in benchmark.get("loader", {}).items():
        yield f"loader: {name}", value
    for quantity, points in benchmark.get("scaling", {}).items():
        for point in points:
            for name in ("seconds_per_clip", "ratio"):
                yield f"{quantity} {point['value']}: {name}", point[name]
