"""Write the generated parts of the model zoo page: trainings of ours beside published numbers.

Parts are ``published NAME`` for each group of ``published.yaml``, and ``measured``. Our own rows on
AVSBench stand in the tables of their family of metrics as well, so that they can be compared; a
table holds one size of the groups of clips that share a threshold in M_F.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from transavs.config import setup_cfg
from transavs.engine.robustness import ROBUSTNESS_FILE
from transavs.evaluation import read_results
from transavs.evaluation.results_file import ROBUSTNESS, dataset_names
from transavs.evaluation.summary import F_GROUPS
from transavs.modeling.cost import measure_cost
from transavs.tools.command_line import CommandParser, command, start_logging, write_text
from transavs.utils.package_files import shipped_configs

logger = logging.getLogger(__name__)

OUTDATED = 1
PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
#: Scores of a training, the first that is there.
RESULT_FILES = ("results.json", ROBUSTNESS_FILE)
SUBSETS = ("S4", "MS3", "AVSS")
_PART = re.compile(
    r"^<!-- generated: (?P<name>[\w ]+) -->\n(?P<body>.*?)^<!-- end of generated -->$",
    re.MULTILINE | re.DOTALL,
)
_DASH = "-"
_NOT_STATED = "that are not stated, and may differ from row to row"
# Columns of our own measurements, in percent, and their keys.
_MEASURED = {
    "M_J": "M_J",
    "M_J non-empty": "M_J_nonempty",
    "M_F of 1 clip": "M_F_group_1",
    "M_F of 4 clips": "M_F_group_4",
    "G-mIoU non-empty": "G_mIoU",
    "G-mIoU all frames": "G_mIoU_all_frames",
    "G-F of 4 clips": "G_F_group_4",
}
# Numbers of an entry's size, and their names in benchmarks.
_SIZES = {"parameters": "parameters", "macs": "macs", "limit_macs": "encoder_baseline_macs"}
# What an entry keeps of its scores, beside M_F and G-F at every size of groups.
_SCORES = ("M_J", "M_J_nonempty", "M_F", "class_mIoU_official", "class_F_official")
_SUMMARIES = ("G_mIoU", "G_mIoU_all_frames", "G_F", "FPR")

Entry = dict[str, Any]
#: Of the data file: its title, its family (a mapping), and its rows.
Group = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = CommandParser(
        prog="make_model_zoo.py",
        description="Write the generated parts of the model zoo page. Without --runs from the "
        "files that are there. What stands outside of the page's markers is left alone.",
        epilog="Exit code: 0 done, or up to date; 1 --check found that it is not; 2 a mistake.",
    )
    add = parser.add_argument
    add("--runs", nargs="+", default=[], metavar="DIR",
        help="folders with trainings of train_net.py or ablation.py, at any depth; their scores "
        "replace those in --entries")  # fmt: skip
    add("--page", default="MODEL_ZOO.md", metavar="FILE", help="(default: %(default)s)")
    add("--entries", default="docs/model_zoo.json", metavar="FILE",
        help="what was read from the trainings, for the page (default: %(default)s)")  # fmt: skip
    add("--no-size", action="store_true",
        help="do not count the size of models that have no benchmark.json")  # fmt: skip
    add("--check", action="store_true", help="write nothing; say whether the page is up to date")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes or checks the page; returns the exit code that ``--help`` tells."""
    args = build_parser().parse_args(argv)
    start_logging()
    page, entries_file = Path(args.page).read_text("utf-8"), Path(args.entries)
    if args.runs:
        entries = read_entries(find_runs(args.runs), with_size=not args.no_size)
    else:
        entries = json.loads(entries_file.read_text())["entries"] if entries_file.exists() else []
    filled = fill_page(page, generated_parts(read_published(), entries))
    if args.check:
        logger.info("%s is %sup to date", args.page, "" if filled == page else "not ")
        return 0 if filled == page else OUTDATED
    if args.runs:
        content = {"version": 1, "entries": entries}
        write_text(args.entries, json.dumps(content, indent=1) + "\n")
    write_text(args.page, filled)
    logger.info("Wrote %s with %d models of ours", args.page, len(entries))
    return 0


