"""Draw the method on one picture: ``python -m transavs.tools.draw_figure``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from transavs.tools.command_line import CommandParser, command
from transavs.visualization import PREDICTION_COLOR
from transavs.visualization.overlay import Image

# The canvas, in tenths of an inch.
_WIDTH, _HEIGHT = 140.0, 54.0
_INK, _FAINT = "#2b2b2b", "#6b6b6b"
# Fill and edge of a box, by what it works on.
_PICTURE = ("#e6f0fa", "#3b78b5")
_SOUND = ("#fdf0dc", "#c98316")
_QUERY = ("#ece7f8", "#6d4fb3")
_LOSS = ("#fbe9e7", "#bb4a3c")
_NEUTRAL = ("#ffffff", "#9a8bc4")

_SECONDS = 3
# Pixels of a drawn frame.
_FRAME_SHAPE = (84, 84)

_Colors = tuple[str, str]
_Point = tuple[float, float]


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(prog="draw_figure.py", description=__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/architecture.svg"),
        help="its ending chooses the format: svg, png, pdf (default: %(default)s)",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the figure; returns the exit code."""
    args = build_parser().parse_args(argv)
    figure = build_figure()
    known = figure.canvas.get_supported_filetypes()
    kind = args.output.suffix.lstrip(".").lower()
    if kind not in known:
        raise ValueError(
            f"{args.output}: expected an ending out of {', '.join(sorted(known))}, got {kind!r}"
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if kind == "svg" else None
    # Letters as outlines look alike everywhere; the salt makes equal figures equal files.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "transavs"}):
        figure.savefig(args.output, dpi=150, metadata=metadata)
    print(args.output)
    return 0


def build_figure() -> Figure:
    """Returns the method of TransAVS (arXiv 2305.07223), with the files that hold its parts."""
    figure = Figure(figsize=(_WIDTH / 10, _HEIGHT / 10))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT))
    axes.axis("off")
    _draw_picture_stream(axes)
    _draw_sound_stream(axes)
    _draw_decoder(axes)
    _draw_answer(axes)
    _draw_losses(axes)
    # imshow has narrowed the limits to its pictures.
    axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT), aspect="auto")
    return figure


def _draw_picture_stream(axes: Axes) -> None:
    _strip(axes, (2, 36), [_scene(second) for second in range(_SECONDS)])
    _text(axes, (9.5, 42.8), "T frames", 11, weight="bold")
    _box(axes, (23, 33), (15, 11), _PICTURE, "image\nbackbone", "modeling/backbone.py")
    _box(axes, (45, 33), (15, 11), _PICTURE, "pixel\ndecoder", "modeling/pixel_decoder.py")
    _arrow(axes, (17.4, 38.5), (23, 38.5))
    _arrow(axes, (38, 38.5), (45, 38.5))
    _text(axes, (41.5, 40.2), "4 scales", 8, color=_FAINT)
    for index, stride in enumerate((32, 16, 8)):
        side, middle = 1.8 + 0.9 * index, 42.7 - 4.4 * index
        _grid(axes, (67.5 - side / 2, middle - side / 2), side, 2 ** (index + 1))
        _text(axes, (72.5, middle), f"$f_{index + 1}$, 1/{stride}", 9)
    _arrow(axes, (60, 38.5), (64.5, 38.5))
    _arrow(axes, (75.5, 38.5), (80, 38.5), (80, 31), (84, 31))
    _arrow(axes, (52.5, 44), (52.5, 49.5), (77, 49.5))
    _grid(axes, (77, 46.5), 6, 12)
    _text(axes, (84, 49.5), "per-pixel embedding\n$W_2\\,\\hat{f}_3$, 1/4", 9, align="left")
    _arrow(axes, (98.5, 49.5), (114, 49.5), (114, 41))


