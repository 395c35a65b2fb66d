"""Readers of files from elsewhere, on files that were never written by anybody.

Valid files are cut, flipped, spliced and given absurd numbers, and others are made of parts. What
comes out is a value that keeps the reader's promises, or ValueError or OSError, with little memory
and in little time. ``make fuzz`` tries many more examples, other ones each time.
"""

import io
import os
import pickle
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import avsbench_trees
import cv2
import numpy as np
import pytest
import soundfile
import torch
import yaml
from detectron2.config import CfgNode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from transavs.audio import load_waveform
from transavs.data.avsbench_spec import AVSS, S4
from transavs.data.class_maps import read_class_map
from transavs.data.metadata_csv import read_csv
from transavs.pretrained.restricted_pickle import load_checkpoint_pickle, read_log_mel_pickle
from transavs.tools.command_line import read_cfg
from transavs.utils.image_files import read_label_map, read_mask, read_picture_size

# 0: the few and same examples of the test suite.
EXAMPLES = int(os.environ.get("TRANSAVS_FUZZ_EXAMPLES", "0"))
CPU_SECONDS = 30
EXTRA_BYTES = 1 << 31

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63 - 1)


def fuzzed(few: int) -> Callable[[Any], Any]:
    """Decorates a test with the number of examples."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Hangs(BaseException):
    """No reader catches it."""


@contextmanager
def little_memory_and_time() -> Iterator[None]:
    """Lets no more than 2 GiB be taken, and no more than 30 s of processor time."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + EXTRA_BYTES

    def hangs(*_: Any) -> None:
        raise Hangs(f"it takes more than {CPU_SECONDS} s")

    former = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


def outcome(read: Callable[[], Any], path: Path) -> Any:
    """Returns what a reader returns, or None where it refuses the file as it should."""
    try:
        with little_memory_and_time():
            return read()
    except (ValueError, OSError) as error:
        cause: BaseException | None = error
        while cause is not None:
            assert not isinstance(cause, MemoryError), error
            cause = cause.__cause__
        assert path.name in str(error), error
        return None


