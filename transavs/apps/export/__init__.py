"""Export a model to ONNX, checked: ``python tools/export.py --output model.onnx``."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from transavs.apps.export.check import (
    check_export,
    evaluate_export,
    format_latency,
    measure_latency,
)
from transavs.apps.export.graph import SOUNDS, ClipGraph, export_graph, with_facts
from transavs.apps.export.runtime import ExportedModel
from transavs.data import load_records
from transavs.engine.known_classes import known_classes
from transavs.engine.predictor import SHIPPED_CONFIG, SHIPPED_WEIGHTS
from transavs.engine.trained_model import load_trained_model
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    start_logging,
)
from transavs.tools.model_options import add_model_options, check_model_options
from transavs.utils.whole_files import write_bytes, write_text

__all__ = ["ExportedModel", "build_parser", "main"]

logger = logging.getLogger(__name__)

_SEED = 0
#: Side of a frame, in pixels: models see 160 to 448, and the comparison holds a dozen frames.
_LARGEST_SIDE = 2048


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="export.py",
        description="Writes a model as an ONNX file that onnxruntime runs without PyTorch, for any "
        "number of clips and frames, and a .json beside it that says what it takes. Nothing is "
        "written unless both answer alike. Without --config-file the small model that comes with "
        "the package is taken.",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="ends in .onnx")
    add_model_options(parser, device=False)
    parser.add_argument(
        "--random-weights", action="store_true", help="no checkpoint: to measure, not to use"
    )
    parser.add_argument(
        "--sound",
        choices=SOUNDS,
        default="waveform",
        help="what the file hears: samples at 16 kHz, with the log-mel front-end in the graph; "
        "examples of the front-end; or embeddings of the audio encoder (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="H,W",
        help="of the frames, which the file is fixed to; one number: a square (default: "
        "INPUT.STRETCH_TEST, or a square of INPUT.MIN_SIZE_TEST)",
    )
    parser.add_argument(
        "--latency",
        action="store_true",
        help="measure PyTorch, torch.compile and onnxruntime in turn, on one thread",
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out of --latency"
    )
    parser.add_argument(
        "--frames", type=_positive, default=5, metavar="N", help="of --latency's clip"
    )
    parser.add_argument(
        "--repeats", type=_positive, default=5, metavar="N", help="of --latency (%(default)s)"
    )
    parser.add_argument(
        "--evaluate",
        default="",
        metavar="NAME",
        help="evaluate the file, and the model in PyTorch, on a data set; needs --sound examples",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    sides = text.split(",")
    fits = len(sides) <= 2 and all(
        side.isdigit() and 1 <= int(side) <= _LARGEST_SIDE for side in sides
    )
    if not fits:
        raise argparse.ArgumentTypeError(
            f"expected H,W of at most {_LARGEST_SIDE} pixels a side, such as 224,224, got {text!r}"
        )
    return int(sides[0]), int(sides[-1])


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    cfg, model, facts = _load(args)
    # By default the size of evaluation; a square where that keeps the shape of the pictures.
    height, width = args.size or cfg.INPUT.STRETCH_TEST or [cfg.INPUT.MIN_SIZE_TEST] * 2
    graph = ClipGraph(cfg, model, args.sound, (int(height), int(width)))
    logger.info("Following the model")
    proto = export_graph(graph)
    facts = graph.facts() | facts
    logger.info("Comparing it with PyTorch")
    checked = facts["checked"] = check_export(graph, proto, facts)
    content = with_facts(proto, facts)
    if args.latency:
        facts["latency"] = measure_latency(
            graph, content, args.frames, args.repeats, not args.no_compile
        )
        print(format_latency(facts["latency"]))
    if args.evaluate:
        facts["evaluation"] = evaluate_export(cfg, graph, content, args.evaluate)
    write_bytes(args.output, with_facts(proto, facts))
    # Last: it never describes a file that is not there.
    write_text(_facts_path(args.output), json.dumps(facts, indent=1) + "\n")
    logger.info(
        "%s: %.1f MB, %s; scores differ from PyTorch's by at most %.1g, probabilities of queries "
        "by %.1g, masks in %.1g %% of the pixels, tried on %d cases",
        args.output,
        len(content) / 1e6,
        ", ".join(f"{name} {own['shape']}" for name, own in facts["inputs"].items()),
        checked["max_difference"],
        checked["max_query_difference"],
        100 * checked["other_pixels"],
        len(checked["cases"]),
    )
    return 0


def _facts_path(output: str) -> str:
    return output.removesuffix(".onnx") + ".json"


def _check(args: argparse.Namespace) -> None:
    """Raises what can be told before any work."""
    if not args.output.endswith(".onnx"):
        raise ValueError(f"--output must end in .onnx, got {args.output}")
    check_model_options(args, args.opts[::2])
    if args.weights and args.random_weights:
        raise ValueError("--weights and --random-weights exclude each other")
    if args.evaluate and args.sound != "examples":
        raise ValueError(
            f"--evaluate needs --sound examples, which is what data sets give, got {args.sound}"
        )
    facts = _facts_path(args.output)
    check_output_files(
        {"--output": args.output, "the facts of --output": facts},
        {"--weights": args.weights, "--config-file": args.config_file},
    )
    if os.path.exists(facts) and not os.path.exists(args.output):
        raise ValueError(
            f"--output would overwrite {facts}, which no export wrote, as there is no "
            f"{args.output}: name another file"
        )
    if args.evaluate:
        load_records(args.evaluate)  # its name, and whether its files are there
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f'{error.name} is not installed: pip install "transavs[export]" brings what exporting '
            "needs"
        ) from error


def _load(args: argparse.Namespace) -> tuple[CfgNode, nn.Module, dict[str, Any]]:
    """Configuration, model in evaluation mode on the CPU, and what the file says of both."""
    config, weights = args.config_file or SHIPPED_CONFIG, args.weights
    # The file needs no starting weights of the encoders: the checkpoint holds them.
    own = ["MODEL.DEVICE", "cpu", "MODEL.AUDIO.WEIGHTS", "", "MODEL.BACKBONE.CACHE", ""]
    if args.random_weights:
        own += ["MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""]
    cfg = read_cfg(config, [*args.opts, *own])
    if args.random_weights:
        torch.manual_seed(_SEED)
        model, weights, names = build_model(cfg).eval(), "random", []
    else:
        weights = weights or (cfg.MODEL.WEIGHTS if args.config_file else SHIPPED_WEIGHTS)
        model, names = load_trained_model(cfg, weights), list(known_classes(cfg, weights))
    facts = {
        "config": os.path.basename(config),
        "weights": os.path.basename(weights),
        # Of the sounds that it learned; of a model that tells classes, those of class_maps.
        "class_names": names,
    }
    return cfg, model, facts
