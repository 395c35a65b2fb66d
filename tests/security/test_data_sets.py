"""Data sets are untrusted: names stay in their tree, files within bounds of memory and time."""

import os
import shutil
import struct
import tracemalloc
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import soundfile
from hostile_files import write_debian_package

from transavs.audio import load_waveform
from transavs.data.avsbench import load_avsbench, record_files
from transavs.data.avsbench_spec import AVSS, MS3, S4
from transavs.data.class_maps import read_class_map
from transavs.data.demo.packages import AssetsUnavailable, DebianPackage, provide_packages
from transavs.data.metadata_csv import csv_path
from transavs.pretrained.restricted_pickle import read_log_mel_pickle
from transavs.utils.image_files import (
    read_frame,
    read_label_map,
    read_mask,
    read_picture_size,
)

OUTSIDE = ("../../secret", "..", "/etc/passwd", "a/b", "a\\b", "C:secret", "a\0b", ".", "")


@contextmanager
def little_memory(most_bytes=1 << 24):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()


class TestNames:
    @pytest.mark.parametrize("name", OUTSIDE)
    def test_names_in_tables_lead_nowhere_else(self, avsbench_root, avss_root, name):
        for spec, header, line in (
            (S4, "name,start,category,split", f"{name},0,dog_barking,train"),
            (MS3, "video_id,split", f"{name},train"),
            (AVSS, "vid,uid,s_min,s_sec,a_obj,split,label", f"v,{name},0,0,dog,train,v1s"),
        ):
            root = str(avss_root if spec is AVSS else avsbench_root)
            with open(csv_path(spec, root), "w", encoding="utf-8") as file:
                file.write(f"{header}\n{line}\n")
            with pytest.raises(ValueError, match=r"\.csv") as error:
                load_avsbench(spec, root, "train")
            assert csv_path(spec, root) in str(error.value)

    @pytest.mark.parametrize("category", OUTSIDE)
    def test_categories_lead_nowhere_else(self, avsbench_root, category):
        path = csv_path(S4, str(avsbench_root))
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"name,start,category,split\na,0,{category},train\n")
        with pytest.raises(ValueError, match=r"s4_meta_data\.csv"):
            load_avsbench(S4, str(avsbench_root), "train")

    def test_fields_of_templates_are_letters_in_names(self, avsbench_root):
        path = csv_path(MS3, str(avsbench_root))
        with open(path, "w", encoding="utf-8") as file:
            file.write("video_id,split\n{split.__class__},train\n")
        (record,) = load_avsbench(MS3, str(avsbench_root), "train", check_files=False)
        assert all("{split.__class__}" in name for name in record_files(record))


class TestLinks:
    """They are followed, wherever they lead: data are spread over disks. No pipe or device is."""

    def test_links_to_other_disks(self, tmp_path, avsbench_root):
        expected = load_avsbench(S4, str(avsbench_root), "train")
        frames = avsbench_root / "Single-source" / "s4_data" / "visual_frames"
        shutil.move(frames, tmp_path / "elsewhere")
        frames.symlink_to(tmp_path / "elsewhere")
        root = tmp_path / "root"
        root.symlink_to(avsbench_root)
        records = load_avsbench(S4, str(root), "train")
        assert [each["clip_id"] for each in records] == [each["clip_id"] for each in expected]
        assert read_frame(records[0]["file_names"][0]).ndim == 3

    @pytest.mark.parametrize("what", ["pipe", "device"])
    def test_what_never_ends(self, tmp_path, what):
        for suffix in (".png", ".jpg", ".wav", ".pkl"):
            path = tmp_path / f"a{suffix}"
            if what == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("/dev/zero")
        picture = str(tmp_path / "a.png")
        readers = (read_frame, read_mask, read_label_map, read_picture_size)
        for read in (*readers, lambda path: read_class_map(path, "class_ids", 3)):
            with pytest.raises(ValueError, match=r"a\.png is no plain file"):
                read(picture)
        with pytest.raises(ValueError, match=r"a\.jpg is no plain file"):
            read_picture_size(str(tmp_path / "a.jpg"))
        with pytest.raises(ValueError, match=r"a\.wav is not a file"):
            load_waveform(tmp_path / "a.wav")
        with pytest.raises(FileNotFoundError, match=r"a\.pkl"):
            read_log_mel_pickle(tmp_path / "a.pkl")

    def test_other_files_come_out_as_nothing(self, tmp_path):
        """A link to somebody's words gives an error that tells none of them."""
        (tmp_path / "words").write_text("the secret word")
        path = tmp_path / "a.png"
        path.symlink_to(tmp_path / "words")
        with pytest.raises(ValueError, match=r"a\.png is no readable image") as error:
            read_frame(str(path))
        assert "secret" not in str(error.value)


