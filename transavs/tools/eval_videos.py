"""Measure a model on films whose sounding objects were marked by hand at some moments."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from transavs.engine.predictor import (
    OWN_SOUND,
    SILENCE,
    FramePrediction,
    SoundChoice,
    VideoPredictor,
)
from transavs.evaluation.labelled_films import (
    DONT_CARE,
    LabelledMoment,
    distant_partner,
    mean_of,
    plain_name,
    points_at,
    read_labels,
    reference_masks,
    score_mask,
)
from transavs.tools.command_line import (
    CommandParser,
    check_folder_to_be,
    command,
    split_names,
    start_logging,
    write_text,
)
from transavs.tools.model_options import add_model_options, check_model_options, load_predictor
from transavs.utils.image_files import read_label_map
from transavs.utils.progress import progress_bar
from transavs.video import FileSound, Sound
from transavs.visualization import PREDICTION_COLOR, TRUTH_COLOR, overlay_masks
from transavs.visualization.grid import Row, compose_grid
from transavs.visualization.overlay import resize_mask, resize_picture

logger = logging.getLogger("transavs.tools.eval_videos")

OTHER = "other"
# Timestamps in the table are rounded to milliseconds; so much later the frame is on screen.
_ROUNDING_SECONDS = 0.0005
# Difference of two sides that rounding may leave, as a share of the longer one.
_ASPECT = 0.02
_CELL_WIDTH = 260
_ROWS_A_SHEET = 16


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="eval_videos.py",
        description=f"{__doc__} docs/own_labels.md says how to label your own.",
    )
    parser.add_argument("labels", type=Path, metavar="LABELS", help="the table, labels.jsonl")
    parser.add_argument("--videos", required=True, type=Path, metavar="FOLDER")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="for results.json and the sheets"
    )
    parser.add_argument(
        "--classes",
        metavar="NAME,NAME",
        help="that the model knows (default: those that it was trained on)",
    )
    parser.add_argument("--no-sheets", action="store_true", help="write no pictures")
    add_model_options(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the scores; returns the exit code (2 for a user's mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    check_model_options(args)
    moments = read_labels(args.labels)
    for moment in moments:
        if not (args.videos / moment.file).is_file():
            raise FileNotFoundError(
                f"{args.labels} names the film {moment.file}, which {args.videos} lacks: mend "
                "--videos"
            )
    check_folder_to_be("--output", args.output)
    predictor = load_predictor(args)
    predictor.batch_size = 1  # of the frames that follow, none is asked about
    known = split_names(args.classes) if args.classes else predictor.known_classes
    frames: list[dict[str, Any]] = []
    rows: list[Row] = []
    for index, moment in enumerate(progress_bar(moments, "frames", "frame")):
        partner = distant_partner(moments, index)
        other = None if partner is None else moments[partner]
        scores, row = _measure(predictor, args.videos, moment, other)
        scores["known"] = any(
            plain_name(name) in map(plain_name, known) for name in scores["classes"]
        )
        frames.append(scores)
        rows.append(row)
    results = {
        "weights": predictor.weights,
        "known_classes": list(known),
        **summary(frames),
        "frames": frames,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    write_text(args.output / "results.json", json.dumps(results, indent=1) + "\n")
    if not args.no_sheets:
        _draw_sheets(rows, args.output)
    print(as_text(results))
    return 0


class _MovedSound(Sound):
    """A film's sound, heard earlier by some seconds."""

    def __init__(self, sound: Sound, seconds: float) -> None:
        self.name, self.sample_rate_hz = sound.name, sound.sample_rate_hz
        self._sound, self._seconds = sound, seconds

    def window(self, start: int, count: int) -> Tensor:
        return self._sound.window(start + round(self._seconds * self.sample_rate_hz), count)

    def at(self, sample_rate_hz: int) -> Sound:
        return _MovedSound(self._sound.at(sample_rate_hz), self._seconds)

    def close(self) -> None:
        self._sound.close()


