"""Class maps from ids and from colours: equal classes, and pixels without a class."""

import struct
import zlib
from pathlib import Path

import avsbench_trees as trees
import cv2
import numpy as np
import PIL.Image
import pytest

from transavs.data.class_maps import read_class_map, voc_palette


def write(path: Path, image: np.ndarray) -> str:
    trees.write_image(path, image)
    return str(path)


def test_palette() -> None:
    palette = voc_palette(71)
    # Out of the published table.
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 31: (192, 192, 128)}
    expected |= {32: (0, 0, 64), 56: (64, 64, 64), 63: (192, 192, 192), 64: (32, 0, 0)}
    expected |= {65: (160, 0, 0), 70: (32, 128, 128)}
    assert {label: tuple(map(int, palette[label])) for label in expected} == expected
    assert len({tuple(color) for color in palette.tolist()}) == 71


def test_ids_and_colors_agree(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 71, (9, 40), dtype=np.uint8)
    ids.ravel()[:71] = np.arange(71)
    colors = voc_palette(71)[ids]
    for form, image in (("class_ids", ids), ("class_colors", colors[..., ::-1])):
        read = read_class_map(write(tmp_path / f"{form}.png", image), form, 71)
        assert read.dtype == np.uint8 and (read == ids).all()


def test_palette_pictures(tmp_path: Path) -> None:
    """Writers may store a map as indices into a palette: the index is the id, the entry the
    colour."""
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = PIL.Image.fromarray(ids, mode="P")
    picture.putpalette(voc_palette(256).tobytes())
    path = tmp_path / "map.png"
    picture.save(path)
    for form in ("class_ids", "class_colors"):
        assert (read_class_map(str(path), form, 71) == ids).all()


def save_with_palette(path: Path, ids: np.ndarray, palette: np.ndarray) -> str:
    picture = PIL.Image.fromarray(ids, mode="P")
    picture.putpalette(palette.tobytes())
    picture.save(path)
    return str(path)


def test_colors_with_a_palette_of_their_own_are_no_ids(tmp_path: Path) -> None:
    """As programs that save few colours write them: places in the palette, not classes."""
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    path = save_with_palette(tmp_path / "map.png", indices, voc_palette(71)[[0, 64, 70]])
    assert read_class_map(path, "class_colors", 71).tolist() == [[0, 64], [70, 64]]
    message = "map.png: expected a map of class ids.*value 1 has the colour of class 64.*'rgb'"
    with pytest.raises(ValueError, match=message):
        read_class_map(path, "class_ids", 71)


@pytest.mark.parametrize("kind", ["greys", "other colours"])
def test_palettes_that_tell_nothing(tmp_path: Path, kind: str) -> None:
    ids = np.array([[0, 64], [70, 64]], np.uint8)
    palette = {
        "greys": np.arange(256).repeat(3).astype(np.uint8),
        "other colours": np.arange(768).astype(np.uint8),
    }[kind]
    path = save_with_palette(tmp_path / "map.png", ids, palette)
    assert (read_class_map(path, "class_ids", 71) == ids).all()


def test_greys_are_no_colors(tmp_path: Path) -> None:
    """The id of a tuba, 64, as a grey is the colour of a tabla, 56."""
    path = write(tmp_path / "map.png", np.array([[0, 64]], np.uint8))
    with pytest.raises(ValueError, match="map.png: expected a colour-coded map, got .* mode 'L'"):
        read_class_map(path, "class_colors", 71)
    # So are those whose palette gives each number as a grey.
    greys = np.arange(256).repeat(3).astype(np.uint8)
    save_with_palette(Path(path), np.array([[0, 64]], np.uint8), greys)
    with pytest.raises(ValueError, match="map.png: expected a colour-coded map, got .* mode 'L'"):
        read_class_map(path, "class_colors", 71)
    # An empty one is the same in both forms.
    path = write(tmp_path / "map.png", np.zeros((1, 2), np.uint8))
    assert (read_class_map(path, "class_colors", 71) == 0).all()


