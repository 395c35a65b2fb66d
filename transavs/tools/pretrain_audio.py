"""Pretrain an audio encoder on the sound classes of training clips, or of recordings."""

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

from transavs.audio import AudioEncoder, build_audio_encoder
from transavs.data import dataset_root, load_records
from transavs.data.demo.mixtures import Mixtures, read_recordings
from transavs.data.recordings import RecordingFile, RecordingMixtures, read_manifest
from transavs.engine.audio_pretraining import (
    ExampleAugmentation,
    LabelledExamples,
    collect_examples,
    collect_features,
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

_MIXED_CLIPS = 1500
_MIXED_EXAMPLES = 20000
# Mixtures of held-out recordings that a training is reported on.
_HELDOUT_EXAMPLES = 2000


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="pretrain_audio", description=__doc__)
    parser.add_argument("--config-file", required=True, help="its MODEL.AUDIO.NAME is trained")
    parser.add_argument("--train", nargs="+", default=["demo_s4_train", "demo_ms3_train"])
    parser.add_argument("--val", nargs="+", default=["demo_s4_val", "demo_ms3_val"])
    parser.add_argument(
        "--sounds",
        nargs="+",
        metavar="FOLDER",
        help="train on mixtures of the recordings below these folders instead of --train",
    )
    parser.add_argument(
        "--manifest",
        metavar="FILE.csv",
        help="file, class and split (train, heldout) of each recording (default: manifest.csv "
        "beside the first of --sounds)",
    )
    parser.add_argument(
        "--start", default="", metavar="FILE", help="weights that the encoder starts from"
    )
    parser.add_argument(
        "--mixtures",
        type=int,
        help="clips of 5 s to mix from varied recordings of the demo set, beside those of --train; "
        "0 for other data (default: 1500). With --sounds, examples of 0.96 s (default: 20000)",
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
    # The file of weights and freezing are for the training of TransAVS.
    overrides = ["MODEL.AUDIO.WEIGHTS", args.start, "MODEL.AUDIO.FREEZE", "False"]
    cfg = read_cfg(args.config_file, [*args.opts, *overrides])
    check_output_files(
        {"--output": args.output},
        {"--config-file": args.config_file, "--start": args.start, "--manifest": args.manifest},
    )
    files = read_manifest(_manifest(args), list(map(Path, args.sounds))) if args.sounds else []
    classes = _classes_of(files) if files else _common_classes([*args.train, *args.val])
    if args.mixtures is None:
        args.mixtures = _MIXED_EXAMPLES if files else _MIXED_CLIPS
    mixtures = _mixtures(args.mixtures, classes, args.seed) if args.mixtures and not files else None
    torch.manual_seed(args.seed)
    encoder = build_audio_encoder(cfg)
    on_features = not all(values.requires_grad for values in encoder.parameters())
    if not args.start:
        if on_features:
            raise ValueError(
                f"{cfg.MODEL.AUDIO.NAME} keeps layers that are never trained: name the file of "
                "their weights with --start (tools/convert_checkpoint.py writes YAMNet's)"
            )
        encoder.start_pretraining()
    if files:
        train, validation = _mixed_recordings(files, classes, encoder, on_features, args)
    else:
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
        on_features=on_features and bool(files),
    )
    output = Path(args.output)
    write_bytes(output, safetensors.torch.save(encoder.state_dict()))
    source = {"sounds": args.sounds} if files else {"train": args.train, "val": args.val}
    note = {"classes": classes, **source, "mixtures": args.mixtures, "start": args.start}
    note |= {"steps": args.steps, "learning_rate": args.learning_rate, **scores}
    write_text(output.with_suffix(".json"), json.dumps(note, indent=1) + "\n")
    logger.info(
        "F1 %.1f %%, mAP %.1f %% on %s; weights in %s",
        scores["f1"],
        scores["map"],
        "mixtures of held-out recordings" if files else ", ".join(args.val),
        output,
    )
    return 0


def _manifest(args: argparse.Namespace) -> Path:
    return Path(args.manifest or Path(args.sounds[0]).resolve().parent / "manifest.csv")


def _classes_of(files: Sequence[RecordingFile]) -> list[str]:
    return sorted({file.label for file in files if file.split == "train"})


def _mixed_recordings(
    files: Sequence[RecordingFile],
    classes: Sequence[str],
    encoder: AudioEncoder,
    on_features: bool,
    args: argparse.Namespace,
) -> tuple[LabelledExamples, LabelledExamples]:
    """What is learnt from, and what is reported on: mixtures of recordings of each split."""
    found = []
    for split, count in (("train", args.mixtures), ("heldout", _HELDOUT_EXAMPLES)):
        own = [file for file in files if file.split == split]
        mixtures = RecordingMixtures(own, classes, count, args.seed)
        if on_features:
            vary = ExampleAugmentation() if split == "train" else None
            found.append(collect_features(encoder, mixtures, args.workers, vary))
        else:
            found.append(collect_examples(mixtures, args.workers, "mixing"))
    return found[0], found[1]


def _check(args: argparse.Namespace) -> None:
    least_mixtures = 1 if args.sounds else 0
    for option, least in (
        ("mixtures", least_mixtures),
        ("steps", 1),
        ("batch_size", 1),
        ("workers", 0),
    ):
        if getattr(args, option) is not None and getattr(args, option) < least:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be at least {least}, got {getattr(args, option)}")
    if not 0 < args.learning_rate < math.inf:
        raise ValueError(
            f"--learning-rate must be a finite number above 0, got {args.learning_rate:g}"
        )
    if args.manifest and not args.sounds:
        raise ValueError("--manifest lists recordings: name their folders with --sounds")
    if args.start and not Path(args.start).is_file():
        raise FileNotFoundError(f"--start: no file {args.start}")


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