def _measure(
    predictor: VideoPredictor, videos: Path, moment: LabelledMoment, other: LabelledMoment | None
) -> tuple[dict[str, Any], Row]:
    """Scores of a moment under its own sound, silence and another's; a row of the sheet."""
    label = read_label_map(str(moment.mask))
    sounds: dict[str, SoundChoice] = {OWN_SOUND: OWN_SOUND, SILENCE: SILENCE}
    if other is not None:
        # What is heard at the other's moment is heard at this one.
        theirs = FileSound(videos / other.file)
        sounds[OTHER] = _MovedSound(theirs, other.seconds - moment.seconds)
    scores: dict[str, Any] = {
        "file": moment.file,
        "seconds": moment.seconds,
        "classes": sorted(set(moment.classes.values())),
        "with_player": bool(moment.players),
        "other_sound": None if other is None else f"{other.file} at {other.seconds:g} s",
        "references": {
            name: score_mask(mask, label).jaccard
            for name, mask in reference_masks(label.shape[:2]).items()
        },
    }
    size = (max(1, round(label.shape[0] * _CELL_WIDTH / label.shape[1])), _CELL_WIDTH)
    cells = []
    for name, sound in sounds.items():
        start = moment.seconds + _ROUNDING_SECONDS
        with closing(
            predictor.predict(videos / moment.file, sound=sound, per_second=None, start=start)
        ) as predictions:
            answer = next(predictions, None)
        if answer is None:
            raise ValueError(f"{moment.file} has no frame at second {moment.seconds:g}")
        _check_aspect(moment, label.shape, answer.mask.shape)
        mask = resize_mask(answer.mask, label.shape[:2])
        scores[name] = asdict(score_mask(mask, label))
        if name == OWN_SOUND:
            score = resize_picture(answer.score, label.shape[:2])
            scores[name]["hit"] = points_at(score, label)
            if moment.players and moment.distractor_mask is not None:
                scores["player_marked"] = _share_marked(mask, moment)
            cells += [_cell(answer, None, size), _label_cell(answer, label, size)]
        if name != SILENCE:
            cells.append(_cell(answer, mask, size))
    hit = "hit" if scores[OWN_SOUND]["hit"] else "no hit"
    title = (
        f"{moment.file}\n{moment.seconds:g} s: {', '.join(scores['classes'])}\n"
        f"J {100 * scores[OWN_SOUND]['jaccard']:.0f}, {hit}"
    )
    return scores, Row(title, cells + [None] * (4 - len(cells)))


def _check_aspect(moment: LabelledMoment, label: tuple[int, ...], film: tuple[int, ...]) -> None:
    height, width = film[0] * label[1] / film[1], label[1]
    if abs(height - label[0]) > _ASPECT * max(height, width):
        raise ValueError(
            f"{moment.mask} has {label[1]} x {label[0]} pixels, {moment.file} {film[1]} x "
            f"{film[0]}: expected the same aspect; save the mask over the frame as it is shown"
        )


def _share_marked(mask: NDArray[np.bool_], moment: LabelledMoment) -> float | None:
    """Share of the players' pixels that a mask marks; None where no player is drawn."""
    drawn = read_label_map(str(moment.distractor_mask))
    players = np.isin(resize_label(drawn, mask.shape), moment.players)
    return float(mask[players].mean()) if players.any() else None


