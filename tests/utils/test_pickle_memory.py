"""Pickles that announce more than they hold are refused; those that programs write are not."""

import io
import pickle
import struct

import numpy as np
import pytest

from transavs.utils.pickle_memory import check_pickle_memory


@pytest.mark.parametrize("protocol", range(6))
def test_what_programs_write_passes_and_stays_where_it_was(protocol):
    value = {"a": [np.arange(500.0), "x" * 300, b"y" * 300], "b": [(i, str(i)) for i in range(300)]}
    file = io.BytesIO(b"before" + pickle.dumps(value, protocol))
    file.seek(6)
    check_pickle_memory(file)
    assert file.tell() == 6 and pickle.load(file)["b"] == value["b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".", "a place 4294967295 for one of 2"),
        (b"\x80\x02}p99999999\n.", "a place 99999999"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.", "ends too early"),
        (b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc.", "ends too early"),
        (b"\x80\x04\x95" + struct.pack("<Q", 0x7D << 56 | 2) + b"}.", "ends too early"),
        (b"\x80\x02}", "ends too early"),
    ],
)
def test_what_nobody_wrote(content, message):
    file = io.BytesIO(content)
    with pytest.raises(pickle.UnpicklingError, match=message):
        check_pickle_memory(file)
    assert file.tell() == 0
