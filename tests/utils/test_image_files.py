"""Picture readers: values, and refusal of files that would mislead."""

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image as PillowImage

from transavs.utils.image_files import (
    check_same_size,
    read_frame,
    read_label_map,
    read_mask,
    read_picture_size,
)

READERS = (read_frame, read_mask, read_label_map, read_picture_size)
WHITE = np.array([[0, 255, 255, 255, 0], [0, 255, 255, 255, 0], [0, 255, 255, 255, 0]], np.uint8)
MASK = WHITE > 0


def channels(*values: np.ndarray, dtype: type = np.uint8) -> np.ndarray:
    return np.dstack([np.broadcast_to(value, MASK.shape) for value in values]).astype(dtype)


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
    with pytest.raises(
        ValueError, match=f"areas of the grey {largest}, .* save it again"
    ) as raised:
        read_mask(path)
    assert path in str(raised.value)


BLOCK = np.pad(np.full((70, 90), 255, np.uint8), 67)
BLURRED = cv2.GaussianBlur(np.kron(WHITE, np.ones((9, 9), np.uint8)), (3, 3), 0)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (WHITE.astype(np.uint16) * 257, MASK),
        (WHITE.astype(np.uint16), MASK),
        (channels(WHITE, WHITE, WHITE, dtype=np.uint16), MASK),
        (channels(255, 255, 255, WHITE), MASK),  # white on transparent white
        (channels(WHITE, WHITE, WHITE, WHITE), MASK),
        (channels(WHITE, WHITE, WHITE, 255), MASK),
        (channels(255, 255, 255, MASK * 65535, dtype=np.uint16), MASK),
        (channels(7, 8, 9, WHITE), None),  # a photograph, cut out
        (channels(0, 0, 0, 0), np.zeros_like(MASK)),
        (WHITE // 255 * 200, MASK),  # one white, if not the brightest
        (np.tile(np.linspace(0, 255, 224).astype(np.uint8), (224, 1)), None),
        (np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8), None),
        (np.pad(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (60, 1)), 80), None),
        (cv2.GaussianBlur(BLOCK, (0, 0), 2), cv2.GaussianBlur(BLOCK, (0, 0), 2) > 127),
        (cv2.resize(BLOCK, (896, 896)), cv2.resize(BLOCK, (896, 896)) > 127),
        (BLURRED, np.kron(MASK, np.ones((9, 9), bool))),
        (channels(0, 0, 0, WHITE), None),  # black on transparent white
        (channels(WHITE, WHITE, WHITE, 0), None),
        (channels(WHITE, WHITE, WHITE, 255 - WHITE), None),
        (channels(WHITE, WHITE, WHITE, 60), None),
        (channels(0, WHITE, 0), None),  # an object a colour
        (channels(WHITE, 0, WHITE, 255), None),
        (np.repeat(np.repeat(np.array([[0, 85], [170, 255]], np.uint8), 2, 0), 2, 1), None),
        (np.array([[15, 15, 255, 0, 0], [15, 15, 255, 0, 0]], np.uint8), None),  # VOC's border
        (WHITE.astype(np.uint16) * 100, None),
        (WHITE.astype(np.uint16) * 257 - MASK * np.uint16(60000), None),
    ],
)
def test_one_rule_for_masks(tmp_path: Path, image: np.ndarray, expected: np.ndarray | None) -> None:
    """What can mean one mask alone is that mask, whatever its type; all else is refused."""
    path = write(tmp_path / "mask.png", image)
    if expected is not None:
        assert (read_mask(path) == expected).all()
        return
    with pytest.raises(ValueError, match=r"mask.png: a mask holds 0 .* save it again with 0 and"):
        read_mask(path)


@pytest.mark.parametrize(
    ("palette", "options", "expected"),
    [
        ([0, 0, 0, 255, 255, 255], {}, MASK),
        ([255, 255, 255, 0, 0, 0], {}, ~MASK),
        ([255, 255, 255, 255, 255, 255], {"transparency": 0}, MASK),
        ([0, 0, 0, 128, 0, 0], {}, "colour (128, 0, 0) at row 0, column 1"),
        ([0, 0, 0, 1, 1, 1], {}, "areas of the grey 1,"),
    ],
)
def test_masks_with_palettes(tmp_path: Path, palette: list, options: dict, expected) -> None:
    """The colour counts, and not its place."""
    picture = PillowImage.fromarray(MASK.astype(np.uint8), mode="P")
    picture.putpalette(palette)
    path = str(tmp_path / "mask.png")
    picture.save(path, **options)
    if not isinstance(expected, str):
        assert (read_mask(path) == expected).all()
        return
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_mask(path)


