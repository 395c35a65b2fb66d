"""What a model made of one clip under several sounds, as facts that a page can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from torch import nn

from transavs.data.avsbench import Record, dataset_root, subset_folder
from transavs.data.objects_file import ObjectsFile
from transavs.engine.trained_model import ClipPrediction, FrameQueries, predict_clip
from transavs.evaluation import score_clip
from transavs.utils.image_files import read_label_map
from transavs.visualization import draw_clip
from transavs.visualization.overlay import Image

# An object counts as marked when more than this share of its visible pixels is.
MARKED_SHARE = 0.5
_SHOWN_QUERIES = 3
_FIRST_ROWS = ("frame", "truth", "prediction", "queries", "score", "log_mel")
_LATER_ROWS = ("prediction", "log_mel")


@dataclass(frozen=True)
class ObjectTrack:
    """One visible object through the seconds of a clip.

    Attributes:
        name: its class.
        heard: by second: the object sounds (under another clip's sound: its class is heard).
        marked: by second: share of its visible pixels inside the predicted mask, in [0, 1]; None
            where nothing of it is visible.
    """

    name: str
    heard: list[bool]
    marked: list[float | None]


@dataclass(frozen=True)
class QueryNote:
    """A query in one second.

    Attributes:
        index: which query.
        confidence: probability of "sounding object", in [0, 1].
        sounds: it takes part in the mask.
        target: what most of its pixels lie on: an object's class, "background", or "" where it
            has no pixel, or where the data do not know the objects.
    """

    index: int
    confidence: float
    sounds: bool
    target: str


@dataclass(frozen=True)
class Hearing:
    """A clip with one sound.

    Attributes:
        condition: of the sound, a key of ``transavs.data.CONDITIONS``.
        sound_of: id of the clip whose sound it is; "" for silence.
        audio_file: that sound; None for silence.
        heard: class names by second; None where the data do not tell.
        jaccard: percent by second, against the clip's ground truth; None for unlabelled frames.
        something_sounds: by second: the ground truth of a labelled frame has a pixel.
        predicted_share: share of all pixels that the model marked, in [0, 1], by second.
        objects: of the clip; empty where the data do not know them.
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
    queries: list[list[QueryNote]] | None
    picture: Image

    @property
    def mean_jaccard(self) -> float | None:
        """Mean over the labelled seconds in which something sounds, percent; None without any."""
        pairs = zip(self.jaccard, self.something_sounds, strict=True)
        values = [value for value, sounds in pairs if sounds and value is not None]
        return float(np.mean(values)) if values else None


class StoryTeller:
    """Asks one model about the clips of one data set.

    Args:
        model: in evaluation mode.
        mapper: the evaluation mapper of its configuration.
        dataset_name: a registered data set; its records must have been read.
        image_format: of the mapper's frames.
    """

    def __init__(self, model: nn.Module, mapper: Any, dataset_name: str, image_format: str) -> None:
        self._model = model
        self._mapper = mapper
        self._image_format = image_format
        metadata = MetadataCatalog.get(dataset_name)
        self._sound_classes = list(metadata.sound_classes)
        spec = metadata.spec
        objects = ObjectsFile.read(
            spec, f"{subset_folder(spec, dataset_root())}/{spec.data_folder}"
        )
        self._clips: Mapping[str, Any] = objects.clips if objects else {}

    def clip_jaccard(self, record: Record) -> float | None:
        """Mean Jaccard index of the frames in which something sounds, percent.

        None where no labelled frame does.
        """
        clip = self._mapper(record)
        scores = score_clip(clip, predict_clip(self._model, clip, most_queries=0).prediction)
        values = scores.jaccard[~scores.is_empty]
        return float(100 * values.mean()) if values.size else None

    def hear(self, record: Record, condition: str, cell_width: int) -> Hearing:
        """Returns what the model makes of a clip whose record is under ``condition`` already."""
        clip = self._mapper(record)
        answer = predict_clip(self._model, clip)
        seconds = len(answer.masks)
        scores = score_clip(clip, answer.prediction)
        jaccard: list[float | None] = [None] * seconds
        for second, value in zip(scores.frame_index, scores.jaccard, strict=True):
            jaccard[int(second)] = float(100 * value)
        silent = record.get("audio_condition") == "silence"
        heard = self._heard(record)
        label_maps = self._label_maps(record)
        return Hearing(
            condition=condition,
            sound_of="" if silent else str(record.get("audio_clip_id") or record["clip_id"]),
            audio_file=None if silent else record["audio_file"],
            heard=heard,
            jaccard=jaccard,
            something_sounds=clip["union_masks"].flatten(1).any(1).tolist(),
            predicted_share=answer.masks.flatten(1).float().mean(1).tolist(),
            objects=self._track_objects(record, condition, heard, label_maps, answer),
            queries=self._note_queries(record, label_maps, answer),
            picture=self._draw(clip, answer, condition, cell_width),
        )

    def _draw(
        self, clip: dict[str, Any], answer: ClipPrediction, condition: str, cell_width: int
    ) -> Image:
        rows = list(_FIRST_ROWS if condition == "original" else _LATER_ROWS)
        queries = None
        if answer.queries is not None:
            queries = [frame.pixels for frame in answer.queries]
        elif "queries" in rows:
            rows.remove("queries")
        return draw_clip(
            clip,
            answer.prediction,
            self._image_format,
            draw_queries=queries,
            rows=rows,
            cell_width=cell_width,
        )

    def _heard(self, record: Record) -> list[list[str]] | None:
        if "sound_labels" not in record:
            return None
        return [
            [readable(self._sound_classes[label]) for label in labels]
            for labels in record["sound_labels"]
        ]

    def _label_maps(self, record: Record) -> list[Image]:
        """The label map of every second; [] where the data have none."""
        if record["clip_id"] not in self._clips:
            return []
        return [read_label_map(path) for path in record.get("object_mask_file_names", ())]

    def _object_names(self, record: Record) -> dict[int, str]:
        items = self._clips.get(record["clip_id"], {"objects": []})["objects"]
        return {int(item["id"]): readable(item["class"]) for item in items}

    def _track_objects(
        self,
        record: Record,
        condition: str,
        heard: list[list[str]] | None,
        label_maps: Sequence[Image],
        answer: ClipPrediction,
    ) -> list[ObjectTrack]:
        tracks = []
        for label, name in self._object_names(record).items():
            sounds, marked = [], []
            for second, label_map in enumerate(label_maps):
                if condition == "original":
                    sounds.append(label in record["sounding_objects"][second])
                else:
                    sounds.append(heard is not None and name in heard[second])
                marked.append(_share_inside(label_map == label, answer.masks[second].numpy()))
            tracks.append(ObjectTrack(name, sounds, marked))
        return tracks

    def _note_queries(
        self, record: Record, label_maps: Sequence[Image], answer: ClipPrediction
    ) -> list[list[QueryNote]] | None:
        if answer.queries is None:
            return None
        names = {0: "background", **self._object_names(record)}
        return [
            _notes(queries, names, label_maps[second] if label_maps else None)
            for second, queries in enumerate(answer.queries)
        ]


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
    """A class as a person writes it."""
    return name.replace("_", " ")


def _share_inside(pixels: np.ndarray, mask: np.ndarray) -> float | None:
    return float(mask[pixels].mean()) if pixels.any() else None


def _notes(
    queries: FrameQueries, names: Mapping[int, str], label_map: Image | None
) -> list[QueryNote]:
    notes = []
    for rank, index in enumerate(queries.index[:_SHOWN_QUERIES]):
        pixels = queries.pixels[rank]
        target = ""
        if label_map is not None and pixels.any():
            target = names.get(int(np.bincount(label_map[pixels]).argmax()), "?")
        notes.append(QueryNote(index, queries.confidence[rank], queries.sounds[rank], target))
    return notes
