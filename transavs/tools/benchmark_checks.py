"""What tools/benchmark.py asks of its command line, before any work."""

from __future__ import annotations

import argparse

from transavs.engine.benchmark import SWEEPS
from transavs.engine.trained_model import check_device_name
from transavs.tools.benchmark_soak import check_soak, curves_path
from transavs.tools.command_line import check_output_files, check_threads, split_names

PARTS = ("size", "inference", "training", "loader", "compiled")
DEFAULT_PARTS = ",".join(PARTS[:-1])


def check_alone(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises ValueError for what ``--compare``, which measures and writes nothing, would ignore."""
    given = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if name not in ("compare", "opts") and value != parser.get_default(name)
    ]
    if given or args.opts:
        raise ValueError(
            f"--compare prints a table of two files: leave out {', '.join([*given, *args.opts])}, "
            "and put > FILE behind the command to keep the table"
        )


def check(args: argparse.Namespace) -> None:
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
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
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
    if args.output:
        _check_output(args)


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
        option = name.replace("_", "-")
        raise ValueError(f"--{option}: expected whole numbers from 1 on such as 1,4, got {text!r}")
    return numbers
