"""What a model makes of one clip under several sounds, as facts for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from torch import nn

from transavs.data.avsbench import Record, dataset_root, subset_folder
from transavs.data.objects_file import ObjectsFile
from transavs.engine.trained_model import ClipPrediction, predict_clip
from transavs.evaluation import score_clip
from transavs.utils.image_files import read_label_map
from transavs.visualization import draw_clip
from transavs.visualization.overlay import Image

#: An object counts as marked when more than this share of its visible pixels is.
MARKED_SHARE = 0.5
_SHOWN_QUERIES = 3
_FIRST_ROWS: tuple[str, ...] = ("frame", "truth", "prediction", "queries", "score", "log_mel")
_LATER_ROWS: tuple[str, ...] = ("prediction", "log_mel")


@dataclass(frozen=True)
class ObjectTrack:
    """One visible object through the seconds of a clip.

    Attributes:
        name: its class.
        heard: by second, whether it sounds (with another clip's sound: whether its class does).
        marked: by second, the share of its visible pixels inside the predicted mask, in [0, 1];
            None where nothing of it is visible.
    """

    name: str
    heard: list[bool]
    marked: list[float | None]


@dataclass(frozen=True)
class QuerySummary:
    """A query in one second.

    Attributes:
        index: which query it is.
        confidence: its probability of "sounding object", in [0, 1].
        sounds: whether it takes part in the mask.
        target: what most of its pixels lie on: an object's class, "background", or "" where it
            has no pixel, or where the data do not know the objects.
    """

    index: int
    confidence: float
    sounds: bool
    target: str


@dataclass(frozen=True)
class ClipAnalysis:
    """A clip with one sound.

    Attributes:
        condition: the sound's condition, a key of ``transavs.data.CONDITIONS``.
        sound_of: the clip whose sound it is; "" for silence.
        audio_file: the file of that sound; None for silence.
        heard: class names by second; None where the data do not tell.
        jaccard: percent by second, against the clip's ground truth; None for unlabelled frames.
        something_sounds: by second, whether a labelled frame's ground truth has a pixel.
        predicted_share: the share of all pixels that the model marked, in [0, 1], by second.
        objects: the clip's objects; empty where the data do not know them.
        queries: the most confident ones by second; None for a model without queries.
        picture: uint8 ``[H, W, 3]``, RGB.
    """

    condition: str
    sound_of: str
    audio_file: str | None
    heard: list[list[str]] | None
    jaccard: list[float | None]
    something_sounds: list[bool]
    predicted_share: list[float]
    objects: list[ObjectTrack]
    queries: list[list[QuerySummary]] | None
    picture: Image

    @property
    def mean_jaccard(self) -> float | None:
        """Mean over the labelled seconds in which something sounds, percent; None without any."""
        pairs = zip(self.jaccard, self.something_sounds, strict=True)
        values = [value for value, sounds in pairs if sounds and value is not None]
        return float(np.mean(values)) if values else None

    @property
    def heard_seconds(self) -> dict[str, str]:
        """When each class is heard, in words, by its name; {} also where the data do not tell."""
        heard = self.heard or []
        names = sorted({name for names in heard for name in names})
        return {name: seconds_in_words([name in now for now in heard]) for name in names}


class ClipAnalyzer:
    """Asks one model about the clips of one data set.

    Args:
        model: a model in evaluation mode.
        mapper: the evaluation mapper of its configuration.
        dataset_name: a registered data set; its records must have been read.
        image_format: the channel order of the mapper's frames.
    """

    def __init__(self, model: nn.Module, mapper: Any, dataset_name: str, image_format: str) -> None:
        self._model = model
        self._mapper = mapper
        self._image_format = image_format
        metadata = MetadataCatalog.get(dataset_name)
        self._sound_classes = list(metadata.sound_classes)
        folder = subset_folder(metadata.spec, dataset_root())
        objects = ObjectsFile.read(metadata.spec, f"{folder}/{metadata.spec.data_folder}")
        self._clips: Mapping[str, Any] = objects.clips if objects else {}

    def clip_jaccard(self, record: Record) -> float | None:
        """Mean Jaccard index of the frames in which something sounds, percent.

        None where no labelled frame does.
        """
        clip = self._mapper(record)
        scores = score_clip(clip, predict_clip(self._model, clip, most_queries=0).prediction)
        values = scores.jaccard[~scores.is_empty]
        return float(100 * values.mean()) if values.size else None

    def analyze(self, record: Record, condition: str, cell_width: int) -> ClipAnalysis:
        """Returns what the model makes of a clip whose record is under ``condition`` already."""
        clip = self._mapper(record)
        answer = predict_clip(self._model, clip)
        scores = score_clip(clip, answer.prediction)
        jaccard: list[float | None] = [None] * len(answer.masks)
        for second, value in zip(scores.frame_index, scores.jaccard, strict=True):
            jaccard[int(second)] = float(100 * value)
        silent = record.get("audio_condition") == "silence"
        heard = None
        if "sound_labels" in record:
            by_second = record["sound_labels"]
            heard = [[readable(self._sound_classes[label]) for label in now] for now in by_second]
        items = self._clips.get(record["clip_id"])
        label_maps, names = [], {}
        if items is not None:
            label_maps = [read_label_map(path) for path in record.get("object_mask_file_names", ())]
            names = {int(item["id"]): readable(item["class"]) for item in items["objects"]}
        return ClipAnalysis(
            condition=condition,
            sound_of="" if silent else str(record.get("audio_clip_id") or record["clip_id"]),
            audio_file=None if silent else record["audio_file"],
            heard=heard,
            jaccard=jaccard,
            something_sounds=clip["union_masks"].flatten(1).any(1).tolist(),
            predicted_share=answer.masks.flatten(1).float().mean(1).tolist(),
            objects=_track_objects(record, condition, heard, names, label_maps, answer),
            queries=_summarize_queries(names, label_maps, answer),
            picture=self._draw(clip, answer, condition, cell_width),
        )

    def _draw(
        self, clip: dict[str, Any], answer: ClipPrediction, condition: str, cell_width: int
    ) -> Image:
        rows = _FIRST_ROWS if condition == "original" else _LATER_ROWS
        queries = None
        if answer.queries is None:
            rows = tuple(row for row in rows if row != "queries")
        else:
            queries = [frame.pixels for frame in answer.queries]
        return draw_clip(
            clip,
            answer.prediction,
            self._image_format,
            draw_queries=queries,
            rows=rows,
            cell_width=cell_width,
        )


def _track_objects(
    record: Record,
    condition: str,
    heard: list[list[str]] | None,
    names: Mapping[int, str],
    label_maps: Sequence[Image],
    answer: ClipPrediction,
) -> list[ObjectTrack]:
    tracks = []
    for label, name in names.items():
        track = ObjectTrack(name, [], [])
        for second, label_map in enumerate(label_maps):
            if condition == "original":
                track.heard.append(label in record["sounding_objects"][second])
            else:
                track.heard.append(heard is not None and name in heard[second])
            inside = answer.masks[second].numpy()[label_map == label]
            track.marked.append(float(inside.mean()) if inside.size else None)
        tracks.append(track)
    return tracks


def _summarize_queries(
    names: Mapping[int, str], label_maps: Sequence[Image], answer: ClipPrediction
) -> list[list[QuerySummary]] | None:
    if answer.queries is None:
        return None
    summaries: list[list[QuerySummary]] = []
    for second, queries in enumerate(answer.queries):
        summaries.append([])
        for rank, index in enumerate(queries.index[:_SHOWN_QUERIES]):
            pixels, target = queries.pixels[rank], ""
            if label_maps and pixels.any():
                label = int(np.bincount(label_maps[second][pixels]).argmax())
                target = {0: "background", **names}.get(label, "?")
            summaries[-1].append(
                QuerySummary(index, queries.confidence[rank], queries.sounds[rank], target)
            )
    return summaries


def choose_clips(
    scores: Sequence[float | None], count: int, seed: int = 0
) -> list[tuple[int, str]]:
    """Returns which clips to show, and why: the best, the median, the worst, then random ones.

    Args:
        scores: one a clip; None (nothing sounds) is never chosen.
        count: at most so many.
        seed: of the random ones.
    """
    ranked = sorted(
        (index for index, score in enumerate(scores) if score is not None),
        key=lambda index: -float(scores[index] or 0.0),
    )
    if not ranked:
        return []
    chosen = {ranked[0]: "the best"}
    chosen.setdefault(ranked[len(ranked) // 2], "the median")
    chosen.setdefault(ranked[-1], "the worst")
    for index in np.random.default_rng(seed).permutation(ranked):
        chosen.setdefault(int(index), "drawn at random")
    return list(chosen.items())[: max(count, 0)]


def readable(name: str) -> str:
    """Returns a class's name as a person writes it."""
    return name.replace("_", " ")


def seconds_in_words(present: Sequence[bool]) -> str:
    """Returns "seconds 1, 2 and 5" for the seconds that are True, counted from one."""
    numbers = [str(second + 1) for second, here in enumerate(present) if here]
    if len(numbers) == len(present) > 1:
        return "every second"
    if len(numbers) < 2:
        return f"second {numbers[0]}" if numbers else "no second"
    return f"seconds {', '.join(numbers[:-1])} and {numbers[-1]}"
