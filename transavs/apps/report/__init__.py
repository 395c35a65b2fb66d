"""Write a page that shows what trained models segmented, and why: pictures, sounds and scores."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog
from matplotlib.figure import Figure

from transavs.apps.report.clip_analysis import ClipAnalyzer, choose_clips
from transavs.apps.report.page import ModelSection, ShownClip, render_page
from transavs.data import AVSDatasetMapper, load_records, with_condition
from transavs.engine.trained_model import load_trained_model
from transavs.evaluation import read_results
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
    """Returns the parser of the command line."""
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
        "--cell-width", type=int, default=192, metavar="PIXELS", help="of a frame (%(default)s)"
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
    files = _PageFiles(args.output)
    sections = [_model_section(files, *words, args=args) for words in args.model]
    titles = {dataset: _title_of(dataset) for dataset, *_ in args.model}
    write_text(args.output, render_page(TITLE, results, titles, sections))
    files.remove_leftovers()
    logger.info("Page in %s", args.output)
    return 0


class _PageFiles:
    """The pictures and sounds of a page, in the folder ``<name>_files`` beside it."""

    def __init__(self, page: Path) -> None:
        self._shown: set[str] = set()
        self._folder = page.with_name(f"{page.stem}_files")
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str) -> tuple[Path, str]:
        """Returns the path to write a file to, and the page's link to it."""
        self._shown.add(name)
        return self._folder / name, f"{self._folder.name}/{name}"

    def add_figure(self, figure: Figure, name: str) -> str:
        """Writes a figure and returns the link to it."""
        path, link = self.add(name)
        figure.savefig(path, metadata={"Date": None})
        return link

    def remove_leftovers(self) -> None:
        """Deletes what earlier runs wrote for their pages and this page does not show."""
        for path in self._folder.iterdir():
            ours = "__" in path.name and path.suffix in _SUFFIXES
            if ours and path.name not in self._shown:
                path.unlink()


def _model_section(
    files: _PageFiles, dataset: str, config_file: str, weights: str, *, args: argparse.Namespace
) -> ModelSection:
    """Returns what the page shows of one model on one data set, and writes its files."""
    cfg = read_cfg(config_file, args.opts)
    records = load_records(dataset)
    model, mapper = load_trained_model(cfg, weights), AVSDatasetMapper(cfg, is_train=False)
    analyzer = ClipAnalyzer(model, mapper, dataset, cfg.INPUT.FORMAT)
    scores = [
        analyzer.clip_jaccard(record)
        for record in progress_bar(records, f"looking at {dataset}", "clip")
    ]
    chosen = choose_clips(scores, args.clips, args.seed)
    known = [score for score in scores if score is not None]
    section = ModelSection(_title_of(dataset), len(known), [], [])
    metrics = os.path.join(os.path.dirname(weights), "metrics.json")
    if os.path.isfile(metrics):
        curves = draw_run_curves(read_metrics(metrics))
        link = files.add_figure(curves, f"{dataset}__curves.svg")
        section.figures.append((link, "How training went."))
    else:
        logger.warning("no %s: the page has no training curves of %s", metrics, dataset)
    if known:
        marks = [score for index, _ in chosen if (score := scores[index]) is not None]
        link = files.add_figure(draw_score_histogram(known, marks), f"{dataset}__clips.svg")
        caption = f"All {len(known)} clips by score; triangles mark those below."
        section.figures.append((link, caption))
    # The exchange of sounds is that of eval_robustness with the same seed; a single clip has
    # nobody to exchange with.
    conditions = [name for name in CONDITIONS if name != "shuffled" or len(records) > 1]
    changed = {name: with_condition(records, name, args.seed) for name in conditions}
    for index, why in progress_bar(chosen, f"drawing {dataset}", "clip"):
        clip = ShownClip(records[index]["clip_id"], why)
        for name in conditions:
            analysis = analyzer.analyze(changed[name][index], name, args.cell_width)
            stem = f"{dataset}__{file_stem(clip.clip_id)}__{name}"
            path, picture = files.add(f"{stem}.png")
            save_picture(path, analysis.picture)
            audio = None
            if analysis.audio_file is not None:
                path, audio = files.add(stem + os.path.splitext(analysis.audio_file)[1])
                shutil.copyfile(analysis.audio_file, path)
            clip.analyses.append((analysis, picture, audio))
        section.clips.append(clip)
    return section


def _title_of(dataset: str) -> str:
    metadata = MetadataCatalog.get(dataset)
    return f"{metadata.spec.title}, {metadata.split}"
