"""Items that could not be predicted, a line of JSON each, with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

from transavs.utils.whole_files import cannot_write, write_text


class SetAside:
    """The file of items that were set aside; a line is there when :meth:`add` returns.

    Args:
        path: of the file, which is made with the first item.

    Attributes:
        errors: index of an item -> (its id, why it was set aside).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: dict[int, tuple[str, str]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self.errors[int(entry["index"])] = (str(entry["id"]), str(entry["error"]))
                except (ValueError, KeyError, TypeError):
                    # The line that a killed run was writing: its item is tried again.
                    continue
            self.sort()

    def add(self, index: int, item_id: str, error: str) -> None:
        """Appends an item."""
        self.errors[index] = (item_id, error)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._line(index))
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise cannot_write(self.path, problem) from problem

    def clear(self) -> int:
        """Forgets all items; returns how many there were."""
        count = len(self.errors)
        self.errors.clear()
        self.path.unlink(missing_ok=True)
        return count

    def sort(self) -> None:
        """Writes the file anew, in the order of the manifest."""
        if self.errors:
            write_text(self.path, "".join(self._line(index) for index in sorted(self.errors)))

    def _line(self, index: int) -> str:
        item_id, error = self.errors[index]
        entry = {"index": index, "id": item_id, "error": error}
        return json.dumps(entry, ensure_ascii=False) + "\n"
