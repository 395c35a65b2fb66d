"""Pickles: the real kinds are read, anything that could run code is refused and not run."""

import collections
import io
import os
import pickle
import pickletools
import struct
import warnings

import numpy as np
import pytest
import torch

from transavs.pretrained import restricted_pickle
from transavs.pretrained.restricted_pickle import (
    load_checkpoint_pickle,
    read_log_mel_pickle,
    restricted_load,
)

PROTOCOLS = (2, 3, 4, 5)


def write(path, content, protocol=4):
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own storages
        pickle.dump(content, file, protocol=protocol)
    return path


def official_examples(count=5, **options):
    """As AVSBench dumps them: made with gradient, sliced, so that storage and view differ."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(count + 1, 96, 64, generator=generator, **options).requires_grad_()
    return whole[1:, None].float() * 1.0


class RunsCommand:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class RunsOnState:
    """Asks for a harmless class first and reaches the command while its state is filled in."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return collections.OrderedDict, (), {"hook": RunsCommand(self.marker)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_log_mel_pickles_of_every_protocol(tmp_path, protocol):
    examples = official_examples()
    path = write(tmp_path / "clip.pkl", examples, protocol)
    assert pickle.loads(path.read_bytes()).requires_grad  # what the plain reader returns
    loaded = read_log_mel_pickle(path)
    assert torch.equal(loaded, examples.detach())
    assert loaded.dtype == torch.float32 and loaded.is_contiguous()
    assert not loaded.requires_grad and loaded.is_leaf


def test_other_lengths_strides_and_float_types_are_read(tmp_path):
    for examples in (
        torch.randn(10, 1, 96, 64),
        torch.randn(2, 1, 64, 96).transpose(2, 3),
        torch.randn(1, 1, 96, 64, dtype=torch.float64),
    ):
        loaded = read_log_mel_pickle(write(tmp_path / "clip.pkl", examples))
        assert torch.equal(loaded, examples.float()) and loaded.is_contiguous()


def test_a_log_mel_pickle_names_the_four_globals_alone(tmp_path):
    named = set()
    for protocol in (2, 3):
        content = write(tmp_path / "clip.pkl", official_examples(), protocol).read_bytes()
        named |= {
            tuple(str(argument).split(" "))
            for operation, argument, _ in pickletools.genops(content)
            if operation.name == "GLOBAL"
        }
    assert named == set(restricted_pickle._TENSOR_GLOBALS)


@pytest.mark.parametrize("reader", [read_log_mel_pickle, load_checkpoint_pickle])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("payload", [RunsCommand, RunsOnState])
def test_commands_are_refused_and_not_run(tmp_path, reader, protocol, payload):
    marker = tmp_path / "marker"
    for content in (
        payload(marker),
        {"model": payload(marker)},
        [official_examples(), payload(marker)],
    ):
        path = write(tmp_path / "bad.pkl", content, protocol)
        with pytest.raises(ValueError, match=r"bad\.pkl .*it asks for \w+\.system"):
            reader(path)
    assert not marker.exists()
    pickle.loads((tmp_path / "bad.pkl").read_bytes())  # the payload itself works
    assert marker.exists()


def test_a_command_inside_a_storage_is_refused_and_not_run(tmp_path):
    """The bytes of a storage are a pickle again, which torch must read without running it."""
    marker = tmp_path / "marker"
    inner = io.BytesIO()
    torch.save(RunsCommand(marker), inner, _use_new_zipfile_serialization=False)

    class Outer:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    path = write(tmp_path / "bad.pkl", Outer())
    with pytest.raises(ValueError, match=r"cannot unpickle .*bad\.pkl"):
        read_log_mel_pickle(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "builtins getattr", "os system", "posix system", "torch load",
             "torch.storage os.system", "torch._utils _rebuild_tensor_v2.__globals__",
             "transavs.pretrained.restricted_pickle restricted_load"]
)  # fmt: skip
def test_no_other_global_can_be_named(tmp_path, name):
    module, function = name.split(" ")
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"c" + f"{module}\n{function}\n".encode() + b".")  # GLOBAL, STOP
    for reader in (read_log_mel_pickle, load_checkpoint_pickle):
        with pytest.raises(ValueError, match=f"asks for {module}.{function}"):
            reader(path)
    # STACK_GLOBAL of protocol 4, where a dotted name would reach into an object
    path.write_bytes(
        b"\x80\x04" + b"".join(b"\x8c" + bytes([len(w)]) + w.encode() for w in (module, function))
        + b"\x93."
    )  # fmt: skip
    with pytest.raises(ValueError, match="refused"):
        read_log_mel_pickle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(5, 96, 64), r"got .*\[5, 96, 64\]"),
        (torch.zeros(0, 1, 96, 64), r"S >= 1 .* got .*\[0, 1, 96, 64\]"),
        (torch.zeros(5, 1, 64, 96), r"got .*\[5, 1, 64, 96\]"),
        (torch.tensor(0.0), r"got .*\[\]"),
        (torch.zeros(5, 1, 96, 64, dtype=torch.int64), "got torch.int64"),
        (torch.full((1, 1, 96, 64), torch.nan), "not all finite"),
        ([1, 2], "got list"),
        (None, "got NoneType"),
    ],
)
def test_other_contents_of_log_mel_files_are_refused(tmp_path, content, message):
    path = write(tmp_path / "clip.pkl", content)
    with pytest.raises(ValueError, match=message) as error:
        read_log_mel_pickle(path)
    assert str(path) in str(error.value) and "wav" in str(error.value)


