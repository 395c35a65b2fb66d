"""Write a page that shows what trained models segmented, and why: pictures, sounds and scores."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path

from detectron2.data import MetadataCatalog
from matplotlib.figure import Figure

from transavs.data import AVSDatasetMapper, load_records, with_condition
from transavs.engine.trained_model import load_trained_model
from transavs.evaluation import read_results
from transavs.tools import report_page
from transavs.tools.clip_story import StoryTeller, choose_clips
from transavs.tools.command_line import CommandParser, command, read_cfg, start_logging, write_text
from transavs.tools.visualize import check_cell_width, file_stem, save_picture
from transavs.utils.progress import progress_bar
from transavs.visualization import draw_run_curves, draw_score_histogram, read_metrics

logger = logging.getLogger(__name__)

TITLE = "TransAVS: what it heard, and what it marked"
CONDITIONS = ("original", "shuffled", "silence")
# Of the files that a page has; names hold "__".
_SUFFIXES = (".png", ".svg", ".wav")


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(prog="demo_report.py", description=__doc__)
    parser.add_argument(
        "--results", required=True, metavar="FILE", help="JSON file that eval_robustness.py wrote"
    )
    parser.add_argument(
        "--model",
        nargs=3,
        action="append",
        required=True,
        metavar=("DATASET", "CONFIG", "WEIGHTS"),
        help="a data set and the trained model to show on it; may be repeated. The training "
        "curves come from metrics.json beside the weights, if it is there",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.html")
    parser.add_argument(
        "--clips", type=int, default=6, help="clips of each data set: best, median, worst, random"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of random clips and of the exchanged sounds"
    )
    parser.add_argument(
        "--cell-width",
        type=int,
        default=192,
        metavar="PIXELS",
        help="width of a frame (%(default)s)",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="config overrides for all models: KEY VALUE ..."
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page; returns the exit code (2 for a mistake in the arguments)."""
    args = build_parser().parse_args(argv)
    start_logging()
    if args.clips < 1:
        raise ValueError(f"--clips must be 1 or more, got {args.clips}")
    check_cell_width(args.cell_width)
    results = read_results(args.results)
    report = _Report(args.output, args.clips, args.seed, args.cell_width)
    titles, sections = {}, []
    for dataset, config_file, weights in args.model:
        sections += report.model_section(dataset, config_file, weights, args.opts)
        titles[dataset] = _title_of(dataset)
    parts = [
        report_page.introduction(),
        report_page.scores_section(results, titles),
        *sections,
    ]
    write_text(args.output, report_page.page(TITLE, parts))
    report.remove_leftovers()
    logger.info("Page in %s", args.output)
    return 0


class _Report:
    """Writes the files of a page and returns its HTML parts.

    Args:
        output: the page; its pictures and sounds go to the folder ``<name>_files`` beside it.
        clips: how many of each data set.
        seed: see the command line.
        cell_width: of a frame in the pictures, in pixels.
    """

    def __init__(self, output: Path, clips: int, seed: int, cell_width: int) -> None:
        self._cell_width = cell_width
        self._shown: set[str] = set()
        self._folder = output.with_name(f"{output.stem}_files")
        self._clips = clips
        self._seed = seed
        self._folder.mkdir(parents=True, exist_ok=True)

    def model_section(
        self, dataset: str, config_file: str, weights: str, opts: Sequence[str]
    ) -> list[str]:
        """The parts about one model on one data set."""
        cfg = read_cfg(config_file, opts)
        records = load_records(dataset)
        model = load_trained_model(cfg, weights)
        mapper = AVSDatasetMapper(cfg, is_train=False)
        teller = StoryTeller(model, mapper, dataset, cfg.INPUT.FORMAT)
        scores = [
            teller.clip_jaccard(record)
            for record in progress_bar(records, f"looking at {dataset}", "clip")
        ]
        chosen = choose_clips(scores, self._clips, self._seed)
        known = [score for score in scores if score is not None]
        parts = [f"<h2>{escape(_title_of(dataset))}</h2>"]
        parts += self._curves(dataset, weights)
        if known:
            marks = [score for index, _ in chosen if (score := scores[index]) is not None]
            histogram = self._save_figure(
                draw_score_histogram(known, marks), f"{dataset}__clips.svg"
            )
            parts.append(
                report_page.figure(
                    histogram, f"All {len(known)} clips by score; triangles mark those below."
                )
            )
        parts.append(report_page.table_meanings())

        # The exchange of sounds is that of eval_robustness with the same seed; a single clip has
        # nobody to exchange with.
        conditions = [name for name in CONDITIONS if name != "shuffled" or len(records) > 1]
        changed = {name: with_condition(records, name, self._seed) for name in conditions}
        for index, why in progress_bar(chosen, f"drawing {dataset}", "clip"):
            clip_id = records[index]["clip_id"]
            stem = f"{dataset}__{file_stem(clip_id)}"
            parts.append('<div class="clip">')
            for name in conditions:
                hearing = teller.hear(changed[name][index], name, self._cell_width)
                if name == conditions[0]:
                    parts.append(report_page.clip_heading(clip_id, why, len(known), hearing))
                picture = f"{stem}__{name}.png"
                save_picture(self._folder / picture, hearing.picture)
                audio = None
                if hearing.audio_file is not None:
                    audio = self._copy_sound(hearing.audio_file, f"{stem}__{name}")
                parts.append(report_page.hearing_section(hearing, self._link(picture), audio))
            parts.append("</div>")
        return parts

    def remove_leftovers(self) -> None:
        """Deletes what earlier runs wrote for their pages and this page does not show."""
        for path in self._folder.iterdir():
            ours = "__" in path.name and path.suffix in _SUFFIXES
            if ours and path.name not in self._shown:
                path.unlink()

    def _curves(self, dataset: str, weights: str) -> list[str]:
        path = os.path.join(os.path.dirname(weights), "metrics.json")
        if not os.path.isfile(path):
            logger.warning("no %s: the page has no training curves of %s", path, dataset)
            return []
        metrics = read_metrics(path)
        link = self._save_figure(draw_run_curves(metrics), f"{dataset}__curves.svg")
        return [report_page.figure(link, "How training went.")]

    def _save_figure(self, figure: Figure, name: str) -> str:
        figure.savefig(self._folder / name, metadata={"Date": None})
        return self._link(name)

    def _copy_sound(self, path: str, stem: str) -> str:
        name = f"{stem}{os.path.splitext(path)[1]}"
        shutil.copyfile(path, self._folder / name)
        return self._link(name)

    def _link(self, name: str) -> str:
        self._shown.add(name)
        return f"{self._folder.name}/{name}"


def _title_of(dataset: str) -> str:
    metadata = MetadataCatalog.get(dataset)
    return f"{metadata.spec.title}, {metadata.split}"


if __name__ == "__main__":
    raise SystemExit(main())
