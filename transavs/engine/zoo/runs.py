"""What the folders of trainings say: scores of each seed, size and speed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from transavs.config import setup_cfg
from transavs.engine.robustness import ORIGINAL, ROBUSTNESS_FILE
from transavs.evaluation.results_file import ROBUSTNESS, dataset_names, read_results
from transavs.utils.package_files import shipped_configs

#: Of ``tools/benchmark.py --output``, in the folder of a training.
BENCHMARK_FILE = "benchmark.json"
#: Numbers of an entry's size, and their names in that file.
_SIZES = {"parameters": "parameters", "macs": "macs", "limit_macs": "encoder_baseline_macs"}
#: Scores of a training, the first that is there.
RESULT_FILES = ("results.json", ROBUSTNESS_FILE)
#: Keys of the scores under the own sound.
SCORES = ("M_J", "M_J_nonempty", "M_F", "class_mIoU_official", "class_F_official")
#: Keys of the summary over false sounds.
SUMMARIES = ("G_mIoU", "G_mIoU_all_frames", "G_F", "FPR")
#: How the keys of M_F and of G-F begin that name how many clips share a threshold.
F_GROUP_KEYS = ("M_F_group_", "G_F_group_")

Entry = dict[str, Any]


def find_runs(folders: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Returns all folders of finished trainings at or below the given ones, sorted.

    Such a folder holds ``config.yaml``, which ``train_net`` writes, and one of ``RESULT_FILES``.

    Raises:
        FileNotFoundError: no such folder, or no finished training in any of them.
    """
    found: set[Path] = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        configs = [folder / "config.yaml", *folder.rglob("config.yaml")]
        found |= {path.parent for path in configs if path.is_file() and _results(path.parent)}
    if not found:
        raise FileNotFoundError(
            f"no finished training in {', '.join(map(str, folders))}: expected folders with "
            f"config.yaml and {' or '.join(RESULT_FILES)}. Evaluate a model of train_net.py with "
            "eval_robustness.py --output FOLDER/results.json, or train with TEST.ROBUSTNESS"
        )
    return sorted(found)


def read_entries(
    runs: Iterable[Path], measure: Callable[[CfgNode], Mapping[str, Any]] | None = None
) -> list[Entry]:
    """Returns an entry for each set of trainings that differ in nothing but their seed.

    Args:
        runs: folders of :func:`find_runs`.
        measure: returns the size ("parameters", "macs", "limit_macs") of a configuration's model
            where no benchmark lies in the folder; None leaves it out.

    Returns:
        Entries with ``title``, ``config`` (path of the shipped one, or of the one that a grid's row
        overrides, or ""), ``backbone``, ``pixels``, ``folders``, ``scores`` (data set -> seed as
        text -> metric -> value), ``size`` and ``speed_ratio`` (None where not known).

    Raises:
        ValueError: a file is broken, or two folders hold the same training.
    """
    entries: dict[str, Entry] = {}
    shipped = _shipped_settings()
    for folder in runs:
        try:
            cfg = setup_cfg(str(folder / "config.yaml"))
        except KeyError as error:
            raise ValueError(
                f"{folder / 'config.yaml'}: {error.args[0]}; another version of the code made this "
                "training: leave its folder out"
            ) from error
        settings = _settings(cfg)
        if settings not in entries:
            entries[settings] = _new_entry(folder, cfg, shipped.get(settings, ""))
            entries[settings]["config"] = entries[settings]["config"] or _config_of_grid(folder)
        entry = entries[settings]
        entry["folders"].append(str(folder))
        for name, scores in _scores(folder, cfg.TEST.F_THRESHOLD_BATCH).items():
            by_seed = entry["scores"].setdefault(name, {})
            if str(cfg.SEED) in by_seed:
                raise ValueError(
                    f"{entry['folders'][0]} and {folder} hold the same training (seed {cfg.SEED} "
                    f"on {name}): name one of them"
                )
            by_seed[str(cfg.SEED)] = scores
        _add_benchmark(entry, folder)
    for settings, entry in entries.items():
        if entry["size"] is None and measure is not None:
            cfg = setup_cfg(str(Path(entry["folders"][0]) / "config.yaml"))
            assert _settings(cfg) == settings
            size = measure(cfg)
            entry["size"] = {key: size[key] for key in ("parameters", "macs", "limit_macs")}
    return list(entries.values())


