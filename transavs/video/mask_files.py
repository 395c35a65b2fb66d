"""Masks of a film in files: a PNG a moment, or one JSON file in COCO's form for results."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pycocotools import mask as coco_mask

from transavs.utils.whole_files import WholeFile, cannot_write, make_folder

# Binary audio-visual segmentation has one class of object; COCO counts from 1.
CATEGORY_ID = 1


class MaskFiles(ABC):
    """Where masks are written while a film is worked on; leaving the ``with`` block finishes."""

    @abstractmethod
    def add(
        self,
        number: int,
        seconds: float,
        mask: NDArray[np.bool_],
        objects: list[tuple[int, float, NDArray[np.bool_]]],
    ) -> None:
        """Adds the masks of a moment.

        Args:
            number: of the moment, from 0 on.
            seconds: when it is, from the film's beginning.
            mask: bool ``[H, W]``, all that sounds.
            objects: (track, confidence, mask) of each object; may be empty although ``mask`` is
                not, for models that know no objects.
        """

    @abstractmethod
    def close(self, failed: bool = False) -> None:
        """Finishes; what a failure left half-written goes away."""

    def __enter__(self) -> MaskFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(failed=error is not None)


class PngMasks(MaskFiles):
    """A PNG of 0 and 255 a moment, in a folder, named by the moment's milliseconds.

    Args:
        folder: is made if needed, and goes away again if no mask comes or the film fails.

    Raises:
        OSError: it cannot be made.
        ValueError: it holds PNGs already: nothing would tell them from the masks of this film.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._written: list[Path] = []
        self._made = [one for one in (self.folder, *self.folder.parents) if not one.exists()]
        try:
            make_folder(self.folder)
            held = sorted(file.name for file in self.folder.iterdir() if file.suffix == ".png")
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        if held:
            raise ValueError(
                f"the masks would lie among the PNGs that {folder} holds already ({len(held)}, "
                f"such as {held[0]}): take these away, or name another folder"
            )

    def add(
        self,
        number: int,
        seconds: float,
        mask: NDArray[np.bool_],
        objects: list[tuple[int, float, NDArray[np.bool_]]],
    ) -> None:
        path = self.folder / f"{round(1000 * seconds):09d}.png"
        whole = WholeFile(path)
        try:
            PillowImage.fromarray(mask.astype(np.uint8) * 255).save(whole.temporary, format="PNG")
        except OSError as error:
            whole.discard()
            raise cannot_write(path, error) from error
        whole.finish()
        self._written.append(path)

    def close(self, failed: bool = False) -> None:
        if failed:
            for path in self._written:
                path.unlink(missing_ok=True)
        try:
            for folder in self._made:
                folder.rmdir()
        except OSError:
            pass  # it holds something


class RleMasks(MaskFiles):
    """COCO's list of results, which ``pycocotools.coco.COCO.loadRes`` reads, in one JSON file.

    An entry an object, or one for all that sounds where the model knows no objects: ``image_id``
    (number of the moment), ``category_id`` 1, ``segmentation`` (``size`` and compressed
    ``counts``), ``score``, and beyond COCO ``seconds`` and ``track_id``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._whole = WholeFile(path)
        # Line by line: the masks of a long film need not fit into memory.
        self._file = self._whole.temporary.open("w", encoding="utf-8")
        self._separator = "[\n"

    def add(
        self,
        number: int,
        seconds: float,
        mask: NDArray[np.bool_],
        objects: list[tuple[int, float, NDArray[np.bool_]]],
    ) -> None:
        entries = objects
        if not entries and mask.any():
            entries = [(0, 1.0, mask)]
        for track, score, pixels in entries:
            entry: dict[str, Any] = {
                "image_id": number,
                "category_id": CATEGORY_ID,
                "segmentation": _run_lengths(pixels),
                "score": round(float(score), 4),
                "seconds": round(seconds, 4),
                "track_id": track,
            }
            self._write(self._separator + json.dumps(entry))
            self._separator = ",\n"

    def close(self, failed: bool = False) -> None:
        if self._file.closed:
            return
        if not failed:
            self._write("\n]\n" if self._separator.startswith(",") else "[]\n")
        try:
            self._file.close()
        except OSError as error:
            # What is still in the buffer may not fit on the disk.
            self._whole.discard()
            if not failed:
                raise cannot_write(self.path, error) from error
        if failed:
            self._whole.discard()
        else:
            self._whole.finish()

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            self.close(failed=True)
            raise cannot_write(self.path, error) from error


def open_mask_files(path: str | os.PathLike[str]) -> MaskFiles:
    """Returns the files that a path asks for: one file if it ends in .json, otherwise a folder."""
    return RleMasks(path) if Path(path).suffix.lower() == ".json" else PngMasks(path)


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in mask.shape], "counts": encoded["counts"].decode("ascii")}
