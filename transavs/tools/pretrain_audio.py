"""Pretrain the small audio encoder on the sound classes of training clips."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from detectron2.data import MetadataCatalog

from transavs.audio import build_audio_encoder
from transavs.data import dataset_root, load_records
from transavs.data.demo.mixtures import Mixtures, read_recordings
from transavs.engine.audio_pretraining import (
    collect_examples,
    pretrain_encoder,
    read_labelled_examples,
)
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    start_logging,
)
from transavs.utils.whole_files import write_bytes, write_text

logger = logging.getLogger("transavs.tools.pretrain_audio")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="pretrain_audio", description=__doc__)
    parser.add_argument("--config-file", required=True, help="its MODEL.AUDIO.NAME is trained")
    parser.add_argument("--train", nargs="+", default=["demo_s4_train", "demo_ms3_train"])
    parser.add_argument("--val", nargs="+", default=["demo_s4_val", "demo_ms3_val"])
    parser.add_argument(
        "--mixtures",
        type=int,
        default=1500,
        help="clips of 5 s to mix from varied recordings of the demo set, beside those of --train; "
        "0 for other data (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=64, help="examples a step")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=2e-3,
        help="the highest of the run; large encoders such as VGGish want a tenth (default: "
        "%(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that read sounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True, help="where the .safetensors file goes")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the encoder's weights to ``--output`` and its scores beside them, as ``.json``."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    # Weights and freezing are for the training of TransAVS; here the encoder starts fresh.
    overrides = ["MODEL.AUDIO.WEIGHTS", "", "MODEL.AUDIO.FREEZE", "False"]
    cfg = read_cfg(args.config_file, [*args.opts, *overrides])
    check_output_files({"--output": args.output}, {"--config-file": args.config_file})
    classes = _common_classes([*args.train, *args.val])
    mixtures = _mixtures(args.mixtures, classes, args.seed) if args.mixtures else None
    torch.manual_seed(args.seed)
    encoder = build_audio_encoder(cfg)
    train, validation = (
        read_labelled_examples(
            [record for name in names for record in load_records(name)],
            len(classes),
            args.workers,
        )
        for names in (args.train, args.val)
    )
    if mixtures is not None:
        train = train + collect_examples(mixtures, args.workers, "mixing")
    scores = pretrain_encoder(
        encoder,
        train,
        validation,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
    )
    output = Path(args.output)
    write_bytes(output, safetensors.torch.save(encoder.state_dict()))
    note = {"classes": classes, "train": args.train, "mixtures": args.mixtures, "val": args.val}
    note |= {"steps": args.steps, "learning_rate": args.learning_rate, **scores}
    write_text(output.with_suffix(".json"), json.dumps(note, indent=1) + "\n")
    logger.info("F1 %.1f %% on %s; weights in %s", scores["f1"], ", ".join(args.val), output)
    return 0


def _check(args: argparse.Namespace) -> None:
    for option, least in (("mixtures", 0), ("steps", 1), ("batch_size", 1), ("workers", 0)):
        if getattr(args, option) < least:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be at least {least}, got {getattr(args, option)}")
    if not 0 < args.learning_rate < math.inf:
        raise ValueError(
            f"--learning-rate must be a finite number above 0, got {args.learning_rate:g}"
        )


def _mixtures(count: int, classes: Sequence[str], seed: int) -> Mixtures:
    recordings = read_recordings(dataset_root())
    if list(recordings) != list(classes):
        raise ValueError(
            f"the demo set has recordings of {', '.join(recordings)}, the data sets name the sound "
            f"classes {', '.join(classes)}: pass --mixtures 0 to pretrain without mixtures"
        )
    return Mixtures(recordings, count, seed)


def _common_classes(names: Sequence[str]) -> list[str]:
    """The sound classes of the data sets, which must agree for their labels to mean the same."""
    found = {}
    for name in names:
        load_records(name)
        found[name] = list(MetadataCatalog.get(name).sound_classes)
    first = found[names[0]]
    different = [name for name, classes in found.items() if classes != first]
    if different:
        raise ValueError(
            f"{', '.join(different)} and {names[0]} name different sound classes: pretrain on "
            "data sets with the same ones"
        )
    return first


if __name__ == "__main__":
    raise SystemExit(main())