def _new_entry(folder: Path, cfg: CfgNode, config: str) -> Entry:
    return {
        "title": _title(folder, config),
        "config": config,
        "backbone": _backbone(cfg),
        "pixels": int(cfg.INPUT.MIN_SIZE_TEST),
        "folders": [],
        "scores": {},
        "size": None,
        "speed_ratio": None,
    }


def _title(folder: Path, config: str) -> str:
    """The config's name; in a grid's folder (``runs/ROW/seed_0``) also the row's."""
    if config:
        return Path(config).stem
    if folder.parent.parent.name == "runs":
        return f"{folder.parent.parent.parent.name}: {folder.parent.name}"
    return folder.name


def _config_of_grid(folder: Path) -> str:
    """Path of the shipped config that a grid's row overrides; "" where that is not known."""
    try:
        words = json.loads((folder / "run.json").read_text(encoding="utf-8"))["command"]
        path = Path(words[words.index("--config-file") + 1]).as_posix()
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return ""
    named = [name for name in shipped_configs() if f"/{path}".endswith(f"/configs/{name}")]
    return f"configs/{named[0]}" if named else ""


def _backbone(cfg: CfgNode) -> str:
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone":
        return str(cfg.MODEL.TIMM.NAME)
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone":
        return f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"
    return str(cfg.MODEL.BACKBONE.NAME).removeprefix("build_").removesuffix("_backbone")


def _settings(cfg: CfgNode) -> str:
    """All settings that make two trainings different, beside the seed."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED, cfg.OUTPUT_DIR, cfg.DATASETS.TEST = 0, "", ()
    cfg.TEST.ROBUSTNESS, cfg.MODEL.BACKBONE.CACHE = (), ""
    cfg.DATALOADER.NUM_WORKERS = 0
    return str(cfg.dump())


def _shipped_settings() -> dict[str, str]:
    """Paths of the shipped configs by their settings."""
    return {_settings(setup_cfg(name)): f"configs/{name}" for name in shipped_configs()}


def _results(folder: Path) -> Path | None:
    paths = [folder / name for name in RESULT_FILES]
    return next((path for path in paths if path.is_file()), None)


def _scores(folder: Path, f_clips: int) -> dict[str, dict[str, float]]:
    """The scores of a training, by data set.

    Args:
        folder: of it.
        f_clips: clips that shared a threshold in M_F, where the file is too old to tell.
    """
    path = _results(folder)
    assert path is not None
    results = read_results(path)
    found: dict[str, dict[str, float]] = {}
    for name in dataset_names(results):
        own, summary = results[name].get(ORIGINAL, {}), results.get(ROBUSTNESS, {}).get(name, {})
        group = own.get("M_F_group", f_clips)
        known = {**own, **summary, f"M_F_group_{group}": own.get("M_F")}
        if "class_mIoU_foreground" not in own:  # with classes, G_F knows no threshold
            known[f"G_F_group_{group}"] = summary.get("G_F")
        of_groups = sorted((key for key in known if key.startswith(F_GROUP_KEYS)), reverse=True)
        values = {key: known.get(key) for key in (*SCORES, *of_groups, *SUMMARIES)}
        found[name] = {key: value for key, value in values.items() if value is not None}
    return found


def _add_benchmark(entry: Entry, folder: Path) -> None:
    path = folder / BENCHMARK_FILE
    if not path.is_file():
        return
    try:
        benchmark = json.loads(path.read_text(encoding="utf-8"))
        for cost in benchmark.get("size", []):
            entry["size"] = {key: int(cost[name]) for key, name in _SIZES.items()}
        for found in benchmark.get("inference", []):
            if found["batch"] == 1:
                entry["speed_ratio"] = float(found["ratio"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected what tools/benchmark.py writes with --output; measure again"
        ) from error


def format_entries(entries: list[Entry]) -> str:
    """Returns the text of a file of entries."""
    return json.dumps({"version": 1, "entries": entries}, indent=1) + "\n"


def read_entry_file(path: str | os.PathLike[str]) -> list[Entry]:
    """Returns the entries of a file; [] where there is none.

    Raises:
        ValueError: it holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); write it anew with --runs") from error
    whole = isinstance(data, dict) and isinstance(data.get("entries"), list)
    if not whole or data.get("version") != 1:
        raise ValueError(f"{path}: expected a file that make_model_zoo.py wrote; name another")
    entries: list[Entry] = data["entries"]
    return entries
