"""Mistakes end with a line and a code, wherever they were found."""

import os

import pytest
from torch.multiprocessing import ProcessRaisedException

from transavs.tools.command_line import check_output_folder, command, own_message

WORKER = (
    "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
    'last):\n  File "x.py", line 1, in f\nValueError: clip.wav holds no samples\n'
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("wrong word"), "wrong word"),
        (FileNotFoundError("no file"), "no file"),
        (PermissionError(13, "Permission denied", "out"), "Permission denied: 'out'"),
        (ValueError(WORKER), "error: clip.wav holds no samples\n"),
        (ProcessRaisedException(WORKER, 0, 1), "error: clip.wav holds no samples\n"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(error: Exception, message: str, capsys) -> None:
    def main(argv=None) -> int:
        raise error

    assert command(main)([]) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_an_error_of_ours_stays() -> None:
    ours = "Traceback (most recent call last):\nValueError: bad\n\nKeyError: 'masks'\n"
    assert own_message(ValueError(ours)) == ours

    def main(argv=None) -> int:
        raise ProcessRaisedException(ours, 0, 1)

    with pytest.raises(ProcessRaisedException):
        command(main)([])


def test_output_folder_is_made(tmp_path) -> None:
    check_output_folder(str(tmp_path / "a" / "b"))
    assert os.path.isdir(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_output_folder(str(tmp_path / "file" / "b"))
