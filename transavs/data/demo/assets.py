"""Pictures, recordings and backgrounds in memory, ready for the composer.

`load_real_assets` fills `DemoAssets` from the unpacked packages, `drawn.make_drawn_assets` with
shapes and synthetic timbres. The composer sees no difference.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from transavs.data.demo import catalogue, packages
from transavs.data.demo.packages import UnpackedPackage
from transavs.data.demo.pictures import Picture, cut_out, shrink_photograph
from transavs.data.demo.qrc import QtResource
from transavs.data.demo.sounds import Recording, prepare_recording


@dataclass(frozen=True)
class Background:
    """A photograph (or drawn texture) that fills the frame.

    Attributes:
        reference: name of the file, see `catalogue`.
        rgb: uint8 [height, width, 3].
    """

    reference: str
    rgb: np.ndarray


@dataclass(frozen=True)
class ClassAssets:
    """All that is needed to show and sound one class; fields as in `catalogue.SoundingClass`."""

    name: str
    category: str
    group: str
    pictures: tuple[Picture, ...]
    recordings: tuple[Recording, ...]
    held_out: Recording | None


@dataclass(frozen=True)
class DemoAssets:
    """Everything that one demo set is composed from.

    Attributes:
        source: ``"real"`` (photographs and recordings) or ``"drawn"``.
        classes: the classes that sound; their order is that of the class indices.
        silent: cut-outs of things that never sound.
        backgrounds: used by train, val and test.
        held_out_backgrounds: used by unseen only.
        origin: where the files come from, one line a package, for the credits.
    """

    source: str
    classes: tuple[ClassAssets, ...]
    silent: tuple[Picture, ...]
    backgrounds: tuple[Background, ...]
    held_out_backgrounds: tuple[Background, ...]
    origin: tuple[str, ...]

    def references(self) -> list[str]:
        """Sorted references of all files that the set may show or sound."""
        found = {each.reference for each in (*self.backgrounds, *self.held_out_backgrounds)}
        found |= {picture.reference for picture in self.silent}
        for each in self.classes:
            found |= {picture.reference for picture in each.pictures}
            found |= {recording.reference for recording in each.recordings}
            if each.held_out is not None:
                found.add(each.held_out.reference)
        return sorted(found)


class AssetFiles:
    """Content of the files that the references of `catalogue` name.

    Args:
        unpacked: the packages, as `packages.provide_packages` returns them.
    """

    def __init__(self, unpacked: Mapping[str, UnpackedPackage]) -> None:
        tuxpaint = Path("usr/share/tuxpaint")
        self._folders = {
            "tp": unpacked[packages.STAMPS.name].folder / tuxpaint / "stamps",
            "bg": unpacked[packages.TEMPLATES.name].folder / tuxpaint / "templates",
        }
        self._resources = unpacked[packages.SOUNDS.name].folder / "usr/share/gcompris-qt/rcc"
        self._open: dict[str, QtResource] = {}

    def read(self, reference: str) -> bytes:
        """Bytes of the file called ``reference``.

        Raises:
            FileNotFoundError: the packages hold no such file.
        """
        kind, _, path = reference.partition(":")
        if kind == "gc":
            return self._read_resource(reference, *path.split("/"))
        file = self._folders[kind] / path
        if not file.is_file():
            raise FileNotFoundError(f"{reference}: the unpacked package holds no file {file}")
        return file.read_bytes()

    def picture(self, reference: str) -> Picture:
        """Cleaned cut-out; may be mirrored unless the stamp's ``.dat`` file forbids it."""
        hints = self._folders["tp"] / Path(reference.partition(":")[2]).with_suffix(".dat")
        words = (
            hints.read_text(encoding="utf-8", errors="replace").split() if hints.exists() else []
        )
        with Image.open(io.BytesIO(self.read(reference))) as image:
            return Picture(reference, cut_out(image, reference), "nomirror" not in words)

    def recording(self, reference: str) -> Recording:
        """Recording at 16 kHz mono, without silence, peak 1."""
        samples, sample_rate = soundfile.read(
            io.BytesIO(self.read(reference)), dtype="float32", always_2d=True
        )
        return prepare_recording(reference, samples.mean(axis=1), sample_rate)

    def background(self, reference: str) -> Background:
        """Photograph, shrunk to what a frame needs."""
        with Image.open(io.BytesIO(self.read(reference))) as image:
            return Background(reference, shrink_photograph(image))

    def _read_resource(self, reference: str, activity: str, name: str) -> bytes:
        if activity not in self._open:
            self._open[activity] = QtResource(self._resources / f"{activity}.rcc")
        resource = self._open[activity]
        paths = [path for path in resource.names() if path.rpartition("/")[2] == name]
        if len(paths) != 1:
            raise FileNotFoundError(f"{reference}: {resource.path} holds {len(paths)} such files")
        return resource.read(paths[0])


def load_real_assets(
    unpacked: Mapping[str, UnpackedPackage], classes: Sequence[catalogue.SoundingClass]
) -> DemoAssets:
    """Assets read from the unpacked packages.

    Args:
        unpacked: the packages, as `packages.provide_packages` returns them.
        classes: which classes to read, see `catalogue.classes_named`.
    """
    files = AssetFiles(unpacked)
    backgrounds = [files.background(reference) for reference in catalogue.BACKGROUNDS]
    held_out = [catalogue.is_held_out_background(index) for index in range(len(backgrounds))]
    return DemoAssets(
        source="real",
        classes=tuple(
            ClassAssets(
                name=each.name,
                category=each.category,
                group=each.group,
                pictures=tuple(files.picture(reference) for reference in each.pictures),
                recordings=tuple(files.recording(reference) for reference in each.recordings),
                held_out=None if each.held_out is None else files.recording(each.held_out),
            )
            for each in classes
        ),
        silent=tuple(files.picture(reference) for reference in catalogue.SILENT_PICTURES),
        backgrounds=tuple(each for each, out in zip(backgrounds, held_out, strict=True) if not out),
        held_out_backgrounds=tuple(
            each for each, out in zip(backgrounds, held_out, strict=True) if out
        ),
        origin=tuple(
            f"{each.name} {unpacked[each.name].version} ({each.licence})"
            for each in packages.PACKAGES
        ),
    )
