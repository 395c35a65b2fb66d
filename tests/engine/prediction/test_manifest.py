"""Manifests are read whole, and a mistake in one is told with its line before any work."""

import numpy as np
import prediction_clips
import pytest

from transavs.engine.prediction.manifest import Item, manifest_hash, read_manifest


def write(tmp_path, text, name="manifest.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestReading:
    def test_both_forms_say_the_same(self, tmp_path):
        lines = write(
            tmp_path,
            '{"id": "a", "video": "a.mp4"}\n\n{"id": "b, c", "frames": "b", "audio": "b.wav"}\n',
        )
        table = write(
            tmp_path, 'audio,id,video,frames\r\n,a,a.mp4,\r\nb.wav,"b, c",,b\r\n', "manifest.csv"
        )
        items = read_manifest(lines)
        assert items == read_manifest(table)
        folder = str(tmp_path.resolve())
        assert items[0] == Item(0, "a", video="a.mp4", folder=folder)
        assert items[1] == Item(1, "b, c", frames=("b",), audio="b.wav", folder=folder)
        assert [Item.from_dict(item.as_dict()) for item in items] == items

    def test_white_space_around_cells_of_csv(self, tmp_path):
        text = ' id ,video\n a , clips/a b.mp4\t\n  \n"c", "d, e.mp4"\n'
        items = read_manifest(write(tmp_path, text, "manifest.csv"))
        assert [(item.id, item.video) for item in items] == [
            ("a", "clips/a b.mp4"), ("c", "d, e.mp4"),
        ]  # fmt: skip
        (item,) = read_manifest(write(tmp_path, '{"id": "a", "video": " a.mp4"}\n'))
        assert item.video == " a.mp4"

    def test_a_list_of_frames_and_a_byte_order_mark(self, tmp_path):
        text = '\ufeff{"id": "é", "frames": ["2.png", "1.png"], "audio": "a.wav"}\n'
        (item,) = read_manifest(write(tmp_path, text))
        assert item.id == "é" and item.frames == ("2.png", "1.png")

    def test_the_hash_is_of_ids_and_sources(self, tmp_path):
        items = [Item(0, "a", video="a.mp4", folder="/x"), Item(1, "b", video="b.mp4")]
        moved = [Item(0, "a", video="a.mp4", folder="/y"), Item(1, "b", video="b.mp4")]
        assert manifest_hash(items) == manifest_hash(moved)
        assert manifest_hash(items) != manifest_hash(items[::-1])
        assert manifest_hash(items[:1]) != manifest_hash([Item(0, "a", video="b.mp4")])


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ('{"id": "a", "video": "x"}\n{"id": "a", "video": "y"}\n', "line 2.*line 1 as well"),
            ('{"id": "a", "film": "x"}\n', "line 1: unknown column 'film'"),
            ('{"video": "x"}\n', "line 1: no id"),
            ('{"id": "", "video": "x"}\n', "line 1: no id"),
            ('{"id": 7, "video": "x"}\n', "line 1: id must be text, got 7"),
            ('{"id": "a\\u0000", "video": "x"}\n', "line 1: id holds control characters"),
            ('{"id": "' + "a" * 501 + '", "video": "x"}\n', "line 1: the id has 501"),
            ('{"id": "a"}\n', "line 1: id 'a' has no source"),
            ('{"id": "a", "frames": "x"}\n', "has no audio"),
            ('{"id": "a", "audio": "x"}\n', "has no frames"),
            ('{"id": "a", "frames": [], "audio": "x"}\n', "has no frames"),
            ('{"id": "a", "frames": ["x", 3], "audio": "x"}\n', "frames must be text, got 3"),
            ('{"id": "a", "frames": ["x", ""], "audio": "x"}\n', "frames holds an empty name"),
            ('{"id": "a", "video": "x", "frames": "y", "audio": "z"}\n', "two sources"),
            ('{"id": "a", "video": "x", "audio": "z"}\n', "two sources"),
            ('{"id": "a", "id": "b", "video": "x"}\n', "line 1: no JSON object.*twice"),
            ('{"id": "a", "video": "x"}\n["a"]\n', "line 2: expected a JSON object"),
            ('{"id": "a", "video": "x"\n', "line 1: no JSON object"),
            ("[" * 200_000 + "\n", "line 1: no JSON object"),
            (b'{"id": "a", "video": "x"}\n{"id": "\xe9", "video": "x"}\n', "line 2: no UTF-8"),
        ],
    )
    def test_in_json_lines(self, tmp_path, text, expected):
        with pytest.raises(ValueError, match=expected) as caught:
            read_manifest(write(tmp_path, text))
        assert "manifest.jsonl" in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "is empty"),
            ("id,video\n", "is empty"),
            ("id,film\na,b\n", "line 1: unknown column 'film'"),
            ("a,a.mp4\n", "line 1: unknown column 'a': the first line"),
            ("id,id\na,b\n", "line 1: a column stands there twice"),
            ("video\na.mp4\n", "line 1: expected a column id"),
            ("id,video\na,b,c\n", r"line 2: expected 2 columns \(id, video\), got 3"),
            ('id,video\na,"b\n', "line 2: no CSV"),
            ("id,video\na,x\na ,y\n", "line 3: id 'a' stands in line 2"),
            ("id,video\n  ,x\n", "line 2: no id"),
            ("id,video\na,x\n\nb,y\na,z\n", "line 5: id 'a' stands in line 2"),
            (b"id,video\n\xff,b\n", "line 2: no UTF-8"),
            ("id,video\n" + "a" * 140_000 + ",b\n", "line 2: no CSV"),
        ],
    )
    def test_in_csv(self, tmp_path, text, expected):
        with pytest.raises(ValueError, match=expected):
            read_manifest(write(tmp_path, text, "manifest.csv"))

    def test_no_manifest(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no manifest at"):
            read_manifest(tmp_path / "none.csv")
        with pytest.raises(ValueError, match=r"ends in \.csv or"):
            read_manifest(write(tmp_path, "", "manifest.txt"))


class TestOpening:
    def test_a_folder_and_its_files_in_another_order(self, tmp_path):
        row = prediction_clips.write_clip(tmp_path, 3, seconds=3)
        item = Item(0, "a", frames=(row["frames"],), audio=row["audio"], folder=str(tmp_path))
        names = tuple(f"{row['frames']}/{second}.png" for second in (2, 0))
        chosen = Item(1, "b", frames=names, audio=row["audio"], folder=str(tmp_path))
        whole = [frame.image for frame in item.open(0).frames()]
        assert len(whole) == 3 and np.array_equal(whole[1], prediction_clips.picture(3, 1))
        film = chosen.open(0)
        assert film.has_sound and film.duration == 2
        frames = [frame.image for frame in film.frames()]
        assert np.array_equal(frames, [whole[2], whole[0]])
        heard = film.sound().window(0, 16_000).numpy()
        wanted = prediction_clips.tone(3, np.arange(16_000) / 16_000)
        assert np.abs(heard - wanted).max() < 1e-3

    def test_in_the_home_folder(self, tmp_path, monkeypatch):
        """In a clip, and in a film; the hash is that of the line."""
        monkeypatch.setenv("HOME", str(tmp_path))
        row = prediction_clips.write_clip(tmp_path, 0, seconds=1)
        clip = Item(0, "a", frames=(f"~/{row['frames']}",), audio=f"~/{row['audio']}", folder="/x")
        assert len(list(clip.open(0).frames())) == 1
        with pytest.raises(FileNotFoundError, match=f"{tmp_path}/none.mp4"):
            Item(0, "a", video="~/none.mp4", folder="/x").open(0)

    def test_files_that_are_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no picture at"):
            Item(0, "a", frames=("1.png",), audio="a.wav", folder=str(tmp_path)).open(0)
        row = prediction_clips.write_clip(tmp_path, 0, seconds=1)
        with pytest.raises(FileNotFoundError, match=r"none\.wav"):
            Item(0, "a", frames=(row["frames"],), audio="none.wav", folder=str(tmp_path)).open(0)