def test_a_grey_that_is_transparent(tmp_path: Path) -> None:
    path = str(tmp_path / "mask.png")
    PillowImage.fromarray(WHITE).save(path, transparency=255)
    with pytest.raises(ValueError, match="mask.png: one of its greys is .* save it without"):
        read_mask(path)


UPRIGHT = np.array([[0, 0, 0], [0, 0, 255], [0, 255, 255], [255, 255, 255]], np.uint8)
#: How a picture is stored that its EXIF orientation makes ``UPRIGHT``.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Frames, sizes and masks agree, and are what Pillow and Detectron2 show."""
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    big = np.kron(UPRIGHT, np.ones((16, 16), np.uint8)) > 0
    stored = np.kron(STORED[orientation], np.ones((16, 16), np.uint8))
    path = str(tmp_path / f"turned.{suffix}")
    options = {"lossless": True} if suffix == "webp" else {"quality": 100}
    PillowImage.fromarray(stored).convert("RGB").save(path, exif=exif, **options)
    if suffix == "tif" and orientation > 1:
        for read in (read_frame, read_mask, read_picture_size):
            with pytest.raises(ValueError, match="turned.tif is a TIFF .* save it upright"):
                read(path)
        return
    assert ((read_frame(path)[..., 0] > 127) == big).all()
    assert read_picture_size(path) == big.shape
    assert ((detectron2_read_image(path, "L")[..., 0] > 127) == big).all()
    if suffix in ("png", "webp"):
        assert (read_mask(path) == big).all()
    if suffix == "png":
        PillowImage.fromarray(stored).save(path, exif=exif)
        assert (read_label_map(path) == 255 * big).all()


def test_sizes_that_are_turned() -> None:
    with pytest.raises(ValueError, match="a.png is 4 x 3 pixels, but b is 3 x 4 .*EXIF"):
        check_same_size("a.png", (3, 4), (4, 3), "b")


def test_label_map_keeps_its_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    for kind in (np.uint8, np.uint16):
        read = read_label_map(write(tmp_path / "labels.png", labels.astype(kind)))
        assert read.dtype == np.uint8 and (read == labels).all()


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("labels.png", np.zeros((2, 2, 3), np.uint8)),
        ("labels.png", np.full((2, 2), 256, np.uint16)),
        ("labels.jpg", np.zeros((2, 2), np.uint8)),
    ],
    ids=["colour", "large numbers", "JPEG"],
)
def test_label_map_of_another_kind_is_refused(tmp_path: Path, name: str, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected an object map.* save it"):
        read_label_map(write(tmp_path / name, image))


def test_size_of_a_jpeg(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    path = Path(write(tmp_path / "a.jpg", image))
    assert read_picture_size(str(path)) == (30, 50)
    data = path.read_bytes()
    for damaged, message in (
        (data[:-40], "a.jpg is truncated"),
        (b"", "a.jpg is empty \\(0 bytes"),
        (b"<html>", "a.jpg is no readable image"),
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
        path.read_bytes() + bytes(50_000),  # phones leave a film behind a photograph
        cv2.imencode(".png", image)[1].tobytes(),
        cv2.imencode(".png", image)[1].tobytes() + bytes(500),
    ):
        path.write_bytes(data)
        assert read_picture_size(str(path)) == read_frame(str(path)).shape[:2] == (30, 50)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("suffix", ["jpg", "bmp", "webp", "tif"])
def test_truncated_picture(tmp_path: Path, keep: float, suffix: str) -> None:
    """OpenCV would read the lower part of such a JPEG as grey."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = Path(write(tmp_path / f"cut.{suffix}", image))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    for read in (read_frame, read_picture_size):
        told = "truncated" if suffix == "jpg" else "(truncated|no readable image)"
        with pytest.raises(ValueError, match=f"cut.{suffix} is {told} .*; restore the file"):
            read(str(path))


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_that_ends_before_its_last_row(tmp_path: Path, is_cut: bool, grey: bool) -> None:
    """It has its end marker, and libjpeg fills it up with grey; grey pictures are no such ones."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    if grey:
        image[40:] = 128
    path = Path(write(tmp_path / "cut.jpg", image))
    data = path.read_bytes()
    if not is_cut:
        assert read_frame(str(path)).shape == (64, 64, 3)
        return
    path.write_bytes(data[: int(0.6 * len(data))] + b"\xff\xd9")
    with pytest.raises(ValueError, match="cut.jpg is truncated .*; restore the file"):
        read_frame(str(path))


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
    assert read_picture_size(write(tmp_path / "a.png", np.zeros((3, 5), np.uint8))) == (3, 5)


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
    for read in READERS:
        with pytest.raises(ValueError, match="no readable image"):
            read(str(path))
