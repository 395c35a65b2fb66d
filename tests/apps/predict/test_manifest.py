"""Manifests are read whole, and a mistake in one is told with its line before any work."""

import numpy as np
import prediction_clips
import pytest

from transavs.apps.predict.manifest import Item, manifest_hash, read_manifest


def write(tmp_path, text, name="manifest.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_both_forms_say_the_same(tmp_path):
    lines = (
        '\ufeff{"id": "a", "video": "a b.mp4"}\n\n{"id": "é, c", "frames": "b", "audio": "b.wav"}\n'
    )
    table = ' audio,id ,video,frames\r\n,a, a b.mp4\t,\r\n  \r\nb.wav, "é, c",,b\r\n'
    items = read_manifest(write(tmp_path, lines))
    assert items == read_manifest(write(tmp_path, table, "manifest.csv"))
    folder = str(tmp_path.resolve())
    assert items[0] == Item(0, "a", video="a b.mp4", folder=folder)
    assert items[1] == Item(1, "é, c", frames=("b",), audio="b.wav", folder=folder)
    text = '{"id": "a", "frames": [" 2.png", "1.png"], "audio": "a.wav"}\n'
    assert read_manifest(write(tmp_path, text))[0].frames == (" 2.png", "1.png")


def test_the_hash_is_of_ids_and_sources():
    items = [Item(0, "a", video="a.mp4", folder="/x"), Item(1, "b", video="b.mp4")]
    moved = [Item(0, "a", video="a.mp4", folder="/y"), Item(1, "b", video="b.mp4")]
    assert manifest_hash(items) == manifest_hash(moved) != manifest_hash(items[::-1])
    assert manifest_hash(items[:1]) != manifest_hash([Item(0, "a", video="b.mp4")])


JSON = [
    ("\n \n", "is empty"),
    ('{"id": "a", "video": "x"}\n{"id": "a", "video": "y"}\n', "line 2.*line 1"),
    ('{"id": "a", "film": "x"}\n', "line 1.*film"),
    ('{"video": "x"}\n', "line 1.* id "),
    ('{"id": 7, "video": "x"}\n', "line 1: id .* 7"),
    ('{"id": "a\\u0000", "video": "x"}\n', "line 1: id .*control"),
    ('{"id": "' + "a" * 501 + '", "video": "x"}\n', "line 1.* 501"),
    ('{"id": "a"}\n', "line 1: id 'a'"),
    ('{"id": "a", "frames": "x"}\n', "audio"),
    ('{"id": "a", "audio": "x"}\n', "frames"),
    ('{"id": "a", "frames": [], "audio": "x"}\n', "frames"),
    ('{"id": "a", "frames": ["x", 3], "audio": "x"}\n', "frames .* 3"),
    ('{"id": "a", "frames": ["x", ""], "audio": "x"}\n', "frames"),
    ('{"id": "a", "video": "x", "frames": "y", "audio": "z"}\n', "either video"),
    ('{"id": "a", "video": "x", "audio": "z"}\n', "either video"),
    ('{"id": "a", "id": "b", "video": "x"}\n', "line 1.*id, id"),
    ('{"id": "a", "video": "x"}\n["a"]\n', "line 2.*JSON"),
    ('{"id": "a", "video": "x"\n', "line 1.*JSON"),
    ("[" * 200_000 + "\n", "line 1"),
    (b'{"id": "a", "video": "x"}\n{"id": "\xe9", "video": "x"}\n', "line 2.*UTF-8"),
]
CSV = [
    ("", "is empty"),
    ("id,video\n", "is empty"),
    ("id,film\na,b\n", "line 1.*film"),
    ("a,a.mp4\n", "line 1.*a.mp4"),
    ("id,id\na,b\n", "line 1.*id, id"),
    ("video\na.mp4\n", "line 2.* id "),
    ("id,video\na,b,c\n", "line 2.* 2 .* 3"),
    ('id,video\na,"b\n', "line 2"),
    ("id,video\n  ,x\n", "line 2.* id "),
    ("id,video\na,x\n\nb,y\na ,z\n", "line 5.*line 2"),
    (b"id,video\n\xff,b\n", "line 2.*UTF-8"),
    ("id,video\n" + "a" * 140_000 + ",b\n", "line 2"),
]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [("m.jsonl", *case) for case in JSON]
    + [("m.csv", *case) for case in CSV]
    + [("m.txt", "", r"\.csv")],
)
def test_mistakes(tmp_path, name, text, told):
    with pytest.raises(ValueError, match=told) as caught:
        read_manifest(write(tmp_path, text, name))
    assert name in str(caught.value)
    with pytest.raises(FileNotFoundError, match="none.csv"):
        read_manifest(tmp_path / "none.csv")


def test_opening_a_folder_and_its_files_in_another_order(tmp_path, monkeypatch):
    row = prediction_clips.write_clip(tmp_path, 3, seconds=3)
    folder = str(tmp_path)
    whole = Item(0, "a", frames=(row["frames"],), audio=row["audio"], folder=folder).open(0)
    images = [frame.image for frame in whole.frames()]
    assert len(images) == 3 and np.array_equal(images[1], prediction_clips.picture(3, 1))
    names = tuple(f"{row['frames']}/{second}.png" for second in (2, 0))
    chosen = Item(1, "b", frames=names, audio=row["audio"], folder=folder).open(0)
    assert chosen.has_sound and chosen.duration == 2
    assert np.array_equal([frame.image for frame in chosen.frames()], [images[2], images[0]])
    heard = chosen.sound().window(0, 16_000).numpy()
    assert np.abs(heard - prediction_clips.tone(3, np.arange(16_000) / 16_000)).max() < 1e-3
    monkeypatch.setenv("HOME", folder)
    home = Item(0, "a", frames=(f"~/{row['frames']}",), audio=f"~/{row['audio']}", folder="/x")
    assert len(list(home.open(0).frames())) == 3
    with pytest.raises(FileNotFoundError, match=f"{folder}/none.mp4"):
        Item(0, "a", video="~/none.mp4", folder="/x").open(0)
    for frames, audio, name in (("1.png", "a.wav", "1.png"), (row["frames"], "none.wav", "none")):
        with pytest.raises(FileNotFoundError, match=name):
            Item(0, "a", frames=(frames,), audio=audio, folder=folder).open(0)
