"""The report's page: HTML from results and analyses. Plain files, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from transavs.apps.report.clip_analysis import MARKED_SHARE, ClipAnalysis
from transavs.evaluation.results_file import REFERENCES, ROBUSTNESS, reference_models
from transavs.visualization import PREDICTION_COLOR, TRUTH_COLOR

_CONDITION_TITLES = {
    "original": "own sound",
    "shuffled": "another clip's sound",
    "silence": "silence",
    "noise": "white noise",
    "offscreen": "a sound of something that is not there",
}


@dataclass(frozen=True)
class ShownClip:
    """A clip on the page.

    Attributes:
        clip_id: the clip.
        why: why it was chosen.
        analyses: what the model made of it under each sound, the original one first; with the
            links of its picture and of its sound (None for silence).
    """

    clip_id: str
    why: str
    analyses: list[tuple[ClipAnalysis, str, str | None]] = field(default_factory=list)


@dataclass(frozen=True)
class ModelSection:
    """What the page shows of one model on one data set.

    Attributes:
        title: the data set's title.
        scored_clips: how many clips have a score.
        figures: links and captions of pictures.
        clips: the clips to show.
    """

    title: str
    scored_clips: int
    figures: list[tuple[str, str]]
    clips: list[ShownClip]


def render_page(
    title: str,
    results: Mapping[str, Any],
    datasets: Mapping[str, str],
    sections: Sequence[ModelSection] = (),
) -> str:
    """Returns the HTML document.

    Args:
        title: the page's heading.
        results: the content of the file that ``eval_robustness`` writes.
        datasets: the titles of the data sets whose scores to show, by their names.
        sections: the models to show.
    """
    # Names of clips, classes and models are text of strangers: everything is escaped.
    environment = Environment(
        loader=PackageLoader("transavs.apps.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    scores = [
        {
            "title": dataset_title,
            "conditions": {
                _CONDITION_TITLES.get(name, name): values
                for name, values in results.get(name_of_set, {}).items()
            },
            "models": reference_models(results, name_of_set),
            "references": results.get(REFERENCES, {}).get(name_of_set, {}),
            "robustness": results.get(ROBUSTNESS, {}).get(name_of_set, {}),
            "raw": results.get(name_of_set, {}),
        }
        for name_of_set, dataset_title in datasets.items()
    ]
    return environment.get_template("page.html").render(
        title=title,
        scores=scores,
        sections=sections,
        marked_share=MARKED_SHARE,
        truth_color=_html_color(TRUTH_COLOR),
        prediction_color=_html_color(PREDICTION_COLOR),
    )


def number(value: float | None, factor: float = 1.0, digits: int = 1) -> str:
    """Returns a value with so many digits; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def _html_color(color: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)
