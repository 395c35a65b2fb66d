"""A table of pictures: titled rows, one column a second."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from transavs.visualization.overlay import Image

_GAP = 6
_BACKGROUND = (255, 255, 255)
_NOTHING_HERE = (238, 238, 238)
_INK = (40, 40, 40)
_LABEL_SIZE = 15
_TITLE_SIZE = 17
_MARGIN = 10


@dataclass(frozen=True)
class Row:
    """One row of a picture table.

    Attributes:
        title: stands on the left, may have several lines.
        cells: one picture uint8 ``[H, W, 3]`` a column, all of one size; None leaves it blank.
    """

    title: str
    cells: Sequence[Image | None]


def compose_grid(
    rows: Sequence[Row],
    column_titles: Sequence[str],
    title: str = "",
    possible_titles: Iterable[str] = (),
) -> Image:
    """Returns one picture uint8 ``[H, W, 3]`` (RGB) of all rows under each other.

    Args:
        rows: each with as many cells as there are columns; at least one cell of all is a picture.
        column_titles: over the columns.
        title: over the whole; "" for none.
        possible_titles: row titles that other pictures have: room is kept for the widest, so that
            the columns of all pictures stand at one place.
    """
    assert rows and all(len(row.cells) == len(column_titles) for row in rows), rows
    width = next(cell.shape[1] for row in rows for cell in row.cells if cell is not None)
    heights = [_row_height(row, width) for row in rows]
    titles = [*(row.title for row in rows), *possible_titles]
    left = max(text_size(words, _LABEL_SIZE)[0] for words in titles) + 2 * _MARGIN
    header = text_size("A", _LABEL_SIZE)[1] + _MARGIN
    top = header + (text_size(title, _TITLE_SIZE)[1] + 2 * _MARGIN if title else _MARGIN // 2)
    total_width = left + len(column_titles) * (width + _GAP)
    if title:
        total_width = max(total_width, text_size(title, _TITLE_SIZE)[0] + 2 * _MARGIN)
    total_height = top + sum(heights) + _GAP * len(rows)
    canvas = PillowImage.new("RGB", (total_width, total_height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=load_font(_TITLE_SIZE))
    for column, text in enumerate(column_titles):
        place = (left + column * (width + _GAP) + width / 2, top - _MARGIN // 2)
        draw.text(place, text, fill=_INK, font=load_font(_LABEL_SIZE), anchor="ms")
    for row, height in zip(rows, heights, strict=True):
        middle = (left - _MARGIN, top + height / 2)
        draw.multiline_text(
            middle, row.title, fill=_INK, font=load_font(_LABEL_SIZE), anchor="rm", align="right"
        )
        for column, cell in enumerate(row.cells):
            corner = (left + column * (width + _GAP), top)
            if cell is None:
                box = (*corner, corner[0] + width - 1, corner[1] + height - 1)
                draw.rectangle(box, fill=_NOTHING_HERE)
            else:
                canvas.paste(PillowImage.fromarray(cell), corner)
        top += height + _GAP
    return np.array(canvas)


def note_on(picture: Image, text: str) -> Image:
    """Returns a faded copy of a picture with a short text in its middle."""
    faded = PillowImage.fromarray((picture * 0.35 + 255 * 0.65).astype(np.uint8))
    center = (faded.width / 2, faded.height / 2)
    ImageDraw.Draw(faded).text(center, text, fill=_INK, font=load_font(_LABEL_SIZE), anchor="mm")
    return np.array(faded)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Returns (width, height) in pixels of a text of one or more lines."""
    draw = ImageDraw.Draw(PillowImage.new("RGB", (1, 1)))
    left, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=load_font(size))
    return int(np.ceil(right - left)), int(np.ceil(bottom))


@functools.cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans, which comes with matplotlib and so is on every machine."""
    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size)


def _row_height(row: Row, width: int) -> int:
    shapes = {cell.shape[:2] for cell in row.cells if cell is not None}
    assert len(shapes) <= 1 and all(shape[1] == width for shape in shapes), (row.title, shapes)
    return next(iter(shapes))[0] if shapes else width
