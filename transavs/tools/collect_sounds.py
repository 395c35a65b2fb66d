"""Collect recordings and cut-outs from Debian packages, for composing scenes."""

from __future__ import annotations

import argparse
import csv
import io
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from transavs.data.demo import classes_named, load_real_assets, provide_packages
from transavs.data.demo.clip_writer import write_file
from transavs.data.demo.packages import STAMPS, UnpackedPackage
from transavs.data.demo.sounds import SAMPLE_RATE, prepare_recording
from transavs.synthetic.instruments import INSTRUMENTS, render_phrases
from transavs.tools.command_line import CommandParser, command
from transavs.utils.progress import progress_bar

logger = logging.getLogger(__name__)

UNAVAILABLE = 1

# Languages whose speakers are held out.
_HELD_OUT_LANGUAGES = ("da", "lt", "nl", "ml")
_HELD_OUT_SHARE = 0.25  # of the number of training recordings

Row = tuple[str, str, str, str, str]
"""File, kind, class, split, source."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the collection; returns the exit code: 0, 1 where packages or fluidsynth fail, 2 for a
    mistake of the user's, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    root: Path = arguments.output
    try:
        rows: list[Row] = []
        if not arguments.no_packages:
            unpacked = provide_packages(arguments.packages or root / "packages")
            rows += _write_demo_assets(root, unpacked)
            rows += _write_speech(root, unpacked[STAMPS.name], arguments.speech, arguments.seed)
        for part, soundfont in (("train", arguments.soundfont), ("heldout", arguments.heldout)):
            if soundfont is not None:
                rows += _write_instruments(root, soundfont, part, arguments.phrases, arguments.seed)
    except RuntimeError as error:
        logger.error("%s", error)
        return UNAVAILABLE
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("file", "kind", "class", "split", "source"))
    writer.writerows(sorted(rows))
    write_file(root / "manifest.csv", table.getvalue().encode())
    logger.info("Collected %d files in %s", len(rows), root)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="collect_sounds.py",
        description="Write FOLDER/sounds/CLASS, FOLDER/cutouts/CLASS and FOLDER/manifest.csv: "
        "speech, animals and things of the demo set's Debian packages (214 MB, downloaded without "
        "installing them), and instruments played from a soundfont.",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--packages", type=Path, metavar="FOLDER", help="cache of the packages (OUTPUT/packages)"
    )
    parser.add_argument("--no-packages", action="store_true", help="instruments alone")
    parser.add_argument(
        "--soundfont", type=Path, metavar="SF2", help="instruments of the training recordings"
    )
    parser.add_argument(
        "--heldout", type=Path, metavar="SF2", help="instruments of the held-out recordings"
    )
    parser.add_argument("--phrases", type=int, default=32, help="of each instrument (32)")
    parser.add_argument("--speech", type=int, default=400, help="spoken recordings (400)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _write_ogg(root: Path, name: str, file: str, samples: np.ndarray) -> str:
    path = f"sounds/{name}/{file}.ogg"
    data = io.BytesIO()
    soundfile.write(data, samples, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    write_file(root / path, data.getvalue())
    return path


def _write_demo_assets(root: Path, unpacked: dict[str, UnpackedPackage]) -> Iterator[Row]:
    for each in load_real_assets(unpacked, classes_named("all")).classes:
        name = each.name.replace(" ", "_").replace("/", "_")
        for number, picture in enumerate(each.pictures):
            path = f"cutouts/{name}/{number:03d}.png"
            data = io.BytesIO()
            Image.fromarray(picture.rgba).save(data, "PNG")
            write_file(root / path, data.getvalue())
            yield path, "cutout", name, "train", picture.reference
        recordings = [(recording, "train") for recording in each.recordings]
        recordings += [(each.held_out, "heldout")] if each.held_out is not None else []
        for number, (recording, part) in enumerate(recordings):
            path = _write_ogg(root, name, f"demo_{number:03d}", recording.samples)
            yield path, "sound", name, part, recording.reference


def _write_speech(root: Path, stamps: UnpackedPackage, count: int, seed: int) -> Iterator[Row]:
    """Spoken descriptions of stamps in about a dozen languages, as many of each as there are."""
    by_language: dict[str, list[Path]] = {}
    for path in sorted(stamps.folder.rglob("*_desc*.ogg")):
        found = re.search(r"_desc_?([a-z]*)\.ogg$", path.name)
        if found is not None:
            by_language.setdefault(found.group(1) or "en", []).append(path)
    rng = np.random.default_rng(seed)
    number = 0
    for language, files in by_language.items():
        part = "heldout" if language in _HELD_OUT_LANGUAGES else "train"
        for i in rng.permutation(len(files))[: count // max(1, len(by_language))]:
            samples, rate = soundfile.read(files[i], dtype="float32", always_2d=True)
            if rate < SAMPLE_RATE or not np.abs(samples).max(initial=0) > 0.01:
                continue
            recording = prepare_recording(files[i].name, samples.mean(axis=1), rate)
            number += 1
            file = _write_ogg(root, "speech", f"{language}_{number:03d}", recording.samples)
            yield file, "sound", "speech", part, f"{STAMPS.name}:{files[i].name}"


def _write_instruments(
    root: Path, soundfont: Path, part: str, phrases: int, seed: int
) -> Iterator[Row]:
    count = phrases if part == "train" else max(1, round(phrases * _HELD_OUT_SHARE))
    for index, (name, instrument) in enumerate(progress_bar(INSTRUMENTS.items(), part, "class")):
        rng = np.random.default_rng([seed, part == "train", index])
        for number, phrase in enumerate(render_phrases(instrument, soundfont, count, rng)):
            path = _write_ogg(root, name, f"{part}_{number:03d}", phrase)
            yield path, "sound", name, part, f"{soundfont.name}, played by fluidsynth"


if __name__ == "__main__":
    raise SystemExit(main())