def resize_label(label: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Returns a map of numbers at (height, width), none of them mixed."""
    return np.asarray(cv2.resize(label, (size[1], size[0]), interpolation=cv2.INTER_NEAREST))


def _cell(
    answer: FramePrediction, mask: NDArray[np.bool_] | None, size: tuple[int, int]
) -> NDArray[Any]:
    picture = resize_picture(answer.image, size)
    if mask is None:
        return picture
    return overlay_masks(picture, resize_mask(mask, size)[None], [PREDICTION_COLOR])


def _label_cell(
    answer: FramePrediction, label: NDArray[Any], size: tuple[int, int]
) -> NDArray[Any]:
    small = resize_label(label, size)
    objects = [small == value for value in np.unique(small) if value not in (0, DONT_CARE)]
    # Don't-care pixels are grey.
    colors = [TRUTH_COLOR] * len(objects) + [(0.5, 0.5, 0.5)]
    picture = resize_picture(answer.image, size)
    return overlay_masks(picture, np.stack([*objects, small == DONT_CARE]), colors)


def summary(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the scores of all frames, of those with a known class, by class, with players."""
    labels = sorted({name for frame in frames for name in frame["classes"]})
    players = [frame for frame in frames if frame["with_player"]]
    return {
        "all": _means(frames),
        "known": _means([frame for frame in frames if frame["known"]]),
        "by_class": {
            label: _means([frame for frame in frames if label in frame["classes"]])
            for label in labels
        },
        "players": {
            "videos": len({frame["file"] for frame in players}),
            **_means(players),
            "outside": mean_of(frame[OWN_SOUND]["outside"] for frame in players),
            "player_marked": mean_of(frame.get("player_marked") for frame in players),
        },
    }


def _means(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over frames in percent; None where there is nothing to take the mean of."""

    def mean(value: Callable[[dict[str, Any]], float | None]) -> float | None:
        return mean_of(map(value, frames))

    means: dict[str, Any] = {
        "frames": len(frames),
        "J": mean(lambda frame: frame[OWN_SOUND]["jaccard"]),
        "hit": mean(lambda frame: frame[OWN_SOUND]["hit"]),
        "nothing_marked": mean(lambda frame: frame[OWN_SOUND]["marked"] == 0),
        "marked": mean(lambda frame: frame[OWN_SOUND]["marked"]),
        "marked_in_silence": mean(lambda frame: frame[SILENCE]["marked"]),
        "J_in_silence": mean(lambda frame: frame[SILENCE]["jaccard"]),
    }
    with_other = [frame for frame in frames if OTHER in frame]
    own = mean_of(frame[OWN_SOUND]["jaccard"] for frame in with_other)
    false = mean_of(frame[OTHER]["jaccard"] for frame in with_other)
    means["J_other_sound"] = false
    means["marked_other_sound"] = mean_of(frame[OTHER]["marked"] for frame in with_other)
    means["J_other_share"] = round(100 * false / own, 2) if own and false is not None else None
    for name in ("everything", "middle_half", "nothing"):
        means[f"J_{name}"] = mean_of(frame["references"][name] for frame in frames)
    return means


def as_text(results: dict[str, Any]) -> str:
    """Returns the scores as a table for people."""
    columns = {
        "frames": "frames", "J": "J", "hit": "hit", "nothing_marked": "nothing",
        "marked_in_silence": "silence", "J_other_sound": "J other", "J_middle_half": "J middle",
        "J_everything": "J all",
    }  # fmt: skip
    lines = ["".join([f"{'':<24}", *(f"{title:>10}" for title in columns.values())])]
    groups = {"all": results["all"], "known classes": results["known"], **results["by_class"]}
    groups["with players"] = results["players"]
    for name, means in groups.items():
        values = ["-" if means[key] is None else f"{means[key]:.4g}" for key in columns]
        lines.append("".join([f"{name:<24}", *(f"{value:>10}" for value in values)]))
    for key, told in (
        ("outside", "of what is marked beside players lies on no instrument"),
        ("player_marked", "of the players is marked"),
    ):
        if results["players"][key] is not None:
            lines.append(f"{results['players'][key]:.1f} % {told}")
    return "\n".join(lines)


def _draw_sheets(rows: Sequence[Row], folder: Path) -> None:
    titles = ["frame", "label", "own sound", "other sound"]
    for number, start in enumerate(range(0, len(rows), _ROWS_A_SHEET), 1):
        sheet = compose_grid(rows[start : start + _ROWS_A_SHEET], titles)
        PillowImage.fromarray(sheet).save(folder / f"sheet_{number}.png")
    logger.info("Sheets of pictures in %s", folder)


if __name__ == "__main__":
    raise SystemExit(main())
