"""The picture of a clip: which rows and columns it has, and what stands in them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from transavs.audio import SILENCE_LOG_MEL
from transavs.visualization import PREDICTION_COLOR, TRUTH_COLOR, draw_clip, draw_log_mel
from transavs.visualization.clip_picture import ROWS

SECONDS, HEIGHT, WIDTH = 5, 24, 32
CELL_HEIGHT, CELL_WIDTH = 48, 64


def make_clip(**changes: object) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    clip: dict[str, object] = {
        "clip_id": "a",
        "frames": torch.full((SECONDS, 3, 12, 16), 60, dtype=torch.uint8),
        "frame_index": torch.arange(SECONDS),
        "audio": torch.randn((SECONDS, 1, 96, 64), generator=generator),
        "height": HEIGHT,
        "width": WIDTH,
    }
    return {**clip, **changes}


def make_masks() -> torch.Tensor:
    masks = torch.zeros((SECONDS, HEIGHT, WIDTH), dtype=torch.bool)
    masks[:, 4:20, 8:28] = True
    return masks


def make_prediction(frames: int = SECONDS) -> dict[str, torch.Tensor]:
    masks = make_masks()[:frames]
    return {"masks": masks, "scores": masks * 0.75}


def count_color(picture: np.ndarray, color: tuple[float, float, float]) -> int:
    """Pixels of the outline of an overlay, which has the colour itself."""
    return int((np.abs(picture - 255 * np.array(color)) < 1).all(axis=-1).sum())


def draw(*arguments: object, **options: object) -> np.ndarray:
    picture = draw_clip(*arguments, cell_width=CELL_WIDTH, **options)  # type: ignore[arg-type]
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    return picture


def test_rows_follow_what_is_given() -> None:
    frames_only = draw(make_clip())
    with_truth = draw(make_clip(union_masks=make_masks()))
    with_all = draw(make_clip(union_masks=make_masks()), make_prediction())
    row = CELL_HEIGHT + 6
    assert with_truth.shape[0] == frames_only.shape[0] + row
    assert with_all.shape[0] == frames_only.shape[0] + 3 * row
    assert count_color(frames_only, TRUTH_COLOR) == 0
    assert count_color(with_truth, TRUTH_COLOR) > 100
    assert count_color(with_truth, PREDICTION_COLOR) == 0
    assert count_color(with_all, PREDICTION_COLOR) > 100


def test_rows_can_be_chosen() -> None:
    clip = make_clip(union_masks=make_masks())
    picture = draw(clip, make_prediction(), rows=["prediction", "log_mel"])
    assert count_color(picture, TRUTH_COLOR) == 0 < count_color(picture, PREDICTION_COLOR)
    with pytest.raises(ValueError, match="expected rows out of frame, truth, log_mel.*prediction"):
        draw(clip, rows=["prediction"])
    with pytest.raises(ValueError, match="expected rows"):
        draw(clip, rows=[])


def test_image_format_is_undone() -> None:
    frames = torch.zeros((SECONDS, 3, 12, 16), dtype=torch.uint8)
    frames[:, 0] = 200
    red = draw(make_clip(frames=frames), image_format="RGB")
    blue = draw(make_clip(frames=frames), image_format="BGR")
    assert (red == [200, 0, 0]).all(-1).sum() == (blue == [0, 0, 200]).all(-1).sum()
    assert (red == [200, 0, 0]).all(-1).sum() == SECONDS * CELL_HEIGHT * CELL_WIDTH


def test_unlabelled_frames_say_so() -> None:
    labelled = torch.tensor([True, False, False, False, False])
    one = draw(make_clip(union_masks=make_masks(), labelled=labelled))
    every = draw(make_clip(union_masks=make_masks()))
    assert 0 < count_color(one, TRUTH_COLOR) < count_color(every, TRUTH_COLOR) / 3


def test_training_clip_with_one_labelled_frame_stands_in_its_second() -> None:
    frame = torch.full((1, 3, 12, 16), 60, dtype=torch.uint8)
    clip = make_clip(frames=frame, frame_index=torch.tensor([3]))
    picture = draw(clip, make_prediction(1))
    # At least half a column high: single pixels of letters may be as grey as the frame.
    columns = np.flatnonzero((picture == 60).all(axis=-1).sum(axis=0) >= CELL_HEIGHT / 2)
    assert columns.max() - columns.min() == CELL_WIDTH - 1
    assert columns.min() > picture.shape[1] / 2


def test_queries_have_colours_of_their_own() -> None:
    masks = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    masks[0, 4:20, 4:14] = True
    masks[1, 4:20, 18:28] = True
    nothing = np.zeros((0, HEIGHT, WIDTH), dtype=bool)
    queries = [masks, nothing, masks, nothing, nothing]
    picture = draw(make_clip(), make_prediction(), draw_queries=queries, rows=["queries"])
    assert len({tuple(color) for color in picture.reshape(-1, 3) if np.ptp(color) > 60}) >= 4


def test_clip_may_leave_sizes_and_seconds_to_its_frames() -> None:
    clip = make_clip()
    for key in ("height", "width", "frame_index"):
        del clip[key]
    assert draw(clip).shape == draw(make_clip()).shape


def test_title_stands_on_top() -> None:
    assert draw(make_clip(), title="a long title").shape[0] > draw(make_clip()).shape[0]
    wide = draw(make_clip(), title="long " * 100)
    assert wide.shape[1] > draw(make_clip()).shape[1]


def test_prediction_of_another_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction of 5 frames like the clip's, got 2"):
        draw(make_clip(), make_prediction(2))


def test_every_row_has_a_label() -> None:
    assert list(ROWS) == ["frame", "truth", "prediction", "queries", "score", "log_mel"]


@pytest.mark.parametrize(
    ("place", "half"),
    [
        ((0, 0, slice(None), slice(0, 8)), lambda light: light[24:]),  # low bands at the bottom
        ((0, 0, slice(0, 20), slice(None)), lambda light: light[:, :32]),  # early windows left
    ],
)
def test_log_mel_lies_as_people_read_it(
    place: tuple[object, ...], half: Callable[[np.ndarray], np.ndarray]
) -> None:
    examples = torch.full((1, 1, 96, 64), SILENCE_LOG_MEL)
    examples[place] = 3.0
    (picture,) = draw_log_mel(examples, (48, 64))
    light = picture.astype(int).sum(axis=-1)
    assert half(light).sum() > 0.9 * light.sum()


def test_silence_is_black_whatever_the_rest() -> None:
    pictures = draw_log_mel(torch.full((2, 1, 96, 64), SILENCE_LOG_MEL), (10, 20))
    assert [picture.shape for picture in pictures] == [(10, 20, 3)] * 2
    assert max(int(picture.max()) for picture in pictures) < 10
