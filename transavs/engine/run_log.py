"""Numbers of a training on disk: each iteration once, however often the run was interrupted."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.utils.events import EventStorage, EventWriter, TensorboardXWriter, get_event_storage

from transavs.engine.checkpoint_files import write_whole

logger = logging.getLogger(__name__)


class MetricsFile(EventWriter):  # type: ignore[misc]
    """Appends scalars to a file, one JSON object a line and an iteration, in rising order.

    The lines are those of detectron2's JSONWriter without smoothing. Unlike its file, this one can
    be taken back to what it was at a checkpoint.

    Args:
        path: of the file; made when there is something to write.

    Attributes:
        last_write: the newest iteration in the file, -1 before the first.
        size: of the file behind that line, in bytes.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.last_write = -1
        self.size = os.path.getsize(path) if os.path.exists(path) else 0

    def write(self) -> None:
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in get_event_storage().latest().items():
            if iteration > self.last_write:
                lines[iteration][name] = value
        if not lines:
            return
        content = [json.dumps({**lines[i], "iteration": i}, sort_keys=True) for i in sorted(lines)]
        with open(self._path, "ab") as file:
            file.write("".join(f"{line}\n" for line in content).encode())
            file.flush()
            os.fsync(file.fileno())
            self.size = file.tell()
        self.last_write = max(lines)

    def go_back(self, last_write: int, size: int | None = None) -> None:
        """Drops what was written later, and half a line if there is one.

        Args:
            last_write: the newest iteration that stays.
            size: of the file then, in bytes; None if unknown: lines are chosen by iteration.
        """
        self.last_write = last_write
        if not os.path.exists(self._path):
            self.size = 0
            return
        before = os.path.getsize(self._path)
        if size is not None and _ends_a_line(self._path, size):
            if size < before:
                os.truncate(self._path, size)
        else:
            self._keep_lines(lambda iteration: iteration <= last_write)
        self.size = os.path.getsize(self._path)
        if self.size < before:
            logger.info(
                "%s goes on behind iteration %d; what was there of later ones is written again",
                self._path,
                last_write,
            )

    def drop_half_a_line(self) -> None:
        """Drops what is no whole line."""
        if os.path.exists(self._path):
            self._keep_lines(lambda iteration: True)
            self.size = os.path.getsize(self._path)

    def _keep_lines(self, wanted: Callable[[int], bool]) -> None:
        with open(self._path, "rb") as file:
            lines = file.readlines()
        kept = [line for line in lines if _is_whole(line, wanted)]
        if kept != lines:
            write_whole(self._path, lambda file: file.write(b"".join(kept)))


class FlushedTensorboard(TensorboardXWriter):  # type: ignore[misc]
    """Writes to TensorBoard at once: what it holds back is lost when a process is killed."""

    def __init__(self, folder: str) -> None:
        # Unsmoothed curves: a running median would differ after resuming.
        super().__init__(folder, window_size=1)

    def go_on(self, last_write: int) -> None:
        """Hides events of later iterations in older files; those are written again."""
        self._last_write = last_write
        self._writer_args["purge_step"] = last_write + 1

    def write(self) -> None:
        super().write()
        self._writer.flush()


class RunLog(hooks.PeriodicWriter):  # type: ignore[misc]
    """Writes scalars and pictures every few iterations, and goes on after resuming as if nothing
    had been.

    A checkpoint holds what was not yet written, and how far ``metrics.json`` was. Without such
    (checkpoints of older versions) later lines are dropped by their iteration; the numbers between
    the last line and the checkpoint are then missing.

    Args:
        writers: of detectron2 or the above.
        period: in iterations.

    Attributes:
        resuming: the run was asked to go on. Where it then starts at 0, it was killed before its
            first checkpoint, and its lines are dropped.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        super().__init__(list(writers), period)
        self.resuming = False
        self._restored: dict[str, Any] | None = None
        self._metrics = next((w for w in writers if isinstance(w, MetricsFile)), None)

    def before_train(self) -> None:
        restored, self._restored = self._restored, None
        start: int = self.trainer.start_iter
        if restored is not None and start:
            self._go_back(restored["last_write"], restored["size"])
            _put_back(restored, self.trainer.storage)
        elif self.resuming or start:
            self._go_back(start - 1, None if start else 0)
        elif self._metrics is not None:
            self._metrics.drop_half_a_line()

    def state_dict(self) -> dict[str, Any]:
        if self._metrics is None or not hasattr(self.trainer, "storage"):
            return self._restored or {}
        storage, last_write = self.trainer.storage, self._metrics.last_write
        hints = storage.smoothing_hints()
        return {
            "last_write": last_write,
            "size": self._metrics.size,
            "scalars": [
                [name, value, iteration, hints[name]]
                for name, (value, iteration) in sorted(storage.latest().items())
                if iteration > last_write
            ],
            # For TensorBoard; written together with the scalars.
            "pictures": [
                [name, torch.as_tensor(picture), iteration]
                for name, picture, iteration in storage._vis_data
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def _go_back(self, last_write: int, size: int | None) -> None:
        for writer in self._writers:
            if isinstance(writer, MetricsFile):
                writer.go_back(last_write, size)
            elif isinstance(writer, FlushedTensorboard):
                writer.go_on(last_write)


def _put_back(state: dict[str, Any], storage: EventStorage) -> None:
    for name, value, iteration, hint in state["scalars"]:
        storage.put_scalar(name, value, smoothing_hint=hint, cur_iter=iteration)
    for name, picture, iteration in state["pictures"]:
        storage._vis_data.append((name, picture.numpy(), iteration))


def _ends_a_line(path: str, size: int) -> bool:
    """Whether a file has this many bytes or more, and a line ends there."""
    if size == 0:
        return True
    with open(path, "rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _is_whole(line: bytes, wanted: Callable[[int], bool]) -> bool:
    try:
        return line.endswith(b"\n") and wanted(int(json.loads(line)["iteration"]))
    except (ValueError, KeyError, TypeError):
        return False
