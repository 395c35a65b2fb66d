"""What tools/benchmark.py asks of its command line, before any work."""

from __future__ import annotations

import argparse

from transavs.engine.benchmark import SWEEPS
from transavs.engine.trained_model import check_device_name
from transavs.tools.benchmark_soak import check_soak, curves_path
from transavs.tools.command_line import check_output_files, check_threads, split_names

PARTS = ("size", "inference", "training", "loader", "compiled")
DEFAULT_PARTS = ",".join(PARTS[:-1])
#: Queries that ``--claiming`` lets sound; fewer where the model has not so many.
DEFAULT_CLAIMING = 10

#: Options that some parts, ``--scaling`` or ``--soak`` alone look at.
_USERS = {
    "masks": ("training", "compiled"),
    "train_batch": ("training", "compiled", "--soak"),
    "claiming": ("inference", "compiled", "--scaling"),
    "batches": ("inference", "compiled", "--scaling"),
    "compile": ("inference", "training", "--scaling"),
    **{f"scale_{name}": ("--scaling",) for name in SWEEPS},
}
#: Options that set a key of the configuration.
_KEYS = {
    "queries": "MODEL.TRANSAVS.NUM_QUERIES",
    "frames": "INPUT.CLIP_SECONDS",
    "train_batch": "SOLVER.IMS_PER_BATCH",
}
#: Beyond them a command is ended for its memory, which tells nobody why.
_MOST = {
    "size": 2048,
    "queries": 2000,
    "frames": 1000,
    "batches": 1000,
    "train_batch": 1000,
    "masks": 1000,
    "scale_size": 2048,
    "scale_queries": 2000,
    "scale_frames": 1000,
    "scale_batch": 1000,
}


def check_alone(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises ValueError for what ``--compare``, which measures and writes nothing, would ignore."""
    given = [
        _option(name)
        for name in vars(args)
        if name not in ("compare", "opts") and _is_given(args, parser, name)
    ]
    if given or args.opts:
        raise ValueError(
            f"--compare prints a table of two files: leave out {', '.join([*given, *args.opts])}, "
            "and put > FILE behind the command to keep the table"
        )


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises ValueError or OSError for arguments that cannot be measured with."""
    if not args.config_file:
        raise ValueError("--config-file is needed, such as configs/s4_R50.yaml, or --compare")
    parts = split_names(args.parts)
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        got = ", ".join(unknown) or repr(args.parts)
        raise ValueError(f"--parts: expected some of {', '.join(PARTS)}, got {got}")
    if (args.soak or args.scaling) and args.parts != DEFAULT_PARTS:
        option = "--soak" if args.soak else "--scaling"
        raise ValueError(f"{option} measures something else instead: leave --parts out")
    whole = ("repeats", "size", "queries", "frames", "train_batch")
    for name in (*whole, "soak", "soak_period"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{_option(name)} must be at least 1, got {value}")
    check_threads(args.threads)
    check_device_name(args.device, "--device")
    if args.compile and "compiled" in parts:
        raise ValueError("--parts compiled measures the model as it is, too: leave --compile out")
    if args.claiming < 0:
        raise ValueError(f"--claiming must be at least 0, got {args.claiming}")
    if args.precision == "fp16" and args.device == "cpu":
        raise ValueError("--precision fp16 is for GPUs; on the CPU take bf16")
    check_soak(args)
    if args.weights and (args.queries or args.scaling):
        raise ValueError("--queries and --scaling change the model, which --weights would not fit")
    numbers = ["batches", "masks", *(f"scale_{name}" for name in SWEEPS)]
    for name in numbers:
        read_numbers(args, name)
    if not read_numbers(args, "batches") or not read_numbers(args, "masks"):
        raise ValueError("--batches and --masks need at least one number each")
    _check_sizes(args)
    _check_users(args, parser)
    if args.output:
        _check_output(args)


def check_claiming(args: argparse.Namespace, queries: int) -> None:
    """Raises ValueError for more queries of ``--claiming`` than a model has.

    Args:
        args: of the command line.
        queries: of the model, or of the smallest one that is measured.
    """
    if args.claiming > queries and args.claiming != DEFAULT_CLAIMING:
        raise ValueError(
            f"--claiming {args.claiming} is more than the {queries} queries that a frame has: "
            "lower it"
        )


def _check_sizes(args: argparse.Namespace) -> None:
    """Raises ValueError for numbers that no machine has the memory for."""
    for name, most in _MOST.items():
        value = getattr(args, name)
        numbers = read_numbers(args, name) if isinstance(value, str) else [value or 0]
        if max(numbers, default=0) > most:
            raise ValueError(f"{_option(name)} must be at most {most}, got {max(numbers)}")


def _check_users(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises ValueError for options that nothing would look at, or that a key contradicts."""
    measured = split_names(args.parts)
    if args.scaling or args.soak:
        measured = ["--scaling" if args.scaling else "--soak"]
    for name, users in _USERS.items():
        if _is_given(args, parser, name) and not set(users) & set(measured):
            ways = [user if user.startswith("--") else f"--parts {user}" for user in users]
            raise ValueError(
                f"{_option(name)} is for {' or '.join(ways)}, and would be ignored: leave it out"
            )
    for name, key in _KEYS.items():
        if _is_given(args, parser, name) and key in args.opts[::2]:
            raise ValueError(f"{_option(name)} and {key} say the same: leave one of them out")
    devices = [value for key, value in zip(args.opts[::2], args.opts[1::2], strict=False)
               if key == "MODEL.DEVICE"]  # fmt: skip
    if devices and devices[-1] != args.device:
        raise ValueError(f"MODEL.DEVICE {devices[-1]} would be ignored: say --device {devices[-1]}")


def _is_given(args: argparse.Namespace, parser: argparse.ArgumentParser, name: str) -> bool:
    return bool(getattr(args, name) != parser.get_default(name))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_output(args: argparse.Namespace) -> None:
    """Raises ValueError or OSError for files that cannot or must not be written; makes nothing."""
    drawn = args.scaling or args.soak
    check_output_files(
        {
            "--output": args.output,
            "the curves of --output": curves_path(args.output) if drawn else None,
        },
        {"--config-file": args.config_file, "--weights": args.weights},
    )


def read_numbers(args: argparse.Namespace, name: str) -> list[int]:
    """Returns the whole numbers of an option, [] if it is empty; ValueError for any other text."""
    text = getattr(args, name)
    try:
        numbers = [int(word) for word in split_names(text)]
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise ValueError(
            f"{_option(name)}: expected whole numbers from 1 on such as 1,4, got {text!r}"
        )
    return numbers