def read_published(path: Path = PUBLISHED_FILE) -> dict[str, Group]:
    """Returns the groups of the data file by name, each with its rows and its family."""
    data = yaml.safe_load(path.read_text("utf-8"))
    groups: dict[str, Group] = {
        name: {**group, "family": data["families"][group["family"]], "rows": []}
        for name, group in data["groups"].items()
    }
    for row in data["rows"]:
        groups[row["group"]]["rows"].append(row)
    return groups


def find_runs(folders: Iterable[str]) -> list[Path]:
    """Returns the folders of finished trainings, with a config.yaml and scores, at any depth."""
    configs = {path for folder in folders for path in Path(folder).rglob("config.yaml")}
    found = sorted(path.parent for path in configs if _results(path.parent))
    if not found:
        raise FileNotFoundError(
            f"no finished training in {', '.join(folders)}: expected folders with config.yaml and "
            f"{' or '.join(RESULT_FILES)}; evaluate with eval_robustness.py --output"
        )
    return found


def read_entries(runs: Iterable[Path], with_size: bool) -> list[Entry]:
    """Returns an entry for each set of trainings that differ in nothing but their seed.

    Args:
        runs: the folders of trainings.
        with_size: whether to build a model for its size where no benchmark lies in the folder.

    Returns:
        Entries with ``title``, ``config`` (path of the shipped one, or of the one that a grid's row
        overrides, or ""), ``backbone``, ``pixels``, ``folders``, ``scores`` (data set -> seed as
        text -> metric -> value), ``size`` and ``speed_ratio`` (None where not known).
    """
    shipped = {_settings(setup_cfg(name)): f"configs/{name}" for name in shipped_configs()}
    entries: dict[str, Entry] = {}
    for folder in runs:
        try:
            cfg = setup_cfg(str(folder / "config.yaml"))
        except KeyError as error:
            raise ValueError(f"{folder / 'config.yaml'}: {error.args[0]}") from error
        settings = _settings(cfg)
        config = shipped.get(settings, "")
        entry = entries.setdefault(
            settings,
            {
                "title": _title(folder, config),
                "config": config or _config_of_grid(folder),
                "backbone": _backbone(cfg),
                "pixels": int(cfg.INPUT.MIN_SIZE_TEST),
                "folders": [],
                "scores": {},
                "size": None,
                "speed_ratio": None,
            },
        )
        entry["folders"].append(str(folder))
        for name, scores in _scores(folder, cfg.TEST.F_THRESHOLD_BATCH).items():
            by_seed = entry["scores"].setdefault(name, {})
            if str(cfg.SEED) in by_seed:
                raise ValueError(
                    f"{entry['folders'][0]} and {folder} hold the same training (seed {cfg.SEED} "
                    f"on {name}): name one of them"
                )
            by_seed[str(cfg.SEED)] = scores
        if (folder / "benchmark.json").is_file():
            benchmark = json.loads((folder / "benchmark.json").read_text("utf-8"))
            for cost in benchmark.get("size", []):
                entry["size"] = {key: int(cost[name]) for key, name in _SIZES.items()}
            for found in benchmark.get("inference", []):
                if found["batch"] == 1:
                    entry["speed_ratio"] = found["ratio"]
    for entry in entries.values():
        if entry["size"] is None and with_size:
            entry["size"] = _measured_size(setup_cfg(f"{entry['folders'][0]}/config.yaml"))
    return list(entries.values())


def _settings(cfg: CfgNode) -> str:
    """All settings that make two trainings different, beside the seed."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED, cfg.OUTPUT_DIR, cfg.DATASETS.TEST = 0, "", ()
    cfg.TEST.ROBUSTNESS, cfg.MODEL.BACKBONE.CACHE = (), ""
    cfg.DATALOADER.NUM_WORKERS = 0
    return str(cfg.dump())


def _title(folder: Path, config: str) -> str:
    """The config's name; in a grid's folder (``runs/ROW/seed_0``) also the row's."""
    if config:
        return Path(config).stem
    if folder.parent.parent.name == "runs":
        return f"{folder.parent.parent.parent.name}: {folder.parent.name}"
    return folder.name


