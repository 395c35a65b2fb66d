"""What became of an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Attributes:
        index: of the item in its manifest.
        rows: of ``predict_item``; None for an item that could not be predicted,
        error: and why.
    """

    index: int
    rows: list[dict[str, Any]] | None = None
    error: str = ""
