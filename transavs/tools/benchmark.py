"""Measure a model's speed, memory and size, each as a ratio to its encoders alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from transavs.engine.benchmark import (
    PRECISIONS,
    SWEEPS,
    WORKS,
    Clock,
    Point,
    describe_machine,
    format_benchmark,
    format_comparison,
    measure_compiled,
    measure_cost,
    measure_inference,
    measure_loader,
    measure_scaling,
    measure_training,
    read_benchmark,
    sweep_points,
    write_benchmark,
)
from transavs.engine.trained_model import check_device, load_trained_model
from transavs.modeling.compiling import compile_parts
from transavs.tools.benchmark_checks import (
    DEFAULT_CLAIMING,
    DEFAULT_PARTS,
    check,
    check_alone,
    check_claiming,
    read_numbers,
)
from transavs.tools.benchmark_soak import add_soak_options, run_soak, write_curves
from transavs.tools.command_line import (
    CommandParser,
    command,
    read_cfg,
    split_names,
    start_logging,
)
from transavs.utils.progress import progress_bar
from transavs.visualization import draw_scaling

_SEED = 0


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="benchmark.py",
        description=f"{__doc__} The limit, the image backbone and the audio encoder of the same "
        "model, is measured in turn with it. Without --weights they are random and nothing is "
        "downloaded. With one thread on the CPU, processor time is taken, else time on the wall.",
    )
    parser.add_argument("--config-file", metavar="FILE", help="of the model")
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="a trained model's checkpoint"
    )
    parser.add_argument("--output", default="", metavar="FILE", help="JSON to write")
    parser.add_argument(
        "--parts",
        default=DEFAULT_PARTS,
        metavar="NAME,NAME",
        help="what to measure (default: %(default)s); compiled, besides, times inference and a "
        "training step in turn with a copy made by torch.compile",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="on the CPU (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", choices=tuple(PRECISIONS), default="fp32", help="(default: %(default)s)"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the model's parts")
    parser.add_argument("--queries", type=int, metavar="N", help="in place of the config's")
    parser.add_argument(
        "--size", type=int, default=224, metavar="PIXELS", help="of frames (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, metavar="N", help="and seconds of a clip (default: the config's)"
    )
    parser.add_argument(
        "--batches", default="1", metavar="N,N", help="of inference (default: %(default)s)"
    )
    parser.add_argument(
        "--train-batch", type=int, metavar="N", help="clips of a step (default: the config's)"
    )
    parser.add_argument(
        "--masks", default="1", metavar="N,N", help="true masks of a frame (default: %(default)s)"
    )
    parser.add_argument(
        "--claiming",
        type=int,
        default=DEFAULT_CLAIMING,
        metavar="N",
        help="queries of a frame that say they sound, as in a trained model; the others leave the "
        "race for pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="of everything (default: %(default)s)"
    )
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="measure inference by queries, resolution, frames and batch instead, with curves in a "
        "PNG beside --output",
    )
    for name, values in SWEEPS.items():
        parser.add_argument(
            f"--scale-{name}",
            default=",".join(map(str, values)),
            metavar="N,N",
            help='with --scaling, "" for none (default: %(default)s)',
        )
    add_soak_options(parser)
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="FILE",
        help="print two files of --output side by side instead; takes no other option",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Measures or compares; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    start_logging()
    if args.compare:
        check_alone(args, parser)
        first, second = args.compare
        print(format_comparison(read_benchmark(first), read_benchmark(second), (first, second)))
        return 0
    check(args, parser)
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {"settings": _settings(args), "machine": describe_machine(args.device)}
    if args.soak:
        torch.manual_seed(_SEED)
        return run_soak(args, _read, result)
    if args.scaling:
        result["scaling"] = _scale(args)
    else:
        result |= _measure(args)
    print(format_benchmark(result))
    if args.output:
        write_benchmark(args.output, result)
    if args.output and args.scaling:
        title = f"{args.config_file}, {args.precision}, {result['machine']['processor']}"
        write_curves(args.output, draw_scaling(result["scaling"], title))
    return 0


def _read(args: argparse.Namespace, point: Point | None = None) -> CfgNode:
    """Configuration, of random weights if none are named."""
    own: list[str | int] = ["MODEL.DEVICE", args.device]
    if not args.weights:
        own += ["MODEL.WEIGHTS", "", "MODEL.AUDIO.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""]
    queries = point.queries if point else args.queries
    frames = point.frames if point else args.frames
    if queries:
        own += ["MODEL.TRANSAVS.NUM_QUERIES", queries]
    if frames:
        own += ["INPUT.CLIP_SECONDS", frames]
    if args.train_batch:
        own += ["SOLVER.IMS_PER_BATCH", args.train_batch]
    cfg = read_cfg(args.config_file, [*args.opts, *map(str, own)])
    check_device(cfg)
    return cfg


def _build(args: argparse.Namespace, point: Point | None = None) -> tuple[CfgNode, Any]:
    """Configuration and model."""
    cfg = _read(args, point)
    check_claiming(args, int(cfg.MODEL.TRANSAVS.NUM_QUERIES))
    torch.manual_seed(_SEED)
    return cfg, load_trained_model(cfg, args.weights) if args.weights else build_model(cfg)


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    cfg, model = _build(args)
    parts = split_names(args.parts)
    size, frames = (args.size, args.size), int(cfg.INPUT.CLIP_SECONDS)
    clock = Clock.choose(model.device, args.threads)
    how: dict[str, Any] = {
        "precision": args.precision, "clock": clock, "repeats": args.repeats,
    }  # fmt: skip
    found: dict[str, Any] = {}
    if "size" in parts:
        found["cost"] = measure_cost(cfg, model, frames, size)
    if "compiled" in parts:
        found["compiled"] = [
            measure_compiled(
                cfg,
                model,
                work,
                batch=read_numbers(args, "batches")[0],
                frames=frames,
                size=size,
                masks=read_numbers(args, "masks")[0],
                **how,
                claiming=args.claiming,
            )
            for work in progress_bar(WORKS, "Compiled", "work")
        ]
    if args.compile:  # not before: fvcore traces the model as it is
        compile_parts(model)
    if "inference" in parts:
        found["inference"] = [
            measure_inference(
                cfg,
                model,
                batch=batch,
                frames=frames,
                size=size,
                **how,
                claiming=args.claiming,
            )
            for batch in progress_bar(read_numbers(args, "batches"), "Inference", "batch size")
        ]
    if "loader" in parts:
        found["loader"] = measure_loader(cfg, size, clock, args.repeats)
    if "training" in parts:
        found["training"] = []
        for masks in progress_bar(read_numbers(args, "masks"), "Training", "number of masks"):
            entry = measure_training(
                cfg,
                model,
                batch=int(cfg.SOLVER.IMS_PER_BATCH),
                size=size,
                masks=masks,
                **how,
            )
            if "loader" in found:
                entry["data_seconds"] = entry["batch"] * found["loader"]["train_clip"]
            found["training"].append(entry)
    return found


def _scale(args: argparse.Namespace) -> dict[str, Any]:
    cfg = read_cfg(args.config_file, args.opts)
    node = cfg.MODEL.TRANSAVS
    centre = Point(
        args.queries or int(node.NUM_QUERIES),
        args.size,
        args.frames or int(cfg.INPUT.CLIP_SECONDS),
        read_numbers(args, "batches")[0],
    )
    sweeps = {name: read_numbers(args, f"scale_{name}") for name in SWEEPS}
    if cfg.MODEL.META_ARCHITECTURE != "TransAVS":
        sweeps.pop("queries")
    points = list(sweep_points(centre, {name: values for name, values in sweeps.items() if values}))
    if not points:
        raise ValueError("--scaling: every --scale option is empty; name values for one")
    check_claiming(args, min(point.queries for _, _, point in points))
    bar = progress_bar(None, "Scaling", "point", total=len({point for _, _, point in points}))

    def measure(point: Point) -> dict[str, float]:
        own_cfg, model = _build(args, point)
        if args.compile:
            compile_parts(model)
        found = measure_inference(
            own_cfg,
            model,
            batch=point.batch,
            frames=point.frames,
            size=(point.size, point.size),
            precision=args.precision,
            clock=Clock.choose(model.device, args.threads),
            repeats=args.repeats,
            claiming=args.claiming,
            memory=False,
        )
        bar.update()
        return found

    with bar:
        return measure_scaling(points, measure)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    left_out = ("compare", "output", "parts")
    return {name: value for name, value in vars(args).items() if name not in left_out}


if __name__ == "__main__":
    raise SystemExit(main())