def _config_of_grid(folder: Path) -> str:
    """Path of the shipped config that a grid's row overrides; "" where that is not known."""
    if not (folder / "run.json").is_file():
        return ""
    words = json.loads((folder / "run.json").read_text("utf-8"))["command"]
    path = Path(words[words.index("--config-file") + 1]).as_posix()
    named = [name for name in shipped_configs() if f"/{path}".endswith(f"/configs/{name}")]
    return f"configs/{named[0]}" if named else ""


def _backbone(cfg: CfgNode) -> str:
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone":
        return str(cfg.MODEL.TIMM.NAME)
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone":
        return f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"
    return str(cfg.MODEL.BACKBONE.NAME).removeprefix("build_").removesuffix("_backbone")


def _results(folder: Path) -> Path | None:
    paths = [folder / name for name in RESULT_FILES]
    return next((path for path in paths if path.is_file()), None)


def _scores(folder: Path, f_clips: int) -> dict[str, dict[str, float]]:
    """The scores of a training, by data set.

    Args:
        folder: the training's.
        f_clips: clips that shared a threshold in M_F, where the file is too old to tell.
    """
    path = _results(folder)
    assert path is not None
    results = read_results(path)
    found: dict[str, dict[str, float]] = {}
    for name in dataset_names(results):
        own, summary = results[name].get("original", {}), results.get(ROBUSTNESS, {}).get(name, {})
        group = own.get("M_F_group", f_clips)
        known = {**own, **summary, f"M_F_group_{group}": own.get("M_F")}
        if "class_mIoU_foreground" not in own:  # with classes, G_F knows no threshold
            known[f"G_F_group_{group}"] = summary.get("G_F")
        of_groups = [key for key in known if key.startswith(("M_F_group_", "G_F_group_"))]
        keys = (*_SCORES, *sorted(of_groups, reverse=True), *_SUMMARIES)
        found[name] = {key: known[key] for key in keys if known.get(key) is not None}
    return found


