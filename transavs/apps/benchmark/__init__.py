"""Measure a model's speed, memory and size, each as a ratio to its encoders alone."""

from __future__ import annotations

import argparse
import io
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from transavs.apps.benchmark.loader import measure_loader
from transavs.apps.benchmark.measure import PRECISIONS, Conditions, Record, measure_inference
from transavs.apps.benchmark.report import (
    describe_machine,
    draw_scaling,
    format_benchmark,
    format_comparison,
    write_benchmark,
)
from transavs.apps.benchmark.training import PHASES, measure_compiled, measure_training
from transavs.engine.trained_model import check_device, load_trained_model
from transavs.modeling.compiling import compile_parts
from transavs.modeling.cost import measure_cost
from transavs.tools.command_line import (
    MOST_THREADS,
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    split_names,
    start_logging,
)
from transavs.utils.progress import progress_bar
from transavs.utils.timing import choose_timer
from transavs.utils.whole_files import write_bytes

logger = logging.getLogger(__name__)

PARTS = ("size", "inference", "training", "loader", "compiled")
#: The most of a quantity: beyond it the system ends a command for its memory and tells nobody why.
_MOST_PIXELS, _MOST_QUERIES, _MOST = 2048, 2000, 1000


#: The values of each quantity of ``--scaling`` by default, and the most of it.
SWEEPS = {
    "queries": ("20,50,100,200,300,500", _MOST_QUERIES),
    "size": ("224,320,448,672,1024", _MOST_PIXELS),
    "frames": ("1,2,5,10", _MOST),
    "batch": ("1,2,4,8", _MOST),
}


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="benchmark.py",
        description=f"{__doc__} These, the encoder baseline, are measured in turn with the model. "
        "Without --weights weights are random and nothing is downloaded. With one thread on the "
        "CPU, processor time is taken, else time on the wall.",
    )
    add = parser.add_argument
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--config-file", metavar="FILE", help="of the model")
    work.add_argument(
        "--compare", nargs=2, metavar="FILE", help="print two files of --output side by side"
    )
    add("--weights", default="", metavar="FILE", help="a trained model's checkpoint")
    add("--output", default="", metavar="FILE", help="JSON to write")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--parts", type=_parts, default=",".join(PARTS[:-1]), metavar="NAME,NAME",
        help="what to measure (default: %(default)s); compiled, besides, times inference and a "
        "training step in turn with a copy made by torch.compile",
    )  # fmt: skip
    what.add_argument(
        "--scaling", action="store_true",
        help="measure inference by queries, resolution, frames and batch instead, with curves in a "
        "PNG beside --output",
    )  # fmt: skip
    for name, (values, most) in SWEEPS.items():
        add(f"--scale-{name}", type=_numbers(most), default=values, metavar="N,N",
            help='with --scaling, "" for none (default: %(default)s)')  # fmt: skip
    add("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--threads", type=_number(MOST_THREADS), default=1, metavar="N",
        help="on the CPU (default: %(default)s)")  # fmt: skip
    add("--precision", choices=tuple(PRECISIONS), default="fp32", help="(default: %(default)s)")
    add("--compile", action="store_true", help="torch.compile the model's parts")
    add("--queries", type=_number(_MOST_QUERIES), metavar="N", help="in place of the config's")
    add("--size", type=_number(_MOST_PIXELS), default=224, metavar="PIXELS",
        help="of frames (default: %(default)s)")  # fmt: skip
    add("--frames", type=_number(_MOST), metavar="N",
        help="and seconds of a clip (default: the config's)")  # fmt: skip
    add("--batches", type=_numbers(_MOST, least=1), default="1", metavar="N,N",
        help="of inference (default: %(default)s)")  # fmt: skip
    add("--train-batch", type=_number(_MOST), metavar="N",
        help="clips of a step (default: the config's)")  # fmt: skip
    add("--masks", type=_numbers(_MOST, least=1), default="1", metavar="N,N",
        help="true masks of a frame (default: %(default)s)")  # fmt: skip
    add("--forced-foreground", type=_number(_MOST_QUERIES, least=0), default=10, metavar="N",
        help="queries of a frame that are made foreground, as in a trained model; the others leave "
        "the race for pixels (default: %(default)s)")  # fmt: skip
    add("--repeats", type=_number(10**6), default=5, metavar="N",
        help="of everything (default: %(default)s)")  # fmt: skip
    add("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    return parser


def _number(most: int, least: int = 1) -> Callable[[str], int]:
    """A type of argparse: a whole number."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"expected whole numbers from {least} to {most}, got {text!r}"
            )
        return int(text)

    return parse


def _numbers(most: int, least: int = 0) -> Callable[[str], list[int]]:
    """A type of argparse: whole numbers with commas between, at least so many."""

    def parse(text: str) -> list[int]:
        numbers = [_number(most)(word) for word in split_names(text)]
        if len(numbers) < least:
            raise argparse.ArgumentTypeError("expected at least one whole number, got none")
        return numbers

    return parse


def _parts(text: str) -> list[str]:
    parts = split_names(text)
    if not parts or not set(parts) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(PARTS)}, got {text!r}")
    return parts


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Measures or compares; returns the exit code."""
    args = build_parser().parse_args(argv)
    start_logging()
    if args.compare:
        print(format_comparison(*args.compare))
        return 0
    curves = os.path.splitext(args.output)[0] + ".png"
    check_output_files(
        {
            "--output": args.output,
            "the curves of --output": curves if args.output and args.scaling else None,
        },
        {"--config-file": args.config_file, "--weights": args.weights},
    )
    cfg = _read(args)
    device = torch.device(cfg.MODEL.DEVICE)
    if args.precision == "fp16" and device.type == "cpu":
        raise ValueError("--precision fp16 is for GPUs; on the CPU take bf16")
    torch.set_num_threads(args.threads)
    parts = {"scaling": _scale(args, cfg)} if args.scaling else _measure(args, cfg)
    print(format_benchmark(parts))
    if args.output:
        own = ("compare", "output", "parts")
        settings = {name: value for name, value in vars(args).items() if name not in own}
        machine = describe_machine(device)
        write_benchmark(args.output, {"settings": settings, "machine": machine, **parts})
        if args.scaling:
            title = f"{args.config_file}, {args.precision}, {machine['processor']}"
            drawn = io.BytesIO()
            draw_scaling(parts["scaling"], title).savefig(drawn, format="png", dpi=100)
            write_bytes(curves, drawn.getvalue())
            logger.info("Curves in %s", curves)
    return 0


def _read(args: argparse.Namespace) -> CfgNode:
    """The configuration, of random weights if none are named."""
    opts = ["MODEL.DEVICE", args.device, *args.opts]
    if not args.weights:
        opts += ["MODEL.WEIGHTS", "", "MODEL.AUDIO.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""]
    for key, value in (
        ("MODEL.TRANSAVS.NUM_QUERIES", args.queries),
        ("INPUT.CLIP_SECONDS", args.frames),
        ("SOLVER.IMS_PER_BATCH", args.train_batch),
    ):
        opts += [key, str(value)] if value else []
    cfg = read_cfg(args.config_file, opts)
    check_device(cfg)
    return cfg


def _build(args: argparse.Namespace, cfg: CfgNode) -> tuple[Any, Conditions]:
    """The model, and what its measurements have in common."""
    torch.manual_seed(0)
    model: Any = load_trained_model(cfg, args.weights) if args.weights else build_model(cfg)
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # which the timer waits for
    timer, size = choose_timer(model.device, args.threads), (args.size, args.size)
    return model, Conditions(size, args.precision, timer, args.repeats, args.forced_foreground)


def _measure(args: argparse.Namespace, cfg: CfgNode) -> dict[str, list[Record]]:
    """The records of ``--parts``."""
    model, conditions = _build(args, cfg)
    frames = int(cfg.INPUT.CLIP_SECONDS)
    found: dict[str, list[Record]] = {}
    if "size" in args.parts:
        cost = asdict(measure_cost(cfg, model, frames, conditions.size))
        by_part = {f"{name}_macs": count for name, count in cost.pop("macs_by_part").items()}
        ratio = cost["macs"] / cost["encoder_baseline_macs"]
        found["size"] = [{**cost, **by_part, "macs_ratio": ratio}]
    if "compiled" in args.parts:
        work = {"batch": args.batches[0], "frames": frames, "masks": args.masks[0]}
        found["compiled"] = [
            measure_compiled(cfg, model, conditions, phase, **work)
            for phase in progress_bar(PHASES, "Compiled", "phase")
        ]
    if args.compile:  # not before: fvcore traces the model as it is
        compile_parts(model)
    if "inference" in args.parts:
        found["inference"] = [
            measure_inference(cfg, model, conditions, batch, frames)
            for batch in progress_bar(args.batches, "Inference", "batch size")
        ]
    if "loader" in args.parts:
        found["loader"] = [measure_loader(cfg, conditions)]
    if "training" in args.parts:
        found["training"] = [
            measure_training(cfg, model, conditions, masks)
            for masks in progress_bar(args.masks, "Training", "number of masks")
        ]
    return found


def _scale(args: argparse.Namespace, cfg: CfgNode) -> list[Record]:
    """Inference at the values of one quantity after the other, while the others stay."""
    centre = {
        "queries": int(cfg.MODEL.TRANSAVS.NUM_QUERIES),
        "size": args.size,
        "frames": int(cfg.INPUT.CLIP_SECONDS),
        "batch": args.batches[0],
    }
    sweeps = [(name, value) for name in centre for value in getattr(args, f"scale_{name}")]
    if cfg.MODEL.META_ARCHITECTURE != "TransAVS":
        sweeps = [(name, value) for name, value in sweeps if name != "queries"]
    if not sweeps:
        raise ValueError("--scaling: every --scale option is empty; name values for one")
    found = []
    known: dict[tuple[int, ...], Record] = {}
    for name, value in progress_bar(sweeps, "Scaling", "point"):
        point = {**centre, name: value}
        key = tuple(point.values())
        if key not in known:
            own = argparse.Namespace(**{**vars(args), **point})
            own_cfg = _read(own)
            model, conditions = _build(own, own_cfg)
            if args.compile:
                compile_parts(model)
            known[key] = measure_inference(
                own_cfg, model, conditions, own.batch, own.frames, memory=False
            )
        found.append({"quantity": name, "value": value, **known[key]})
    return found