def _draw_sound_stream(axes: Axes) -> None:
    axes.imshow(
        _spectrogram(), extent=(2, 17, 11.5, 20.5), cmap="magma", aspect="auto", origin="lower"
    )
    for second in range(1, _SECONDS):
        axes.plot([2 + 5 * second] * 2, [11.5, 20.5], color="white", linewidth=0.8)
    _text(axes, (9.5, 22.3), "log-mel of T seconds", 10.5, weight="bold")
    _text(axes, (9.5, 10.2), "audio/log_mel.py", 7, color=_FAINT)
    _box(axes, (23, 10.5), (15, 11), _SOUND, "audio encoder\nVGGish, frozen", "audio/vggish.py")
    _box(
        axes,
        (45, 10.5),
        (30, 11),
        _QUERY,
        "query generator\n$A_q = W_i F_a$: each query mixes seconds,\n"
        "then $N_1$ self-attention layers",
        "modeling/query_generator.py",
        size=10,
    )
    _arrow(axes, (17.4, 16), (23, 16))
    _arrow(axes, (38, 16), (45, 16))
    _text(axes, (41.5, 18.6), "$F_a$\nT × 128", 8, color=_FAINT)
    _arrow(axes, (75, 16), (80, 16), (80, 24), (84, 24))
    _text(axes, (79.6, 13.4), "Q audio\nqueries", 9, color=_QUERY[1], weight="bold")


def _draw_decoder(axes: Axes) -> None:
    _box(axes, (84, 18.5), (19, 19), _QUERY, "", "modeling/query_decoder.py")
    _text(axes, (93.5, 35.6), "$N_2$ decoder layers", 11, weight="bold")
    _box(
        axes,
        (85.7, 28.6),
        (15.6, 5.2),
        _NEUTRAL,
        "cross-attention to\n$f_1, f_2, f_3$ in turn",
        size=9,
    )
    _box(axes, (85.7, 25), (15.6, 2.8), _NEUTRAL, "self-attention", size=9)
    _box(axes, (85.7, 21.4), (15.6, 2.8), _NEUTRAL, "feed-forward", size=9)
    _box(
        axes,
        (107.5, 34),
        (13, 7),
        _QUERY,
        "mask head\n$m_i = \\sigma(q_i\\cdot W_2\\,\\hat{f}_3)$",
        size=9,
    )
    _box(axes, (107.5, 20), (13, 7), _QUERY, "class head\n$p_i$: does it sound?", size=9)
    _arrow(axes, (103, 28), (105.2, 28), (105.2, 37.5), (107.5, 37.5))
    _arrow(axes, (103, 28), (105.2, 28), (105.2, 23.5), (107.5, 23.5))


def _draw_answer(axes: Axes) -> None:
    _box(
        axes,
        (124.5, 22),
        (14, 8),
        _PICTURE,
        "each pixel to\n$\\mathrm{argmax}_i\\; p_i\\, m_i$",
        "modeling/inference.py",
        size=9.5,
    )
    _arrow(axes, (120.5, 37.5), (122.3, 37.5), (122.3, 27.5), (124.5, 27.5))
    _arrow(axes, (120.5, 23.5), (122.3, 23.5), (122.3, 25), (124.5, 25))
    _arrow(axes, (131.5, 30), (131.5, 33.6))
    frames = [_scene(second, marked=True) for second in range(_SECONDS)]
    _strip(axes, (124, 33.8), frames)
    _text(axes, (131.5, 42.4), "masks of\nwhat sounds", 11, weight="bold")


def _draw_losses(axes: Axes) -> None:
    _box(axes, (84, 1.5), (36.5, 13), _LOSS, "", "losses/criterion.py, losses/query_terms.py")
    _text(axes, (102.25, 12.8), "in training", 11, color=_LOSS[1], weight="bold")
    lines = (
        "matched to the true masks: focal loss of $p$, dice of $m$",
        "AQDL: queries that sound must not be alike",
        "AQML: their masks must not overlap",
    )
    for row, line in enumerate(lines):
        _text(axes, (102.25, 10.3 - 2.3 * row), line, 9)
    _arrow(axes, (93.5, 18.5), (93.5, 14.5), dashed=True)
    _arrow(axes, (114, 20), (114, 14.5), dashed=True)
    _arrow(axes, (114, 34), (114, 27), dashed=True, head=False)


def _box(
    axes: Axes,
    corner: _Point,
    shape: _Point,
    colors: _Colors,
    words: str,
    file: str = "",
    size: float = 10.5,
) -> None:
    """A rounded box with words in it and, at its foot, the file that holds it."""
    box = FancyBboxPatch(
        corner,
        *shape,
        boxstyle="round,pad=0,rounding_size=1",
        facecolor=colors[0],
        edgecolor=colors[1],
        linewidth=1.3,
        zorder=2,
    )
    axes.add_patch(box)
    middle = corner[0] + shape[0] / 2
    _text(axes, (middle, corner[1] + shape[1] / 2 + (0.8 if file else 0.0)), words, size)
    _text(axes, (middle, corner[1] + 1.3), file, 7, color=_FAINT)