@st.composite
def damaged(draw: Any, originals: list[bytes]) -> bytes:
    """A valid file after one to four accidents."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        accident = draw(st.sampled_from(("flip", "number", "cut", "drop", "insert", "splice")))
        if accident == "flip" and place < len(data):
            data[place] ^= draw(st.integers(1, 255))
        elif accident == "number":
            code = draw(st.sampled_from(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")))
            mask = (1 << 8 * struct.calcsize(code)) - 1
            number = struct.pack(code, draw(st.sampled_from(NUMBERS)) & mask)
            data[place : place + len(number)] = number
        elif accident == "cut":
            del data[place:]
        elif accident == "drop":
            del data[place : place + draw(st.integers(1, 64))]
        elif accident == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif accident == "splice":
            data[place:] = draw(st.sampled_from(originals))[place:]
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Tables.

S4_TABLE = b"name,start,category,split\n-en-yFsmIO8,0,dog_barking,train\na,0,helicopter,test\n"
AVSS_TABLE = b'vid,uid,s_min,s_sec,a_obj,split,label\nx,"x_0_5",0,5,dog_man,train,v1s\n'
CELLS = st.one_of(
    st.sampled_from(["a", "..", "a/b", "train", "v2", "dog_barking", "dog_man", "", "\ufeff", '"']),
    st.text(max_size=8),
)


def check_table(folder: Path, content: bytes) -> None:
    for spec in (S4, AVSS):
        path = folder / spec.folder / spec.csv_name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        for row in outcome(lambda spec=spec: read_csv(spec, str(folder)), path) or ():
            assert row.split in spec.split_names and row.line > 1
            for part in (row.name, row.category or "x"):
                assert part not in ("", ".", "..") and not set(part) & set("/\\:\0")


@fuzzed(100)
@given(damaged([S4_TABLE, AVSS_TABLE]))
def test_tables_after_accidents(folder, content):
    check_table(folder, content)


@fuzzed(100)
@given(st.sampled_from([S4_TABLE, AVSS_TABLE]), st.lists(st.lists(CELLS, max_size=8), max_size=5))
def test_tables_of_odd_cells(folder, start, rows):
    lines = "\n".join(",".join(cells) for cells in rows)
    check_table(folder, start.partition(b"\n")[0] + b"\n" + lines.encode("utf-8", "replace"))


# Pickles.


def pickles() -> list[bytes]:
    examples = torch.linspace(0, 1, 96 * 64).view(1, 1, 96, 64)
    state = {"model": {"a.weight": np.arange(6.0).reshape(2, 3), "b": torch.ones(2)}, "i": 7}
    return [pickle.dumps(what, version) for what in (examples, state) for version in (2, 4, 5)]


def check_pickle(folder: Path, content: bytes) -> None:
    path = folder / "clip.pkl"
    path.write_bytes(content)
    examples = outcome(lambda: read_log_mel_pickle(path), path)
    if examples is not None:
        assert examples.shape[1:] == (1, 96, 64) and len(examples) and examples.isfinite().all()
        assert examples.dtype == torch.float32 and examples.is_contiguous()
    state = outcome(lambda: load_checkpoint_pickle(path), path)
    assert state is None or isinstance(state, dict)


@fuzzed(150)
@given(damaged(pickles()))
@example(b"\x80\x02}r\xff\xff\xff\x7f.")  # a memo of 2^31 places
@example(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.")  # a string of 2^63 bytes
@example(b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00}.")  # a frame of as many
def test_pickles_after_accidents(folder, content):
    check_pickle(folder, content)


OPCODES = st.sampled_from([bytes([code]) for code in b"(})]l0012tu\x85\x86\x87\x94asebR\x81NQ."])
PARTS = st.one_of(
    OPCODES,
    st.integers(0, 255).map(lambda value: b"K" + bytes([value])),
    st.sampled_from(NUMBERS).map(lambda value: b"r" + struct.pack("<I", value & 0xFFFF_FFFF)),
    st.sampled_from(NUMBERS).map(lambda value: b"\x8e" + struct.pack("<Q", value)),
    st.sampled_from(
        [b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
         b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cos\nsystem\n", b"c_codecs\nencode\n",
         b"ctorch.storage\n_load_from_bytes\n", b"cnumpy._core.multiarray\n_reconstruct\n",
         b"cnumpy._core.numeric\n_frombuffer\n", b"X\x02\x00\x00\x00f8", b"C\x02ab", b"q\x00",
         b"h\x00", b"h\x07"]
    ),
)  # fmt: skip


@fuzzed(150)
@given(st.lists(PARTS, max_size=30))
def test_pickles_of_odd_parts(folder, parts):
    check_pickle(folder, b"\x80\x02" + b"".join(parts) + b".")


# Sounds.


def sounds() -> list[bytes]:
    files = []
    samples = np.sin(np.arange(400) / 5)
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("WAV", "ULAW"),
                          ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("W64", "PCM_16"),
                          ("RF64", "PCM_16"), ("OGG", "VORBIS"), ("AU", "PCM_16")):  # fmt: skip
        file = io.BytesIO()
        soundfile.write(file, np.stack([samples, samples], 1), 16_000, subtype, format=kind)
        files.append(file.getvalue())
    return files


def check_sound(folder: Path, content: bytes) -> None:
    path = folder / "clip.wav"
    path.write_bytes(content)
    waveform = outcome(lambda: load_waveform(path), path)
    if waveform is not None:
        assert waveform.dim() == 1 and len(waveform) and waveform.dtype == torch.float32
        assert waveform.isfinite().all()


def flac_of_many_samples() -> bytes:
    """A header that announces 2^36 - 1 samples of 2 channels, half a terabyte."""
    content = bytearray(sounds()[4])
    content[21] |= 0x0F
    content[22:26] = b"\xff\xff\xff\xff"
    return bytes(content)


@fuzzed(150)
@given(damaged(sounds()))
@example(flac_of_many_samples())
def test_sounds_after_accidents(folder, content):
    check_sound(folder, content)


HEADER_NUMBERS = st.one_of(st.sampled_from(NUMBERS), st.integers(0, 100_000))


@fuzzed(100)
@given(
    st.sampled_from([1, 2, 3, 6, 7, 17, 0xFFFE]),
    *[HEADER_NUMBERS] * 5,
    st.integers(0, 64),
    st.binary(max_size=64),
)
def test_headers_of_odd_numbers(
    folder, code, channels, rate, byte_rate, align, bits, length, samples
):
    fields = (code, channels & 0xFFFF, rate & 0xFFFF_FFFF, byte_rate & 0xFFFF_FFFF)
    chunk = struct.pack("<HHIIHH", *fields, align & 0xFFFF, bits & 0xFFFF)
    body = b"WAVEfmt " + struct.pack("<I", len(chunk)) + chunk
    body += b"data" + struct.pack("<I", length) + samples
    check_sound(folder, b"RIFF" + struct.pack("<I", len(body)) + body)


# Configurations.

CONFIG = b"""_BASE_: s4_R50.yaml
MODEL:
  TRANSAVS: {NUM_QUERIES: 5, AQDL_THRESHOLD: [0.5, 0.6]}
  AUDIO: &audio {NAME: "SmallVGGish"}
