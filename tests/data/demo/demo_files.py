"""Writes Qt resources and small stand-ins for the packages of the demo set."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from transavs.data.demo import packages
from transavs.data.demo.packages import UnpackedPackage

FOLDER, ZLIB, ZSTD = 2, 1, 4


@dataclass
class Entry:
    """A node of the tree to write; a folder has children, a file has stored bytes."""

    name: str
    flags: int = 0
    stored: bytes = b""
    children: tuple[int, int] = (0, 0)  # count, index of the first


def write_resource(path: Path, version: int, entries: list[Entry]) -> Path:
    """Write a resource with the given tree nodes, in their order."""
    names, data, tree = b"", b"", b""
    for entry in entries:
        tree += struct.pack(">IH", len(names), entry.flags)
        names += struct.pack(">HI", len(entry.name), 0) + entry.name.encode("utf-16-be")
        if entry.flags & FOLDER:
            tree += struct.pack(">II", *entry.children)
        else:
            tree += struct.pack(">HHI", 0, 1, len(data))
            data += struct.pack(">I", len(entry.stored)) + entry.stored
        if version > 1:
            tree += bytes(8)
    header = 20 + (4 if version >= 3 else 0)
    offsets = (header, header + len(tree), header + len(tree) + len(data))
    content = b"qres" + struct.pack(">IIII", version, *offsets)
    content += bytes(4) if version >= 3 else b""
    path.write_bytes(content + tree + data + names)
    return path


def qt_zlib(plain: bytes) -> bytes:
    return struct.pack(">I", len(plain)) + zlib.compress(plain)


def cut_out_png(color: tuple[int, int, int]) -> bytes:
    """A block of colour on a transparent ground."""
    rgba = np.zeros((60, 90, 4), dtype=np.uint8)
    rgba[5:55, 5:85] = (*color, 255)
    return _image_bytes(Image.fromarray(rgba), "PNG")


def photograph(format: str) -> bytes:
    """A plain picture of 120 x 90 pixels."""
    return _image_bytes(Image.new("RGB", (120, 90), (40, 90, 60)), format)


def ogg(hertz: float) -> bytes:
    """Half a second of a stereo tone at 44.1 kHz."""
    time = np.arange(22050) / 44100
    buffer = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * hertz * time)
    soundfile.write(buffer, np.stack([tone, tone], 1), 44100, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def write_packages(folder: Path, references: Iterable[str]) -> dict[str, UnpackedPackage]:
    """Unpacked packages that hold a stand-in for every file that ``references`` name."""
    resources: dict[str, dict[str, bytes]] = {}
    for number, reference in enumerate(references):
        content = _stand_in(reference, number)
        kind, _, path = reference.partition(":")
        if kind == "gc":
            activity, name = path.split("/")
            resources.setdefault(activity, {})[name] = content
            continue
        place = {"tp": ("stamps", packages.STAMPS), "bg": ("templates", packages.TEMPLATES)}[kind]
        file = folder / place[1].name / "usr/share/tuxpaint" / place[0] / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    rcc = folder / packages.SOUNDS.name / "usr/share/gcompris-qt/rcc"
    rcc.mkdir(parents=True)
    for activity, files in resources.items():
        entries = [
            Entry("", FOLDER, children=(1, 1)),
            Entry("src", FOLDER, children=(len(files), 2)),
        ]
        entries += [Entry(name, ZLIB, qt_zlib(content)) for name, content in files.items()]
        write_resource(rcc / f"{activity}.rcc", 3, entries)
    return {
        each.name: UnpackedPackage(folder / each.name, each.version) for each in packages.PACKAGES
    }


def _stand_in(reference: str, number: int) -> bytes:
    suffix = reference.rpartition(".")[2]
    if suffix == "png":
        return cut_out_png((number % 256, 200, 90))
    if suffix == "ogg":
        return ogg(300 + number)
    return photograph("JPEG" if suffix == "jpg" else "WEBP")


def _image_bytes(image: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()