def _text(
    axes: Axes,
    place: _Point,
    words: str,
    size: float,
    *,
    color: str = _INK,
    weight: str = "normal",
    align: str = "center",
) -> None:
    axes.text(
        *place,
        words,
        fontsize=size,
        color=color,
        fontweight=weight,
        ha=align,
        va="center",
        linespacing=1.3,
        zorder=5,
    )


def _arrow(axes: Axes, *points: _Point, dashed: bool = False, head: bool = True) -> None:
    """A line through the points, with an arrow head at the last one."""
    style = "--" if dashed else "-"
    axes.plot(*zip(*points[:-1], strict=True), color=_INK, linewidth=1.2, linestyle=style, zorder=1)
    last = FancyArrowPatch(
        points[-2],
        points[-1],
        arrowstyle="-|>" if head else "-",
        mutation_scale=11,
        color=_INK,
        linewidth=1.2,
        linestyle=style,
        shrinkA=0,
        shrinkB=0,
        zorder=1,
    )
    axes.add_patch(last)


def _grid(axes: Axes, corner: _Point, side: float, cells: int) -> None:
    """A feature map: a square of cells."""
    frame = Rectangle(corner, side, side, facecolor=_PICTURE[0], edgecolor=_PICTURE[1], zorder=2)
    axes.add_patch(frame)
    for line in np.linspace(0, side, cells + 1)[1:-1]:
        for xs, ys in (((line, line), (0, side)), ((0, side), (line, line))):
            axes.plot(
                corner[0] + np.array(xs),
                corner[1] + np.array(ys),
                color=_PICTURE[1],
                linewidth=0.4,
                zorder=3,
            )


def _strip(axes: Axes, corner: _Point, frames: Sequence[Image]) -> None:
    """Frames side by side, as wide together as the log-mel picture."""
    pitch, side = 15 / _SECONDS, 15 / _SECONDS - 0.25
    for second, frame in enumerate(frames):
        left = corner[0] + pitch * second + (pitch - side) / 2
        axes.imshow(frame, extent=(left, left + side, corner[1], corner[1] + side), aspect="auto")


def _scene(second: int, marked: bool = False) -> Image:
    """A drawn frame: a ball and a tent in a meadow; optionally with what sounds marked.

    The ball sounds in the first two seconds, the tent in the last two.
    """
    height, width = _FRAME_SHAPE
    row, column = np.mgrid[:height, :width].astype(float)
    sky = np.array([150.0, 195.0, 235.0]) + 0.8 * row[..., None]
    meadow = row > 52 + 3 * np.sin(column / 14)
    frame = np.where(meadow[..., None], np.array([122.0, 168.0, 92.0]), sky)
    ball = (row - 58) ** 2 + (column - 20 - 4 * second) ** 2 < 14**2
    tent = (row > 26) & (row < 64) & (np.abs(column - 60) < 0.55 * (row - 26))
    frame[tent] = (214, 184, 120)
    frame[ball] = (196, 78, 62)
    if marked:
        sounding = (ball & (second < 2)) | (tent & ~ball & (second > 0))
        frame[sounding] = 0.25 * frame[sounding] + 0.75 * 255 * np.array(PREDICTION_COLOR)
    return frame.clip(0, 255).astype(np.uint8)


def _spectrogram() -> np.ndarray:
    """What the ball (a tone) and the tent (flapping) sound like; [band, time window]."""
    bands, windows = 64, 32 * _SECONDS
    band, window = np.mgrid[:bands, :windows].astype(float)
    second = window // (windows / _SECONDS)
    tone = np.exp(-(((band % 11) - 4) ** 2) / 2) * np.exp(-band / 45) * (second < 2)
    bursts = np.exp(-((window % 12) / 4)) * np.exp(-(((band - 26) / 22) ** 2)) * (second > 0)
    noise = np.random.default_rng(0).uniform(0, 0.12, (bands, windows))
    return tone + 0.8 * bursts + noise


if __name__ == "__main__":
    raise SystemExit(main())
