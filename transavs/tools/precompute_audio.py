"""Write the embeddings of a frozen audio encoder for all sounds of some data sets, once."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from transavs.audio import AudioEncoder, EmbeddingStore, FrontEnd, build_audio_encoder
from transavs.audio.embedding_store import entry_name, write_store
from transavs.data import load_records
from transavs.data.audio_files import read_wav_examples
from transavs.engine.trained_model import check_device, load_trained_model
from transavs.tools.command_line import (
    CommandParser,
    check_output_files,
    command,
    read_cfg,
    split_names,
    start_logging,
)
from transavs.utils.folder_lock import lock_file
from transavs.utils.progress import progress_bar
from transavs.utils.whole_files import make_folder

logger = logging.getLogger(__name__)

Sound = tuple[str, int]


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="precompute_audio.py",
        description=f"{__doc__} INPUT.AUDIO_EMBEDDINGS reads the file. What it holds already is "
        "kept, so that an interrupted run goes on, and further data sets can be added.",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--datasets",
        metavar="NAMES",
        help="registered names, with commas between (default: all of DATASETS in the config)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a trained model, whose encoder is taken (default: MODEL.AUDIO.WEIGHTS)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE.safetensors",
        help="default: INPUT.AUDIO_EMBEDDINGS",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that read sounds")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    cfg = read_cfg(args.config_file, args.opts)
    output = args.output or cfg.INPUT.AUDIO_EMBEDDINGS
    if not output.endswith(".safetensors"):
        raise ValueError(f"name --output FILE.safetensors, got {output!r}")
    if cfg.INPUT.AUDIO_SOURCE != "wav":
        raise ValueError("embeddings are computed from sound files: set INPUT.AUDIO_SOURCE wav")
    if args.workers < 0:
        raise ValueError(f"--workers must be at least 0, got {args.workers}")
    check_output_files({"--output": output}, {"--weights": args.weights})
    names = split_names(args.datasets) if args.datasets else _configured_sets(cfg)
    if not names:
        raise ValueError("no data sets: name --datasets, or DATASETS in the configuration")
    sounds = _sounds(names)
    encoder = _frozen_encoder(cfg, args.weights)
    make_folder(os.path.dirname(os.path.abspath(output)))
    with lock_file(output):
        _add(encoder, sounds, names, output, args.workers)
    return 0


def _add(
    encoder: AudioEncoder,
    sounds: dict[str, Sound],
    names: Sequence[str],
    output: str,
    workers: int,
) -> None:
    """Adds to the file what it lacks."""
    held = _held(output, encoder.identity())
    missing = {name: sound for name, sound in sounds.items() if name not in held}
    logger.info("%d sounds of %s, %d to embed", len(sounds), ", ".join(names), len(missing))
    computed: dict[str, Tensor] = {}
    try:
        _embed(encoder, missing, workers, computed)
    finally:
        # After Ctrl-C, too: the next run goes on from here.
        if computed:
            note = f"torch {torch.__version__} on {device_of(encoder).type}"
            write_store(output, held | computed, encoder.identity(), note)
            logger.info("%d embeddings in %s", len(held | computed), output)


def _configured_sets(cfg: CfgNode) -> list[str]:
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST]
    return list(dict.fromkeys(names))


def _sounds(names: Sequence[str]) -> dict[str, Sound]:
    """Entry -> (sound file, seconds); clips with the same sound share an entry."""
    records = [record for name in names for record in load_records(name)]
    sounds = {}
    for record in progress_bar(records, "hashing", "clip", leave=False):
        file, seconds = record["audio_file"], len(record["file_names"])
        sounds[entry_name(file, seconds)] = (file, seconds)
    return sounds


def _frozen_encoder(cfg: CfgNode, weights: str | None) -> AudioEncoder:
    check_device(cfg)
    file = cfg.MODEL.AUDIO.WEIGHTS
    if weights:
        model = load_trained_model(cfg, weights)
        encoder: AudioEncoder = model.get_submodule("audio_encoder")  # type: ignore[assignment]
    else:
        encoder = build_audio_encoder(cfg)
        if encoder.state_dict() and not os.path.isfile(file):
            raise FileNotFoundError(
                f"no weights of {cfg.MODEL.AUDIO.NAME} at MODEL.AUDIO.WEIGHTS {file!r}: embeddings "
                "of a random encoder mean nothing. Name the file, or a trained model with --weights"
            )
    if not encoder.frozen:
        raise ValueError("only a frozen encoder keeps its embeddings: set MODEL.AUDIO.FREEZE True")
    return encoder.to(torch.device(cfg.MODEL.DEVICE))


def _held(output: str, identity: str) -> dict[str, Tensor]:
    """What the file holds already."""
    if not os.path.exists(output):
        return {}
    store = EmbeddingStore(output)
    if store.identity != identity:
        raise ValueError(
            f"{output} holds embeddings of another encoder: {store.identity!r}, this one is "
            f"{identity!r}. Delete it, or name another --output"
        )
    return store.entries()


class _Examples(Dataset[tuple[str, Tensor]]):
    def __init__(self, sounds: dict[str, Sound], front_end: FrontEnd) -> None:
        self._sounds = list(sounds.items())
        self._front_end = front_end

    def __len__(self) -> int:
        return len(self._sounds)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        name, (file, seconds) = self._sounds[index]
        return name, read_wav_examples(file, seconds, self._front_end)


def _embed(
    encoder: AudioEncoder, sounds: dict[str, Sound], workers: int, computed: dict[str, Tensor]
) -> None:
    """Adds entry -> embeddings ``[T, D]`` to ``computed``, clip by clip as the model does."""
    loader = DataLoader(
        _Examples(sounds, encoder.front_end),
        batch_size=None,
        num_workers=min(workers, len(sounds)),
    )
    device = device_of(encoder)
    for name, examples in progress_bar(loader, "embedding", "sound", total=len(sounds)):
        computed[name] = encoder(examples.to(device)).float().cpu()


def device_of(encoder: AudioEncoder) -> torch.device:
    """Returns the device of an encoder, the CPU of one without tensors."""
    tensors = list(encoder.state_dict().values())
    return tensors[0].device if tensors else torch.device("cpu")


if __name__ == "__main__":
    raise SystemExit(main())
