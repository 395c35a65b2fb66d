"""Picture readers: values, and refusal of files that would mislead."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from transavs.data.image_files import (
    read_frame,
    read_label_map,
    read_mask,
    read_picture_size,
    read_png_size,
)

READERS = (read_frame, read_mask, read_label_map, read_png_size)


def with_png_size(data: bytes, size: int) -> bytes:
    """A PNG whose header tells another width and height."""
    header = data[12:16] + struct.pack(">II", size, size) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def write(path: Path, image: np.ndarray) -> str:
    assert cv2.imwrite(str(path), image)
    return str(path)


def test_frame_in_both_channel_orders(tmp_path: Path) -> None:
    path = str(tmp_path / "frame.png")
    PillowImage.fromarray(np.array([[[255, 10, 0], [1, 2, 3]]], dtype=np.uint8)).save(path)
    assert read_frame(path, "RGB").tolist() == [[[255, 10, 0], [1, 2, 3]]]
    assert read_frame(path, "BGR").tolist() == [[[0, 10, 255], [3, 2, 1]]]


def test_grey_and_transparent_frames_have_three_channels(tmp_path: Path) -> None:
    grey = write(tmp_path / "grey.png", np.full((2, 3), 7, np.uint8))
    transparent = write(tmp_path / "alpha.png", np.full((2, 3, 4), 7, np.uint8))
    assert read_frame(grey).shape == read_frame(transparent).shape == (2, 3, 3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB"])
def test_mask_of_any_mode(tmp_path: Path, mode: str) -> None:
    expected = np.array([[True, False, False], [False, True, True]])
    path = str(tmp_path / "mask.png")
    PillowImage.fromarray(expected.astype(np.uint8) * 255).convert(mode).save(path)
    mask = read_mask(path)
    assert mask.dtype == np.bool_
    assert (mask == expected).all()


def test_mask_threshold_and_empty_mask(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.png", np.array([[0, 127, 128, 255]], np.uint8))
    assert read_mask(path).tolist() == [[False, False, True, True]]
    assert not read_mask(write(tmp_path / "empty.png", np.zeros((2, 2), np.uint8))).any()


@pytest.mark.parametrize("largest", [1, 38, 127])
def test_mask_of_another_convention_is_refused(tmp_path: Path, largest: int) -> None:
    path = write(tmp_path / "mask.png", np.array([[0, largest]], np.uint8))
    with pytest.raises(ValueError, match=f"largest value here is {largest};") as raised:
        read_mask(path)
    assert path in str(raised.value)


def test_label_map_keeps_its_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    assert (read_label_map(write(tmp_path / "labels.png", labels)) == labels).all()


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint16)], ids=["colour", "16 bit"]
)
def test_label_map_of_another_kind_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="8-bit single-channel PNG"):
        read_label_map(write(tmp_path / "labels.png", image))


def test_size_of_a_jpeg(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    path = Path(write(tmp_path / "a.jpg", image))
    assert read_picture_size(str(path)) == (30, 50)
    data = path.read_bytes()
    for damaged, message in (
        (data[:-40], "a.jpg is truncated"),
        (b"", "a.jpg is no JPEG \\(0 bytes"),
        (b"<html>", "a.jpg is no JPEG"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            read_picture_size(str(path))
    with pytest.raises(FileNotFoundError, match="no .*gone.jpg; restore the file"):
        read_picture_size(str(tmp_path / "gone.jpg"))
    assert read_picture_size(write(tmp_path / "b.png", image)) == (30, 50)


def test_pictures_that_training_reads_pass_the_look_at_their_header(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    path = Path(write(tmp_path / "a.jpg", image))
    for data in (
        path.read_bytes() + bytes(500),
        cv2.imencode(".png", image)[1].tobytes(),
    ):
        path.write_bytes(data)
        assert read_picture_size(str(path)) == read_frame(str(path)).shape[:2] == (30, 50)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.7, 0.99])
def test_truncated_jpeg(tmp_path: Path, keep: float) -> None:
    """OpenCV would read the lower part of such a frame as grey."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = Path(write(tmp_path / "cut.jpg", image))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    for read in (read_frame, read_picture_size):
        with pytest.raises(ValueError, match="cut.jpg is truncated .*; restore the file"):
            read(str(path))


def test_broken_jpeg_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8" + bytes(20) + b"\xff\xd9")
    for read in (read_frame, read_picture_size):
        with pytest.raises(ValueError, match="a.jpg is no readable image .*; restore the file"):
            read(str(path))


def test_absurd_size(tmp_path: Path) -> None:
    """A header that promises gigabytes of pixels."""
    path = Path(write(tmp_path / "a.png", np.zeros((2, 2), np.uint8)))
    path.write_bytes(with_png_size(path.read_bytes(), 60000))
    for read in READERS[:3]:
        with pytest.raises(ValueError, match="a.png is 60000 x 60000 pixels, more than"):
            read(str(path))


def test_png_size_is_height_then_width(tmp_path: Path) -> None:
    assert read_png_size(write(tmp_path / "a.png", np.zeros((3, 5), np.uint8))) == (3, 5)


@pytest.mark.parametrize("read", READERS)
def test_missing_file(tmp_path: Path, read) -> None:
    with pytest.raises(FileNotFoundError, match="gone.png; restore the file"):
        read(str(tmp_path / "gone.png"))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated_png(tmp_path: Path, read, keep: float) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    path = Path(write(tmp_path / "cut.png", image))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match="restore the file") as raised:
        read(str(path))
    assert str(path) in str(raised.value)


def test_other_content_under_a_png_name(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    path.write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="no readable image"):
        read_frame(str(path))
    with pytest.raises(ValueError, match="no PNG"):
        read_png_size(str(path))
