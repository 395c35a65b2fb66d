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

from transavs.data import load_records
from transavs.engine.export import (
    INT8,
    SOUNDS,
    ClipGraph,
    ExportedClipModel,
    ExportedModel,
    check_export,
    check_packages,
    describe,
    embedding_error,
    examples_of_folder,
    export_graph,
    format_latency,
    measure_latency,
    most_frames,
    quantize_audio_encoder,
    with_facts,
)
from transavs.engine.known_classes import known_classes
from transavs.engine.predictor import SHIPPED_CONFIG, SHIPPED_WEIGHTS
from transavs.engine.robustness import evaluate_loader
from transavs.engine.trained_model import load_trained_model
from transavs.engine.trainer import Trainer
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    start_logging,
)
from transavs.tools.model_options import add_model_options, check_model_options
from transavs.utils.whole_files import write_bytes, write_text

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
        "--int8-audio",
        action="store_true",
        help="quantise the linear layers of the audio encoder to 8 bits",
    )
    parser.add_argument(
        "--int8-sounds",
        default="",
        metavar="FOLDER",
        help="with --int8-audio: tell what 8 bits change of the embeddings of its .wav files",
    )
    parser.add_argument(
        "--latency",
        action="store_true",
        help="measure PyTorch, torch.compile and onnxruntime in turn, on one thread",
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out of --latency"
    )
    parser.add_argument("--frames", type=int, default=5, metavar="N", help="of --latency's clip")
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="of --latency (default: %(default)s)"
    )
    parser.add_argument(
        "--evaluate",
        default="",
        metavar="NAME",
        help="evaluate the file, and the model in PyTorch, on a data set; needs --sound examples",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    return parser


def _size(text: str) -> tuple[int, int]:
    try:
        sides = [int(word) for word in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides, default=0) < 1:
        raise argparse.ArgumentTypeError(f"expected H,W in pixels such as 224,224, got {text!r}")
    if max(sides) > _LARGEST_SIDE:
        raise argparse.ArgumentTypeError(
            f"expected at most {_LARGEST_SIDE} pixels a side, got {text!r}"
        )
    return sides[0], sides[-1]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    check_packages()
    cfg, model, weights = _load(args)
    graph = ClipGraph(model, args.sound, cfg.INPUT.FORMAT)
    size = args.size or _usual_size(cfg)
    encoder: Any = model.audio_encoder
    if args.int8_sounds:  # read first: a mistake is told before any work
        sounds = examples_of_folder(encoder, args.int8_sounds)
    logger.info("Following the model")
    proto = export_graph(graph, size, most_frames(cfg, model))
    facts = describe(cfg, graph, size, _names(args, cfg, weights))
    logger.info("Comparing it with PyTorch")
    facts["checked"] = check_export(cfg, graph, proto, facts, size)
    content = with_facts(proto, facts)
    contents = {"onnxruntime": content}
    if args.int8_audio:
        proto, facts["int8"] = quantize_audio_encoder(proto)
        # What counts is the file that is written; single queries may be further off.
        facts["int8"]["checked_before"] = facts["checked"]
        try:
            facts["checked"] = check_export(cfg, graph, proto, facts, size, INT8)
        except ValueError as error:
            raise ValueError(
                f"with its audio encoder in 8 bits {error}: leave --int8-audio out"
            ) from error
        if args.int8_sounds:
            facts["int8"]["embeddings"] = embedding_error(encoder, sounds)
        content = contents["onnxruntime, int8 audio"] = with_facts(proto, facts)
    if args.latency:
        facts["latency"] = measure_latency(
            cfg, graph, contents, size, args.frames, args.repeats, not args.no_compile
        )
        print(format_latency(facts["latency"]))
    if args.evaluate:
        facts["evaluation"] = _evaluate(cfg, model, contents, args.evaluate)
    write_bytes(args.output, with_facts(proto, facts))
    # Last: it never describes a file that is not there.
    write_text(_facts_path(args.output), json.dumps(facts, indent=1) + "\n")
    _report(args.output, facts, len(content))
    return 0


def _check(args: argparse.Namespace) -> None:
    if not args.output.endswith(".onnx"):
        raise ValueError(f"--output must end in .onnx, got {args.output}")
    check_model_options(args, args.opts[::2])
    if args.weights and args.random_weights:
        raise ValueError("--weights and --random-weights exclude each other")
    for name in ("frames", "repeats"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if not args.latency:
        defaults = build_parser()
        for name in ("frames", "repeats", "no_compile"):
            if getattr(args, name) != defaults.get_default(name):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} is about --latency: add that, or leave {option} out")
    if args.int8_sounds and not args.int8_audio:
        raise ValueError("--int8-sounds needs --int8-audio")
    if args.evaluate and args.sound != "examples":
        raise ValueError(
            f"--evaluate needs --sound examples, which is what data sets give, got {args.sound}"
        )
    check_output_files(
        {"--output": args.output, "the facts of --output": _facts_path(args.output)},
        {"--weights": args.weights, "--config-file": args.config_file},
    )
    facts = _facts_path(args.output)
    if os.path.exists(facts) and not os.path.exists(args.output):
        raise ValueError(
            f"--output would overwrite {facts}, which no export wrote, as there is no "
            f"{args.output}: name another file"
        )
    if args.evaluate:
        # Now, not after the export: the name, and whether its files are there.
        load_records(args.evaluate)


def _facts_path(output: str) -> str:
    return output.removesuffix(".onnx") + ".json"


def _load(args: argparse.Namespace) -> tuple[CfgNode, torch.nn.Module, str]:
    """Configuration, model in evaluation mode on the CPU, and what its weights are called."""
    # The file needs no starting weights of the encoders: the checkpoint holds them.
    own = ["MODEL.DEVICE", "cpu", "MODEL.AUDIO.WEIGHTS", ""]
    if args.random_weights:
        own += ["MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""]
    config, weights = args.config_file, args.weights
    if not config:
        config = SHIPPED_CONFIG
        weights = "" if args.random_weights else SHIPPED_WEIGHTS
    cfg = read_cfg(config, [*args.opts, *own])
    if args.random_weights:
        torch.manual_seed(_SEED)
        return cfg, build_model(cfg).eval(), "random"
    weights = weights or str(cfg.MODEL.WEIGHTS)
    return cfg, load_trained_model(cfg, weights), weights


def _usual_size(cfg: CfgNode) -> tuple[int, int]:
    """That of evaluation; a square where evaluation keeps the shape of the pictures."""
    height, width = cfg.INPUT.STRETCH_TEST or [cfg.INPUT.MIN_SIZE_TEST] * 2
    return int(height), int(width)


def _names(args: argparse.Namespace, cfg: CfgNode, weights: str) -> dict[str, Any]:
    names = [] if weights == "random" else list(known_classes(cfg, weights))
    return {
        "config": os.path.basename(args.config_file or SHIPPED_CONFIG),
        "weights": os.path.basename(weights),
        # Of the sounds that it learned; of a model that tells classes, those of class_maps.
        "class_names": names,
    }


def _evaluate(
    cfg: CfgNode, model: torch.nn.Module, contents: dict[str, bytes], name: str
) -> dict[str, Any]:
    """Scores of the model and of the files on a data set."""
    found: dict[str, Any] = {"data_set": name}
    asked = {"torch": model}
    for kind, content in contents.items():
        asked[kind] = ExportedClipModel(ExportedModel(content), cfg.INPUT.FORMAT)
    for kind, own in asked.items():
        loader = Trainer.build_test_loader(cfg, name)
        scores = evaluate_loader(cfg, own, loader, Trainer.build_evaluator(cfg, name))["avs"]
        found[kind] = {key: float(scores[key]) for key in ("M_J", "M_F")}
        print(
            f"{name}, {kind}: M_J {found[kind]['M_J']:.2f}, M_F {found[kind]['M_F']:.2f} "
            f"({scores['M_F_group']} clips a threshold)"
        )
    return found


def _report(output: str, facts: dict[str, Any], size: int) -> None:
    checked = facts["checked"]
    logger.info(
        "%s: %.1f MB, %s; scores differ from PyTorch's by at most %.1g (%.1g on average, where %g "
        "is allowed), probabilities of queries by %.1g, masks in %.1g %% of the pixels, tried on "
        "%d cases",
        output,
        size / 1e6,
        ", ".join(f"{name} {own['shape']}" for name, own in facts["inputs"].items()),
        checked["max_difference"],
        checked["mean_difference"],
        checked["bounds"]["mean"],
        checked["max_query_difference"],
        100 * checked["other_pixels"],
        len(checked["cases"]),
    )
    if "int8" in facts:
        int8 = facts["int8"]
        logger.info(
            "%d linear layers of the audio encoder (%d weights) in 8 bits: %.1f MB before, %.1f "
            "after",
            int8["layers"],
            int8["weights"],
            int8["bytes_before"] / 1e6,
            int8["bytes_after"] / 1e6,
        )
    if "embeddings" in facts.get("int8", {}):
        errors = facts["int8"]["embeddings"]
        logger.info(
            "8 bits change the embeddings of %d sounds (%d without any left out) by %.2g of their "
            "norm (at most %.2g); cosine %.5f (at least %.5f)",
            errors["examples"],
            errors["silent"],
            errors["relative_l2"],
            errors["worst_relative_l2"],
            errors["cosine"],
            errors["worst_cosine"],
        )


if __name__ == "__main__":
    raise SystemExit(main())