class TestPictures:
    @pytest.fixture(params=["png", "jpg", "bmp"])
    def bomb(self, tmp_path, request):
        """A few bytes that promise 20,000 x 20,000 pixels: within OpenCV's own limit."""
        content = bytearray(cv2.imencode(f".{request.param}", np.zeros((8, 8), np.uint8))[1])
        if request.param == "png":
            content[16:24] = struct.pack(">II", 20_000, 20_000)
        elif request.param == "jpg":
            place = content.index(b"\xff\xc0")
            content[place + 5 : place + 9] = struct.pack(">HH", 20_000, 20_000)
        else:
            content[18:26] = struct.pack("<II", 20_000, 20_000)
        path = tmp_path / f"bomb.{request.param}"
        path.write_bytes(content)
        return str(path)

    def test_bombs(self, bomb):
        readers = (read_frame, read_mask, read_label_map)
        for read in (*readers, lambda path: read_class_map(path, "class_ids", 3)):
            with little_memory(), pytest.raises(ValueError, match="bomb.* pixels, more than the"):
                read(bomb)


class TestSounds:
    @pytest.mark.parametrize("declared", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFE_FFFF])
    @pytest.mark.parametrize("channels", [1, 65535])
    def test_headers_of_four_gigabytes(self, tmp_path, declared, channels):
        path = tmp_path / "a.wav"
        form = struct.pack(
            "<HHIIHH", 1, channels, 16000, 32000 * channels, 0xFFFF & 2 * channels, 16
        )
        chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", declared)
        path.write_bytes(b"RIFF" + struct.pack("<I", 0xFFFF_FFFF) + chunks + bytes(64))
        with little_memory():
            try:
                waveform = load_waveform(path)
            except ValueError as error:
                assert str(path) in str(error)
            else:
                # A writer to a pipe cannot know the length: what is there counts.
                assert declared >= 0x7FFF_0000 and channels == 1 and len(waveform) == 32

    def test_flac_that_promises_days(self, tmp_path):
        path = tmp_path / "a.flac"
        soundfile.write(path, np.zeros(4096), 16000)
        content = bytearray(path.read_bytes())
        # Behind "fLaC", a block's header and 13 bytes: 36 bits that count the samples.
        content[21] |= 0x0F
        content[22:26] = b"\xff\xff\xff\xff"
        path.write_bytes(content)
        with little_memory(), pytest.raises(ValueError, match=r"a\.flac announces \d{11} samples"):
            load_waveform(path)


class TestFilms:
    """Small films that promise pictures of gigabytes."""

    @pytest.fixture
    def film(self, tmp_path):
        pytest.importorskip("av")
        from films import write_film

        path = tmp_path / "film.avi"
        write_film(path, voices=(), times=[0.0, 0.05], codec="mjpeg", pix_fmt="yuvj420p")
        return path

    @staticmethod
    def grow(path, side, header=True):
        content = path.read_bytes()
        small, large = struct.pack(">HH", 48, 64), struct.pack(">HH", side, side)
        assert content.count(b"\xff\xc0\x00\x11\x08" + small) == 2
        content = content.replace(b"\xff\xc0\x00\x11\x08" + small, b"\xff\xc0\x00\x11\x08" + large)
        if header:
            content = content.replace(struct.pack("<II", 64, 48), struct.pack("<II", side, side))
        path.write_bytes(content)

    @pytest.mark.parametrize("header", [True, False])
    @pytest.mark.parametrize("side", [10_000, 60_000])
    def test_absurd_sizes(self, film, side, header):
        from transavs.video import open_film

        self.grow(film, side, header)
        with (
            little_memory(),
            pytest.raises(ValueError, match=r"film\.avi (has pictures of|holds no|is no)"),
        ):
            next(open_film(film).frames())

    def test_the_film_itself(self, film):
        from transavs.video import open_film

        assert next(open_film(film).frames()).image.shape == (48, 64, 3)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")
class TestPackages:
    """Archives of the demo set, here without the hash that stands before them."""

    def provide(self, tmp_path, members):
        given = tmp_path / "given"
        given.mkdir()
        write_debian_package(given / "a_1_all.deb", members)
        package = DebianPackage("a", "1", "0" * 64, 1, "none")
        return provide_packages(tmp_path / "cache" / "deep", given, (package,), True)["a"].folder

    def test_a_harmless_one(self, tmp_path):
        folder = self.provide(tmp_path, {"./usr": "lib", "./file": b"content"})
        assert (folder / "file").read_bytes() == b"content"

    @pytest.mark.parametrize("up", ["../canary", "../../canary", "x/../../canary"])
    def test_names_that_lead_out(self, tmp_path, up):
        with pytest.raises(AssetsUnavailable, match="dpkg-deb cannot unpack"):
            self.provide(tmp_path, {"./a": b"a", up: b"evil"})
        assert not list(tmp_path.rglob("canary"))
        assert not list((tmp_path / "cache").rglob("a"))

    def test_links_that_lead_out(self, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        for link in (str(outside), "../../../../outside"):
            shutil.rmtree(tmp_path / "given", ignore_errors=True)
            with pytest.raises(AssetsUnavailable, match="dpkg-deb cannot unpack"):
                self.provide(tmp_path, {"./x": link, "./x/canary": b"evil"})
            assert not list(outside.iterdir())

    def test_the_hash_stands_before_it(self, tmp_path):
        given = tmp_path / "given"
        given.mkdir()
        write_debian_package(given / "a_1_all.deb", {"./a": b"a"})
        with pytest.raises(AssetsUnavailable, match="has sha256"):
            provide_packages(tmp_path / "cache", given, (DebianPackage("a", "1", "0", 1, ""),))
        assert not (tmp_path / "cache").exists()
