"""Parquet files of predictions: their columns, and which items each of them holds."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'predictions are kept as Parquet, which needs pyarrow: pip install "transavs[predict]", or '
        "pip install pyarrow",
        name=error.name,
    ) from error

from transavs.utils.whole_files import write_bytes

#: A row is a moment of an item. ``counts`` are COCO's compressed run lengths of the mask [height,
#: width]; ``score`` is the confidence that something sounds; ``classes`` are those in the picture,
#: each with the run lengths of its part of the mask, null for a model that tells none apart.
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("counts", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("classes", pa.list_(pa.string())),
        pa.field("class_counts", pa.list_(pa.string())),
    ]
)
_ITEMS_KEY = b"transavs_items"
_REMEDY = (
    "bring back a whole copy, or delete it: the command that wrote it then predicts its items again"
)


@dataclass(frozen=True)
class ItemRows:
    """The rows of one item.

    Attributes:
        index: of the item in its manifest.
        table: of ``SCHEMA``.
    """

    index: int
    table: Any

    @classmethod
    def of(cls, index: int, item_id: str, rows: Sequence[dict[str, Any]]) -> ItemRows:
        """Makes them of the dicts that ``predict_item`` returns."""
        named = [{"id": item_id, **row} for row in rows]
        return cls(index, pa.Table.from_pylist(named, schema=SCHEMA))


def write_items(path: Path, items: Sequence[ItemRows]) -> None:
    """Writes a file of items in one step."""
    counts = [[item.index, item.table.num_rows] for item in items]
    table = pa.concat_tables([item.table for item in items]).combine_chunks()
    table = table.replace_schema_metadata({_ITEMS_KEY: json.dumps(counts)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def items_in(path: Path) -> list[tuple[int, int]]:
    """Returns (index, number of rows) of each item in a file, from the file's end alone.

    Raises:
        ValueError: no such Parquet file.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        counts = json.loads(metadata[_ITEMS_KEY])
        return [(int(index), int(rows)) for index, rows in counts]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no predictions ({error}): {_REMEDY}") from None


def read_items(path: Path) -> list[ItemRows]:
    """Returns what :func:`write_items` wrote.

    Raises:
        ValueError: no such Parquet file.
    """
    counts = items_in(path)
    try:
        table = pq.ParquetFile(path).read().replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {_REMEDY}") from None
    if not table.schema.equals(SCHEMA) or table.num_rows != sum(rows for _, rows in counts):
        raise ValueError(f"{path} holds other columns or rows than predictions have: {_REMEDY}")
    items, first = [], 0
    for index, rows in counts:
        items.append(ItemRows(index, table.slice(first, rows)))
        first += rows
    return items
