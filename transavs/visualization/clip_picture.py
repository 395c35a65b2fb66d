"""A clip on one picture: frames, ground truth, prediction, scores and sound, second by second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from transavs.visualization.grid import Row, compose_grid, note_on
from transavs.visualization.overlay import (
    PREDICTION_COLOR,
    QUERY_COLORS,
    TRUTH_COLOR,
    Image,
    overlay_masks,
    resize_mask,
    resize_picture,
    score_heat_map,
)
from transavs.visualization.sound import draw_log_mel

# Every kind of row, from top to bottom, with its label.
ROWS = {
    "frame": "frame",
    "truth": "ground truth",
    "prediction": "prediction",
    "queries": "one colour\na query",
    "score": "score",
    "log_mel": "log-mel",
}
_LOG_MEL_ASPECT = 0.45


def draw_clip(
    clip: Mapping[str, Any],
    prediction: Mapping[str, Tensor] | None = None,
    image_format: str = "RGB",
    *,
    draw_queries: Sequence[NDArray[np.bool_]] | None = None,
    rows: Sequence[str] | None = None,
    cell_width: int = 224,
    title: str = "",
) -> Image:
    """Returns a picture uint8 ``[H, W, 3]`` (RGB) with a row a kind and a column a second.

    Args:
        clip: a dict of the mapper: ``frames`` uint8 ``[F, 3, H, W]``, ``audio`` float32
            ``[T, 1, 96, 64]``, and where they exist ``frame_index`` int64 ``[F]`` (default: frame
            t shows second t), ``height`` and ``width``, ``union_masks`` bool
            ``[T, height, width]`` and ``labelled`` bool ``[T]``.
        prediction: what the model answers: ``masks`` bool and ``scores`` float in [0, 1], both
            ``[F, height, width]``. None draws no prediction.
        image_format: order of the frames' channels, "RGB" or "BGR" (``cfg.INPUT.FORMAT``).
        draw_queries: for each of the F frames the pixels of its queries, bool
            ``[G, height, width]``; each query gets its own colour.
        rows: which keys of ``ROWS`` to draw; None draws all that the arguments hold.
        cell_width: width of a frame in the picture, in pixels; its height keeps the aspect.
        title: stands on top.

    Raises:
        ValueError: ``rows`` names something that the arguments do not hold, or the prediction has
            another number of frames than the clip.
    """
    frames = clip["frames"].cpu().numpy().transpose(0, 2, 3, 1)
    if image_format == "BGR":
        frames = frames[..., ::-1]
    aspect = int(clip.get("height", frames.shape[1])) / int(clip.get("width", frames.shape[2]))
    size = (max(1, round(cell_width * aspect)), cell_width)
    pictures = [resize_picture(np.ascontiguousarray(frame), size) for frame in frames]
    if prediction is not None and len(prediction["masks"]) != len(pictures):
        raise ValueError(
            f"expected a prediction of {len(pictures)} frames like the clip's, got "
            f"{len(prediction['masks'])}"
        )
    sound = clip.get("audio")  # precomputed embeddings have no picture
    seconds = len(clip["audio_embeddings"] if sound is None else sound)
    index = clip.get("frame_index")
    shown = list(range(len(pictures))) if index is None else [int(second) for second in index]

    held: dict[str, Sequence[Image | None]] = {"frame": pictures}
    if "union_masks" in clip:
        held["truth"] = _truth_cells(clip, pictures, shown)
    if prediction is not None:
        masks = prediction["masks"].cpu().numpy().astype(bool)
        held["prediction"] = [
            _overlay(picture, mask[None], [PREDICTION_COLOR])
            for picture, mask in zip(pictures, masks, strict=True)
        ]
        held["score"] = [
            resize_picture(score_heat_map(score), size)
            for score in prediction["scores"].float().cpu().numpy()
        ]
    if draw_queries is not None:
        held["queries"] = [
            _overlay(picture, masks, QUERY_COLORS)
            for picture, masks in zip(pictures, draw_queries, strict=True)
        ]
    cells = {kind: _by_second(row, shown, seconds) for kind, row in held.items()}
    if sound is not None:
        cell = (max(1, round(_LOG_MEL_ASPECT * cell_width)), cell_width)
        value_range = {"value_range": clip["audio_range"]} if "audio_range" in clip else {}
        cells["log_mel"] = list(draw_log_mel(sound, cell, **value_range))
    return compose_grid(
        [Row(ROWS[kind], cells[kind]) for kind in _chosen_rows(rows, cells)],
        [f"second {second + 1}" for second in range(seconds)],
        title,
        ROWS.values(),
    )


def _chosen_rows(rows: Sequence[str] | None, held: Mapping[str, Any]) -> list[str]:
    if rows is None:
        return [kind for kind in ROWS if kind in held]
    missing = [kind for kind in rows if kind not in held]
    if missing or not rows:
        raise ValueError(
            f"expected rows out of {', '.join(kind for kind in ROWS if kind in held)} "
            f"(what this clip and prediction hold), got {list(rows)}"
        )
    return list(rows)


def _truth_cells(
    clip: Mapping[str, Any], pictures: Sequence[Image], shown: Sequence[int]
) -> list[Image]:
    masks = clip["union_masks"].cpu().numpy()
    labelled = clip.get("labelled")
    cells = []
    for picture, second in zip(pictures, shown, strict=True):
        if labelled is not None and not bool(labelled[second]):
            cells.append(note_on(picture, "no label"))
        else:
            cells.append(_overlay(picture, masks[second][None], [TRUTH_COLOR]))
    return cells


def _overlay(
    picture: Image, masks: NDArray[np.bool_], colors: Sequence[tuple[float, float, float]]
) -> Image:
    size = (picture.shape[0], picture.shape[1])
    resized = np.zeros((len(masks), *size), dtype=np.bool_)
    for index, mask in enumerate(masks):
        resized[index] = resize_mask(mask, size)
    return overlay_masks(picture, resized, colors)


def _by_second(
    cells: Sequence[Image | None], shown: Sequence[int], seconds: int
) -> list[Image | None]:
    """Puts the cells of F frames into the columns of their seconds."""
    columns: list[Image | None] = [None] * seconds
    for cell, second in zip(cells, shown, strict=True):
        columns[second] = cell
    return columns
