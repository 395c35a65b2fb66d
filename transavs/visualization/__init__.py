"""Pictures for people: masks over frames, the sound beside them, curves of a training run.

Nothing here needs a display, a model or a data set: inputs are the dicts that the mapper makes
and the model answers with.
"""

from transavs.visualization.clip_picture import ROWS, draw_clip
from transavs.visualization.curves import draw_run_curves, draw_score_histogram, read_metrics
from transavs.visualization.film_overlay import paint_masks, track_color
from transavs.visualization.film_strip import FilmStrip, strip_height
from transavs.visualization.film_timeline import TIMELINE_HEIGHT, TimelineMoment, draw_timeline
from transavs.visualization.overlay import (
    PREDICTION_COLOR,
    QUERY_COLORS,
    TRUTH_COLOR,
    overlay_masks,
    score_heat_map,
)
from transavs.visualization.sound import draw_log_mel
from transavs.visualization.sound_comparison import draw_under_sounds

__all__ = [
    "PREDICTION_COLOR",
    "QUERY_COLORS",
    "ROWS",
    "TIMELINE_HEIGHT",
    "TRUTH_COLOR",
    "FilmStrip",
    "TimelineMoment",
    "draw_clip",
    "draw_log_mel",
    "draw_run_curves",
    "draw_score_histogram",
    "draw_timeline",
    "draw_under_sounds",
    "overlay_masks",
    "paint_masks",
    "read_metrics",
    "score_heat_map",
    "strip_height",
    "track_color",
]