def _measured_size(cfg: CfgNode) -> dict[str, int]:
    """Size of a configuration's model, with random weights on the CPU."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.MODEL.AUDIO.WEIGHTS = cfg.MODEL.TIMM.WEIGHTS = ""
    pixels = int(cfg.INPUT.MIN_SIZE_TEST)
    seconds = int(cfg.INPUT.CLIP_SECONDS)
    cost = measure_cost(cfg, build_model(cfg), seconds, (pixels, pixels))
    return {key: getattr(cost, name) for key, name in _SIZES.items()}


def fill_page(page: str, parts: Mapping[str, str]) -> str:
    """Returns a page with its generated parts written anew; the rest stays as it is.

    A part stands between ``<!-- generated: NAME -->`` and ``<!-- end of generated -->``, each on a
    line of its own. ValueError for a part that there is none of, or that has no end.
    """
    names = [match["name"] for match in _PART.finditer(page)]
    unknown = [name for name in names if name not in parts]
    if unknown or not names or page.count("<!-- generated:") != len(names):
        raise ValueError(
            f"the page asks for {', '.join(names) or 'no part'}: expected some of "
            f"{', '.join(parts)}, each with <!-- end of generated --> behind it"
        )
    return _PART.sub(
        lambda match: (
            f"<!-- generated: {match['name']} -->\n\n{parts[match['name']].strip()}\n\n"
            "<!-- end of generated -->"
        ),
        page,
    )


def generated_parts(published: Mapping[str, Group], entries: Sequence[Entry]) -> dict[str, str]:
    """Returns the text of each generated part, by its name."""
    parts = {f"published {name}": _tables(group, entries) for name, group in published.items()}
    return parts | {"measured": _measured_tables(entries)}


def _tables(group: Group, entries: Sequence[Entry]) -> str:
    """The tables of a group: one for each number of clips that share a threshold in M_F."""
    if "M_F" not in group["family"]["values"]:
        return _table(group, group["rows"], [], None)
    sizes = {*F_GROUPS, *(row.get("f_clips") for row in group["rows"])}
    tables = []
    for f_clips in sorted(sizes, key=lambda size: (size is None, size or 0)):
        rows = [row for row in group["rows"] if row.get("f_clips") == f_clips]
        # A table of rows that do not say is none to compare with.
        m_f, data_sets = f"M_F_group_{f_clips}", group["family"]["data_sets"]
        names = [n for s, n in data_sets.items() if any(s in row for row in group["rows"])]
        of_name = [(e, e["scores"].get(name, {}).values()) for e in entries for name in names]
        ours = [e for e, found in of_name if f_clips and any(m_f in scores for scores in found)]
        ours = [entry for entry in entries if entry in ours]
        if rows or ours:
            tables.append(_table(group, rows, ours, f_clips))
    return "\n\n".join(tables)


def _table(group: Group, rows: Sequence[Any], ours: Sequence[Entry], f_clips: int | None) -> str:
    """One table: published rows, and below them entries of ours."""
    family = group["family"]
    subsets = [s for s in SUBSETS if any(s in row for row in group["rows"])]
    # A subset's cells may hold other metrics than the family's: their titles, and our names.
    metrics = {
        s: family.get("others", {}).get(s, {value: value for value in family["values"]})
        for s in subsets
    }
    title = f"{group['title']} ({family['title']})"
    columns, own = ["method", "backbone", "pixels"], []
    if "M_F" in family["values"]:
        columns.insert(2, "M_F group")
        own = [str(f_clips) if f_clips else "not stated"]
        size = f"of {f_clips} clip{'s' if f_clips > 1 else ''}" if f_clips else _NOT_STATED
        title += f", M_F at groups {size}"
    lines = []
    for row in rows:
        cells = [cell for s in subsets for cell in row.get(s, [None] * len(family["values"]))]
        links = ", ".join(f"[{s}]({path})" for s, path in row.get("configs", {}).items())
        status = "published" if row["read"] == "primary" else "published, read second-hand"
        notes = [row.get("note", ""), links and f"config here: {links}"]
        lines.append(
            [row["method"], row["backbone"], *own, _text(row["pixels"]), *map(_text, cells)]
            + [status, "; ".join(filter(None, notes))]
        )
    for entry in ours:
        cells_of_ours = [
            _mean_and_spread(
                entry,
                family["data_sets"].get(s, ""),
                f"M_F_group_{f_clips}" if key == "M_F" else key,
            )
            for s in subsets
            for key in metrics[s].values()
        ]
        seeds = {seed for by_seed in entry["scores"].values() for seed in by_seed}
        status = f"measured, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        start = [f"**{_linked(entry)}**", entry["backbone"], *own, str(entry["pixels"])]
        lines.append([*start, *cells_of_ours, status, ""])
    columns += [f"{s} {name}" for s in subsets for name in metrics[s]]
    return f"{title}:\n\n{_markdown([*columns, 'status', 'notes'], lines)}"


def _measured_tables(entries: Sequence[Entry]) -> str:
    parts = []
    for name in sorted({name for entry in entries for name in entry["scores"]}):
        rows = []
        for entry in [entry for entry in entries if name in entry["scores"]]:
            size = entry["size"] or {}
            row = [_linked(entry), entry["backbone"], str(entry["pixels"])]
            row.append(", ".join(sorted(entry["scores"][name], key=int)))
            row += [_mean_and_spread(entry, name, key) for key in _MEASURED.values()]
            row.append(_mean_and_spread(entry, name, "FPR", factor=100, digits=2))
            for key, unit in (("parameters", 1e6), ("macs", 1e9)):
                row.append(_text(size[key] / unit) if key in size else _DASH)
            rows.append([*row, _text(entry["speed_ratio"], 2), "measured"])
        columns = ["model", "backbone", "pixels", "seeds", *_MEASURED]
        columns += ["false pixels %", "parameters, M", "MACs, G", "x encoders", "status"]
        parts.append(f"`{name}`:\n\n{_markdown(columns, rows)}")
    return "\n\n".join(parts) or "None yet."


def _linked(entry: Entry) -> str:
    return f"[{entry['title']}]({entry['config']})" if entry["config"] else str(entry["title"])


def _mean_and_spread(
    entry: Entry, data_set: str, key: str, factor: float = 1.0, digits: int = 1
) -> str:
    """Mean over the seeds, with their sample standard deviation where there are several."""
    found = entry["scores"].get(data_set, {}).values()
    values = [factor * scores[key] for scores in found if scores.get(key) is not None]
    if not values:
        return _DASH
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _text(value: float | int | None, digits: int = 1) -> str:
    if value is None:
        return _DASH
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