@pytest.mark.parametrize("form", ["class_ids", "class_colors"])
def test_absurd_size(tmp_path: Path, form: str) -> None:
    path = Path(write(tmp_path / "map.png", np.zeros((2, 2), np.uint8)))
    data = path.read_bytes()
    header = data[12:16] + struct.pack(">II", 60000, 60000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(ValueError, match="map.png is 60000 x 60000 pixels"):
        read_class_map(str(path), form, 71)


def test_unknown_color_names_file_and_place(tmp_path: Path) -> None:
    colors = trees.colored(trees.class_map((17, 41), 2, 5))
    colors[3, 4] = colors[3, 5] = (9, 8, 7)
    path = write(tmp_path / "map.png", colors)
    message = r"map.png: the colour \(7, 8, 9\) at row 3, column 4 is none of the 71 .*\(2 such"
    with pytest.raises(ValueError, match=message):
        read_class_map(path, "class_colors", 71)
    # A colour of the palette, but of no class of the data set.
    path = write(tmp_path / "other.png", np.full((2, 2, 3), (128, 128, 160), np.uint8))
    with pytest.raises(ValueError, match=r"other.png: the colour \(160, 128, 128\)"):
        read_class_map(path, "class_colors", 71)


def test_unknown_id_names_file(tmp_path: Path) -> None:
    path = write(tmp_path / "map.png", np.array([[0, 71], [255, 255]], np.uint8))
    message = "map.png: expected class ids from 0 to 70, got 71, 255 in 3 pixels"
    with pytest.raises(ValueError, match=message):
        read_class_map(path, "class_ids", 71)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("map.png", np.zeros((2, 2, 3), np.uint8)),
        ("map.png", np.full((2, 2), 257, np.uint16)),
        ("map.jpg", np.zeros((2, 2), np.uint8)),
    ],
    ids=["colour", "large numbers", "JPEG"],
)
def test_ids_of_another_kind(tmp_path: Path, name: str, image: np.ndarray) -> None:
    path = write(tmp_path / name, image)
    with pytest.raises(ValueError, match=f"{name}: expected a map of class ids.*'rgb'"):
        read_class_map(path, "class_ids", 71)


def test_maps_of_sixteen_bits(tmp_path: Path) -> None:
    ids = np.array([[0, 64, 70]], np.uint8)
    path = write(tmp_path / "ids.png", ids.astype(np.uint16))
    assert (read_class_map(path, "class_ids", 71) == ids).all()
    colors = voc_palette(71)[ids][..., ::-1].astype(np.uint16)
    for factor in (1, 257):
        path = write(tmp_path / "colors.png", colors * factor)
        assert (read_class_map(path, "class_colors", 71) == ids).all()


def test_transparent_colors(tmp_path: Path) -> None:
    colors = voc_palette(71)[np.array([[0, 64, 70]])][..., ::-1]
    opacity = np.array([[0, 255, 255]], np.uint8)
    path = write(tmp_path / "map.png", np.dstack([colors, opacity]))
    assert read_class_map(path, "class_colors", 71).tolist() == [[0, 64, 70]]
    path = write(tmp_path / "map.png", np.dstack([colors, 255 - opacity]))
    with pytest.raises(ValueError, match="map.png: 2 pixels have a colour and are transparent"):
        read_class_map(path, "class_colors", 71)


@pytest.mark.parametrize("form", ["class_ids", "class_colors"])
def test_broken_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / "map.png"
    with pytest.raises(FileNotFoundError, match="no .*map.png; restore"):
        read_class_map(str(path), form, 71)
    noise = np.random.default_rng(0).integers(0, 71, (40, 40), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    for damaged in (b"", data[: len(data) // 2], b"<html>"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="map.png is"):
            read_class_map(str(path), form, 71)


def test_unknown_form(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="class_ids, class_colors, got 'binary'"):
        read_class_map(str(tmp_path / "map.png"), "binary", 71)
