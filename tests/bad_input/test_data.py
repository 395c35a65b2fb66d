"""Data sets with something bad in them: tables, pictures, masks, sounds, pickles."""

import io
import pickle
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
import soundfile
import torch
from mistakes import Case, cases, check, write

DRAW = "--config-file s4_R50.yaml --ground-truth-only --output {}/out --dataset "
MS3 = DRAW + "avsbench_ms3_test --count 1"
S4 = DRAW + "avsbench_s4_train --count 0"
AVSS = DRAW.replace("s4_R50", "avss_R101") + "avsbench_avss_test --clips v2/_8m_rszChvE_0_10000"
DEMO = DRAW + "demo_ms3_test"
PICKLES = MS3 + " INPUT.AUDIO_SOURCE log_mel"

MS3_DATA = "data/Multi-sources/ms3_data"
FRAME = f"{MS3_DATA}/visual_frames/kgw1OadfJWA/kgw1OadfJWA.mp4_2.png"
MASK = f"{MS3_DATA}/gt_masks/test/kgw1OadfJWA/kgw1OadfJWA_3.png"
WAV = f"{MS3_DATA}/audio_wav/test/kgw1OadfJWA.wav"
PICKLE = f"{MS3_DATA}/audio_log_mel/test/kgw1OadfJWA.pkl"
CLASS_MAP = "data/AVSBench_semantic/v2/_8m_rszChvE_0_10000/labels_semantic/4.png"
AVSS_FRAME = "data/AVSBench_semantic/v2/_8m_rszChvE_0_10000/frames/4.jpg"
S4_TABLE = "data/Single-source/s4_meta_data.csv"
AVSS_TABLE = "data/AVSBench_semantic/metadata.csv"
OBJECTS = "data/transavs_demo/Multi-sources/ms3_data/objects.json"
GROUPS = "data/transavs_demo/Multi-sources/ms3_data/classes.json"
RESTORE = "restore the file from the data set's archive"


@pytest.fixture
def folder(datasets_env, tmp_path):
    """The test's folder, with every data set under ``data``."""
    assert datasets_env == tmp_path / "data"
    return tmp_path


def table(name: str, row: str, told: str, header: str = "name,start,category,split") -> Case:
    return Case(
        name, "visualize", S4, "s4_meta_data.csv", told, write(S4_TABLE, f"{header}\n{row}\n")
    )


def bad(name: str, words: str, path: str, content: str | bytes, told: str) -> Case:
    return Case(name, "visualize", words, path.rpartition("/")[2], told, write(path, content))


def changed(path, change):
    """Returns what writes a file's bytes anew."""

    def prepare(folder):
        (folder / path).write_bytes(change((folder / path).read_bytes()))

    return prepare


def removed(path):
    def prepare(folder):
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return prepare


def folder_instead(path):
    def prepare(folder):
        (folder / path).unlink()
        (folder / path).mkdir()

    return prepare


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def wav(samples: np.ndarray, subtype: str = "PCM_16", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format="WAV")
    return file.getvalue()


def absurd_png() -> bytes:
    """A picture of 2^31 - 1 x 2^31 - 1 pixels, in 60 bytes."""
    side = 2**31 - 1
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunk + end


class Command:
    def __reduce__(self):
        return print, ("this must never run",)


@cases(
    table("no header", "-en-yFsmIO8,0,dog_barking,train", "a header", "a,b,c,d"),
    table("a short row", "-en-yFsmIO8,0", "line 2: expected at least 4 columns"),
    table("unknown split", "-en-yFsmIO8,0,dog_barking,dev", "a split out of train, val, test"),
    table("unknown category", "-en-yFsmIO8,0,unicorn,train", "'unicorn' is no category"),
    table("a name that leads out", "../../etc,0,dog_barking,train", "without separators"),
    table("no name", " ,0,dog_barking,train", "must be plain"),
    table("a clip twice", "a,0,dog_barking,train\na,0,dog_barking,train", "keep one of them"),
    table("clips that are not there", "nobody,0,dog_barking,train", "check_avsbench"),
    bad("not UTF-8", S4, S4_TABLE, b"name,split\n\xff", "save the table as UTF-8"),
    bad("an endless field", S4, S4_TABLE, "name,split\n\"" + "a" * 200_000, "no readable csv"),
    bad("moved columns", AVSS, AVSS_TABLE, "uid,vid,split\n", "restore the order"),
    bad("unknown part", AVSS, AVSS_TABLE,
        "vid,uid,s_min,s_sec,a_obj,split,label\na,a,0,0,dog,test,v9\n", "a part out of v1s"),
    Case("no table", "visualize", S4, "s4_meta_data.csv", "datasets/README.md", removed(S4_TABLE)),
    Case("no data", "visualize", S4, "data", "Set the environment variable", removed("data")),
    Case("unknown set", "visualize", DRAW + "avsbench_s5_test", "avsbench_s5_test", "known: "),
    Case("no clip of it", "visualize", DRAW + "avsbench_s4_test --clips x", "'x'", "for example"),
    Case("a frame is gone", "visualize", MS3, "mp4_2.png", "Complete the data", removed(FRAME)),
    Case("no sound", "visualize", MS3, "kgw1OadfJWA.wav", "Complete the data", removed(WAV)),
    bad("no words about objects", DEMO, OBJECTS, "{}", "no entry for the clip"),
    bad("half an objects file", DEMO, OBJECTS, "{", "expected .*objects"),
    bad("a deep objects file", DEMO, OBJECTS, "[" * 100_000, "expected .*objects"),
    bad("groups that are a list", DEMO, GROUPS, "[1]", "expected JSON {class: super-category}"),
)  # fmt: skip
def test_tables_and_trees(case, folder, capsys):
    check(case, folder, capsys)


