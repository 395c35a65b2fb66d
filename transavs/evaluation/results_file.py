"""The file of results: scores of data sets under audio conditions, as JSON and as a table.

Form: ``{data set: {condition: scores}, "references": {data set: {...}}, "robustness": {data set:
{...}}}``. A reference is a number of :func:`transavs.evaluation.reference_scores`, or the scores of
another model by its name. Robustness is that of :func:`transavs.evaluation.summarize_robustness`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from transavs.evaluation.summary import F_GROUPS
from transavs.utils.whole_files import write_text

Results = dict[str, dict[str, Any]]

REFERENCES = "references"
ROBUSTNESS = "robustness"
BY_CLASS = "by_class"
# Beside the data sets, and behind them in the file.
_OTHER_PARTS = (REFERENCES, ROBUSTNESS, BY_CLASS)
_SIMPLE_REFERENCES = (("mark every object", "every_object"), ("mark nothing", "nothing"))
_HEADERS = ("data set", "sound", "M_J", "M_J non-empty", "M_F", "false pixels %", "false frames %")
# Further columns, of those scores that any row has: M_F at two sizes of group, pixels counted over
# the data set, and classes.
_FURTHER_COLUMNS = (
    *(f"M_F_group_{size}" for size in F_GROUPS),
    *("dataset_mIoU", "dataset_F", "class_mIoU", "class_F"),
    *("class_dataset_mIoU", "class_dataset_mIoU_absent_zero", "class_dataset_F"),
)
# Numbers of a summary that are of the published kinds.
_PUBLISHED_KINDS = {
    "G_mIoU_all_frames": "G-mIoU over all frames (above: over those in which something sounds)",
    "G_mIoU_with_background": "G-mIoU with the background (above: without)",
    "G_F_with_background": "G-F with the background (above: without)",
    **{f"G_F_group_{size}": f"G-F at groups of {size}" for size in F_GROUPS},
}
# What is shown of scores, of those by class, and of summaries.
_SHOWN = (
    *("M_J", "M_J_nonempty", "M_F", "M_F_group", "FPR", "frames_with_false_pixels"),
    *_FURTHER_COLUMNS,
)
_NUMBERS = (*_SHOWN, "J", "G_mIoU", "G_F", "J_pos", "J_neg", *_PUBLISHED_KINDS)


def read_results(path: str | os.PathLike[str]) -> Results:
    """Returns the content of a results file; ValueError if it is something else.

    Raises:
        FileNotFoundError: no such file.
    """
    with open(path, encoding="utf-8") as file:
        try:
            results = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON ({error}); delete it or choose another") from error
    if not isinstance(results, dict):
        raise ValueError(f"{path} holds no results of an evaluation; choose another file")
    for name, part in results.items():
        if not isinstance(part, dict) or not all(_fits(name, value) for value in part.values()):
            raise ValueError(
                f"{path} holds no results of an evaluation (under {name!r}); choose another file"
            )
    return results


def merge_results(kept: Results, own: Results) -> Results:
    """Returns ``kept`` with the data sets of ``own`` in the place of those of the same names.

    All that the file says of a data set goes with it, references and summaries too.
    """
    names = dataset_names(own)
    merged = {name: kept[name] for name in dataset_names(kept)}
    merged |= {name: own[name] for name in names}
    for part in _OTHER_PARTS:
        others = {n: value for n, value in kept.get(part, {}).items() if n not in names}
        if entries := others | own.get(part, {}):
            merged[part] = entries
    return merged


def _fits(part: str, value: Any) -> bool:
    """Whether this may stand under a name in a part of the file."""
    if part == BY_CLASS:
        return isinstance(value, dict) and all(_are_scores(scores) for scores in value.values())
    if part == REFERENCES:
        return isinstance(value, dict) and all(
            _is_number(entry) or _are_scores(entry) for entry in value.values()
        )
    return _are_scores(value)


def _are_scores(value: Any) -> bool:
    """Whether the table finds numbers where it looks for them."""
    return isinstance(value, dict) and all(_is_number(value.get(key)) for key in _NUMBERS)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def write_results(path: str | os.PathLike[str], results: Results) -> None:
    """Writes results as JSON in one step, the data sets first. NaN becomes null."""
    names = [*sorted(dataset_names(results)), *(part for part in _OTHER_PARTS if part in results)]
    write_text(path, json.dumps(_without_nan({n: results[n] for n in names}), indent=1) + "\n")


def dataset_names(results: Mapping[str, Any]) -> list[str]:
    """Returns which of the entries are data sets."""
    return [name for name in results if name not in _OTHER_PARTS]


def reference_models(results: Mapping[str, Any], dataset: str) -> dict[str, Mapping[str, Any]]:
    """Returns the scores of the other models that a data set was evaluated with, by their names."""
    found = results.get(REFERENCES, {}).get(dataset, {})
    return {name: scores for name, scores in found.items() if isinstance(scores, Mapping)}


def format_table(results: Results) -> str:
    """Returns the results for people: a line a data set and condition, and the summaries below.

    Behind ``M_F`` stands in brackets, where the results tell, how many clips shared a threshold.
    """
    rows: list[list[str]] = []
    every = [scores for name in dataset_names(results) for scores in results[name].values()]
    further = [key for key in _FURTHER_COLUMNS if any(key in scores for scores in every)]
    for name in dataset_names(results):
        for condition, scores in results[name].items():
            rows.append(_row(name, condition, scores, further))
        references = results.get(REFERENCES, {}).get(name, {})
        for other, scores in reference_models(results, name).items():
            rows.append(_row(name, f"({other})", scores, further))
        for label, key in _SIMPLE_REFERENCES:
            if key in references:
                cells = [_cell(references, k) for k in (key, f"{key}_nonempty")]
                rows.append([name, f"({label})", *cells, "", "", "", *("" for _ in further)])
    headers = [*_HEADERS, *(key.replace("_", " ").replace("M F", "M_F") for key in further)]
    table = tabulate(rows, headers, disable_numparse=True, stralign="right")
    summaries = [
        line
        for name, summary in results.get(ROBUSTNESS, {}).items()
        for line in _summary_lines(name, summary)
    ]
    classes = [_class_line(name, found) for name, found in results.get(BY_CLASS, {}).items()]
    return "\n".join([table, *summaries, *classes])


def _class_line(name: str, found: Mapping[str, Mapping[str, float]]) -> str:
    worst_first = sorted(found, key=lambda each: found[each]["J"])
    scores = ", ".join(f"{each} {_cell(found[each], 'J')}" for each in worst_first)
    return f"{name}: J of the frames where one class alone is heard: {scores}"


def _summary_lines(name: str, summary: Mapping[str, Any]) -> list[str]:
    negatives = ", ".join(summary.get("conditions", ()))
    own = (
        f"{name}: G-mIoU {_cell(summary, 'G_mIoU')}, G-F {_cell(summary, 'G_F')}, "
        f"FPR {_cell(summary, 'FPR', digits=3)}; J {_cell(summary, 'J_pos')} with the clips' own "
        f"sound, {_cell(summary, 'J_neg')} on average of: {negatives}"
    )
    kinds = [
        f"{title} {_cell(summary, key)}"
        for key, title in _PUBLISHED_KINDS.items()
        if key in summary
    ]
    return [own, f"{name}, to set beside published ones: {', '.join(kinds)}"] if kinds else [own]


def _row(
    name: str, sound: str, scores: Mapping[str, float | None], further: Sequence[str]
) -> list[str]:
    cells = [_cell(scores, key) for key in ("M_J", "M_J_nonempty", "M_F")]
    if scores.get("M_F_group") is not None:
        cells[-1] += f" ({_cell(scores, 'M_F_group', digits=0)})"
    cells.append(_cell(scores, "FPR", factor=100, digits=2))
    cells.append(_cell(scores, "frames_with_false_pixels"))
    return [name, sound, *cells, *(_cell(scores, key) for key in further)]


def _cell(scores: Mapping[str, float | None], key: str, factor: float = 1, digits: int = 1) -> str:
    value = scores.get(key)
    return "-" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