def test_damaged_and_missing_files(tmp_path):
    path = write(tmp_path / "clip.pkl", official_examples())
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"RIFF no pickle", whole[:40] + whole[60:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"clip\.pkl"):
            read_log_mel_pickle(path)
    for reader in (read_log_mel_pickle, load_checkpoint_pickle):
        with pytest.raises(FileNotFoundError, match=r"absent\.pkl"):
            reader(tmp_path / "absent.pkl")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5, 1, 96, 64), (6144, 6144, 64, 1)),
        (1, (1, 1, 96, 64), (6144, 6144, 64, 1)),
        (-1, (1, 1, 96, 64), (0, 0, 0, 0)),
        (6143, (1, 1, 96, 64), (0, 0, -64, -1)),
        (6144, (1, 1, 96, 64), (0, 0, 0, 0)),
    ],
)
def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path, offset, size, stride):
    whole = torch.zeros(1, 1, 96, 64)
    rebuild, arguments = whole.__reduce_ex__(4)

    class Beyond:
        def __reduce__(self):
            return rebuild, (arguments[0], offset, size, stride, *arguments[4:])

    with pytest.raises(ValueError, match="beyond its storage"):
        read_log_mel_pickle(write(tmp_path / "clip.pkl", Beyond()))


def test_restricted_load_uses_the_stand_ins(tmp_path):
    path = write(tmp_path / "file.pkl", RunsCommand("nothing"))
    calls = []
    allowed = {(os.system.__module__, "system"): lambda command: calls.append(command) or 7}
    assert restricted_load(path, allowed) == 7
    assert calls == ["touch nothing"]
    with pytest.raises(ValueError, match=r"file\.pkl .*it asks for"):
        restricted_load(path, {})


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x80\x02}p99999999\n.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 0x7D << 56 | 2) + b"}.",
        b"\x80\x02}",
    ],
    ids=["memo", "memo in digits", "text", "short text", "frame", "no end"],
)
def test_pickles_that_announce_more_than_they_hold(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot unpickle .*file\.pkl") as error:
        load_checkpoint_pickle(path)
    assert type(error.value.__cause__) is ValueError  # our check, not a reader out of memory


def checkpoint():
    """A model-zoo file in small: every type of array, shape and order."""
    arrays = {
        "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "permuted": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
        "big endian": np.arange(3, dtype=">i4"),
        "half": np.arange(3, dtype=np.float16),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "single": np.array(2.5),
    }
    model = collections.OrderedDict(arrays)
    model._metadata = {"": {"version": 2}}
    return {
        "model": model,
        "__author__": "nobody",
        "matching_heuristics": True,
        "scores": [np.float64(0.5), (np.int64(3), arrays["half"]), None],
        "tensors": {"weight": torch.arange(6.0).reshape(2, 3),
                    "bias": torch.nn.Parameter(torch.ones(2))},
    }  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("core", ["core", "_core"])
def test_checkpoints_of_every_protocol_and_numpy(tmp_path, protocol, core):
    path = write(tmp_path / "model.pkl", checkpoint(), protocol)
    content = path.read_bytes()
    if core == "core" and protocol < 4:  # as NumPy 1 wrote it; later protocols count characters
        path.write_bytes(content.replace(b"numpy._core.", b"numpy.core."))
    loaded, expected = load_checkpoint_pickle(path), checkpoint()
    assert list(loaded) == list(expected)
    assert type(loaded["model"]) is collections.OrderedDict
    assert loaded["model"]._metadata == {"": {"version": 2}}
    for name, array in expected["model"].items():
        found = loaded["model"][name]
        assert type(found) is np.ndarray and found.flags.writeable and found.dtype.isnative, name
        assert found.dtype == array.dtype.newbyteorder("="), name
        np.testing.assert_array_equal(found, array, err_msg=name)
        torch.from_numpy(found)
    assert loaded["scores"][0] == 0.5 and loaded["scores"][1][0] == 3
    np.testing.assert_array_equal(loaded["scores"][1][1], [0, 1, 2])
    assert torch.equal(loaded["tensors"]["weight"], expected["tensors"]["weight"])
    assert torch.equal(loaded["tensors"]["bias"], torch.ones(2))


def test_python_2_strings_are_latin1(tmp_path):
    """A Caffe2 file of Python 2, by hand: keys and the bytes of arrays are 8-bit strings."""
    raw = np.array([1.5, -2.0], dtype="<f4").tobytes()
    short = lambda text: b"U" + bytes([len(text)]) + text  # noqa: E731  SHORT_BINSTRING
    dtype = b"cnumpy\ndtype\n" + b"(" + short(b"f4") + b"I0\nI1\ntR"
    dtype += b"(I3\n" + short(b"<") + b"NNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + short(b"b") + b"tR"
    array += b"(I1\n(I2\nt" + dtype + b"I00\n" + short(raw) + b"tb"
    path = tmp_path / "caffe.pkl"
    path.write_bytes(b"\x80\x02}" + short(b"conv1_w") + array + b"s.")
    loaded = load_checkpoint_pickle(path)
    assert list(loaded) == ["conv1_w"]
    np.testing.assert_array_equal(loaded["conv1_w"], np.array([1.5, -2.0], dtype=np.float32))
    expected = pickle.loads(path.read_bytes(), encoding="latin1")
    np.testing.assert_array_equal(loaded["conv1_w"], expected["conv1_w"])


def test_checkpoints_with_cycles_are_read(tmp_path):
    content = {"weight": np.ones(2)}
    content["itself"] = content
    loaded = load_checkpoint_pickle(write(tmp_path / "model.pkl", content))
    assert loaded["itself"] is loaded and loaded["weight"].tolist() == [1, 1]


class FalseArray:
    """Pickles as an array with any state, or none."""

    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        reconstruct = np.zeros(0).__reduce__()[0]
        return (reconstruct, (np.ndarray, (0,), b"b"), *self.state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "dictionary .* got list"),
        ({"a": np.array(["text"])}, "expected numbers"),
        ({"a": np.array([object], dtype=object)}, "expected numbers"),
        ({"a": np.zeros(2, dtype=[("x", "f4"), ("y", "i2")])}, "expected numbers"),
        ({"a": np.datetime64("2020-01-01")}, "expected numbers"),
        ({"a": FalseArray()}, "without content"),
        ({"a": FalseArray((1, (1000,), np.dtype("f4"), False, b"abcd"))}, "made of 4 bytes"),
        ({"a": FalseArray((1, (1,), np.dtype("f4"), False, [1.0]))}, "made of a list"),
        ({"a": FalseArray((1, (1,), "f4", False, b"abcd"))}, "cannot unpickle"),
    ],
)
def test_other_contents_of_checkpoints_are_refused(tmp_path, content, message):
    for protocol in (2, 4):
        path = write(tmp_path / "model.pkl", content, protocol)
        with pytest.raises(ValueError, match=message) as error:
            load_checkpoint_pickle(path)
        assert str(path) in str(error.value)


def test_a_number_type_cannot_become_a_structure(tmp_path):
    class FalseType:
        def __reduce__(self):
            return np.dtype, ("f4", False, True), (3, "<", None, ("x",), {"x": 1}, 4, 4, 0)

    with pytest.raises(ValueError, match="structured"):
        load_checkpoint_pickle(write(tmp_path / "model.pkl", {"a": FalseType()}))


def test_bytes_are_latin1_alone(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0rot13\x86R.")
    with pytest.raises(ValueError, match="rot13"):
        load_checkpoint_pickle(path)