@cases(
    Case("a folder", "visualize", MS3, "mp4_2.png", RESTORE, folder_instead(FRAME)),
    bad("empty", MS3, FRAME, b"", f"is empty.*{RESTORE}"),
    bad("words", MS3, FRAME, "These are words.", f"no readable image.*{RESTORE}"),
    bad("absurdly large", MS3, FRAME, absurd_png(), "scale it down"),
    Case("half a PNG", "visualize", MS3, "mp4_2.png", f"truncated.*{RESTORE}",
         changed(FRAME, lambda data: data[: len(data) // 2])),
    Case("half a JPEG", "visualize", AVSS, "4.jpg", f"truncated.*{RESTORE}",
         changed(AVSS_FRAME, lambda data: data[: len(data) // 2])),
    bad("another size", MS3, FRAME, png(np.zeros((8, 8, 3), np.uint8)), "must have one size"),
    bad("a mask of 0 and 1", MS3, MASK, png(np.ones((24, 32), np.uint8)), "save it again"),
    bad("a mask of another size", MS3, MASK, png(np.zeros((8, 8), np.uint8)), "one size"),
    bad("a class map of colours", AVSS, CLASS_MAP, png(np.ones((24, 32, 3), np.uint8)), "rgb"),
    bad("an unknown class", AVSS, CLASS_MAP, png(np.full((24, 32), 200, np.uint8)), "0 to 70"),
    bad("16 bits of classes", AVSS, CLASS_MAP, png(np.full((24, 32), 300, np.uint16)), "0 to 255"),
)  # fmt: skip
def test_pictures(case, folder, capsys):
    check(case, folder, capsys)


@cases(
    Case("a folder", "visualize", MS3, "kgw1OadfJWA.wav", "expected a sound", folder_instead(WAV)),
    bad("empty", MS3, WAV, b"", "cannot read .*convert it"),
    bad("words", MS3, WAV, "These are words.", "cannot read .*convert it"),
    bad("no samples", MS3, WAV, wav(np.zeros(0)), "holds no samples.*again"),
    Case("half of it", "visualize", MS3, "kgw1OadfJWA.wav", "cut short.*again",
         changed(WAV, lambda data: data[: len(data) // 2])),
    bad("NaN", MS3, WAV, wav(np.full(16_000, np.nan), "FLOAT"), "must be finite.*re-export"),
    bad("16-bit floats", MS3, WAV, wav(np.full(16_000, 13_087.0), "FLOAT"), "13087.*by 32768"),
    bad("10 Hz", MS3, WAV, wav(np.zeros(50), rate=10), "sample rate must lie between"),
    bad("a pickle of words", PICKLES, PICKLE, b"words", "cannot unpickle .*fetch it again"),
    bad("a pickle that runs code", PICKLES, PICKLE, pickle.dumps(Command()), "nothing was run"),
    bad("a pickle of a list", PICKLES, PICKLE, pickle.dumps([1.0]), "AUDIO_SOURCE wav"),
    bad("one second of five", PICKLES, PICKLE, pickle.dumps(torch.zeros(1, 1, 96, 64)), "'wav'"),
    bad("a pickle with NaN", PICKLES, PICKLE,
        pickle.dumps(torch.full((5, 1, 96, 64), torch.nan)), "not all finite.*AUDIO_SOURCE wav"),
    bad("a place 2^31 in the memo", PICKLES, PICKLE,
        b"\x80\x02}r\xff\xff\xff\x7f.", "cannot unpickle .*fetch it again"),
    bad("a tensor that repeats one number", PICKLES, PICKLE,
        pickle.dumps(torch.zeros(1).expand(10_000, 1, 96, 64)), "fetch it again"),
    Case("no pickle", "visualize", PICKLES, "kgw1OadfJWA", "set it to .wav."),
)  # fmt: skip
def test_sounds(case, folder, capsys):
    check(case, folder, capsys)


@cases(
    Case("no folder", "check_avsbench", "{}/nowhere", "nowhere", "see datasets/README.md"),
    Case("a file", "check_avsbench", "{}/file", "file", "must be a folder", write("file", "")),
    Case("too deep", "check_avsbench", "{}/data/Single-source", "data", "the folder above"),
    Case("nothing in it", "check_avsbench", "{}/data/Single-source/s4_data", "s4_data", "expected"),
)  # fmt: skip
def test_the_check(case, folder, capsys):
    check(case, folder, capsys)