SOLVER: {MAX_ITER: 3, STEPS: (1, 2)}
INPUT: {FORMAT: RGB, CROP: {SIZE: [32, 32]}}
VERSION: 2
"""
KEYS = st.one_of(
    st.sampled_from(["MODEL", "TRANSAVS", "NUM_QUERIES", "SOLVER", "STEPS", "INPUT", "AUDIO",
                     "NAME", "VERSION", "_BASE_", "DATASETS", "TRAIN", "OUTPUT_DIR", "DEVICE"]),
    st.text(max_size=4), st.integers(), st.none(), st.booleans(),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(),
        st.binary(max_size=4), st.sampled_from(["(1,", "[1]", "mine.yaml", "../", "cuda", "{}"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip


def check_config(folder: Path, content: bytes, *opts: str) -> None:
    path = folder / "mine.yaml"
    path.write_bytes(content)
    cfg = outcome(lambda: read_cfg(str(path), opts), path)
    assert cfg is None or (isinstance(cfg, CfgNode) and cfg.is_frozen())


@pytest.fixture(scope="module")
def config_folder(folder):
    base = Path(__file__).resolve().parents[2] / "configs"
    for name in ("s4_R50.yaml", "Base-TransAVS.yaml"):
        (folder / name).write_bytes((base / name).read_bytes())
    check = outcome(lambda: read_cfg(str(folder / "s4_R50.yaml"), []), folder / "s4_R50.yaml")
    assert check is not None
    return folder


@fuzzed(40)
@given(damaged([CONFIG]))
def test_configurations_after_accidents(config_folder, content):
    check_config(config_folder, content)


@fuzzed(40)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_configurations_of_odd_values(config_folder, content):
    check_config(config_folder, yaml.safe_dump(content).encode())


@fuzzed(25)
@given(
    st.sampled_from(["SOLVER.MAX_ITER", "INPUT.CROP.SIZE", "MODEL.DEVICE", "MODEL", "SOLVER.STEPS",
                     "MODEL.AUDIO.NAME", "OUTPUT_DIR", "TEST.ROBUSTNESS", "NO.SUCH"]),
    st.text(max_size=12),
)  # fmt: skip
def test_odd_overrides(config_folder, key, value):
    check_config(config_folder, CONFIG, key, value)


# Pictures.


def pictures() -> list[bytes]:
    colors = avsbench_trees.picture("clip", 1)
    images = [(".png", colors), (".jpg", colors), (".png", avsbench_trees.binary_mask())]
    return [cv2.imencode(suffix, image)[1].tobytes() for suffix, image in images]


@fuzzed(80)
@given(damaged(pictures()))
def test_pictures_after_accidents(folder, content):
    path = folder / "1.png"
    path.write_bytes(content)
    for read in (read_mask, read_label_map, read_picture_size):
        outcome(lambda read=read: read(str(path)), path)
    for form in ("class_ids", "class_colors"):
        ids = outcome(lambda form=form: read_class_map(str(path), form, 71), path)
        assert ids is None or (ids.ndim == 2 and ids.max() < 71)
