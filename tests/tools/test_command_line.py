"""Mistakes end with a line and a code, wherever they were found."""

import logging
import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessRaisedException

from transavs.tools.command_line import (
    check_folder_to_be,
    check_output_files,
    command,
    read_cfg,
    start_logging,
    user_message,
)
from transavs.utils.progress import progress_bar

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


def failing(error: BaseException):
    """A command of the name ``failing`` that only raises."""

    def main(argv=None) -> int:
        assert "--debug" not in argv
        raise error

    main.__module__ = "tools.failing"
    return command(main)


def test_a_message_has_a_line_of_its_own(capsys, monkeypatch) -> None:
    """Also while a progress bar stands on the last one."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    start_logging()
    with progress_bar(None, "film", " s", 4) as bar:
        logging.getLogger("transavs").warning("its channels cancel")
        bar.update(4)
    before, told = capsys.readouterr().err.split("its channels cancel", 1)
    assert before.split("\r")[-1].startswith("[") and told.startswith("\n")


def test_debug_shows_where_a_mistake_was_found(capsys) -> None:
    assert failing(ValueError("wrong\n  word"))(["KEY", "1", "--debug"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback") and "raise error" in told
    assert told.endswith("\nfailing: error: wrong word\n")


def test_the_home_folder_in_words(monkeypatch) -> None:
    """Shells expand it at the start of a word alone."""
    found = []

    def main(argv) -> int:
        found.extend(argv)
        return 0

    monkeypatch.setenv("HOME", "/home/me")
    words = ["--output=~/x", "--save-masks", "~/m", "~", "OUTPUT_DIR", "a~/b", "--clips=a=~/b"]
    assert command(main)(words) == 0
    assert found == [
        "--output=/home/me/x", "--save-masks", "/home/me/m", "/home/me", "OUTPUT_DIR", "a~/b",
        "--clips=a=~/b",
    ]  # fmt: skip


OURS = "Traceback (most recent call last):\nValueError: bad\n\nKeyError: 'masks'\n"


@pytest.mark.parametrize(
    "error", [KeyError("masks"), ProcessRaisedException(OURS, 0, 1), ValueError(OURS)]
)
def test_a_mistake_of_ours_is_code_1_and_keeps_its_traceback(
    error: Exception, capsys, tmp_path, monkeypatch
) -> None:
    assert user_message(error) is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert failing(error)([]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"failing: unexpected {type(error).__name__}: " in told and "'masks'" in told
    (kept,) = tmp_path.iterdir()
    assert str(kept) in told
    assert "raise error" in kept.read_text() and "'masks'" in kept.read_text()
    assert failing(error)(["--debug"]) == 1
    assert "raise error" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [kept]


def test_a_training_that_diverged_is_told_in_a_line(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert failing(FloatingPointError("iteration 3: total_loss is nan"))([]) == 1
    assert capsys.readouterr().err == "failing: error: iteration 3: total_loss is nan\n"
    assert not list(tmp_path.iterdir())


def test_the_traceback_is_shown_where_it_cannot_be_kept(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert failing(KeyError("masks"))([]) == 1
    assert "raise error" in capsys.readouterr().err


def test_ctrl_c_and_an_exit_of_its_own(capsys) -> None:
    assert failing(KeyboardInterrupt())([]) == 130
    assert capsys.readouterr().err == "failing: interrupted\n"
    with pytest.raises(SystemExit):
        failing(SystemExit(3))([])


ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(path for folder in ("tools", "datasets") for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_every_command_knows_debug(script: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_ctrl_c_while_it_is_imported(script: Path, capsys, monkeypatch) -> None:
    (module,) = re.findall(r"from (transavs\.\S+) import main", script.read_text("utf-8"))

    class Interrupted:
        """Ctrl-C amid the import of a command."""

        def find_spec(self, name, path=None, target=None):
            if name == module:
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fault", "code", "shown"), [("KeyboardInterrupt", 130, False), ("RuntimeError", 1, True)]
)
def test_ctrl_c_while_a_module_is_imported(fault: str, code: int, shown: bool, tmp_path) -> None:
    """``python -m``; torch is what takes the longest, so stands in for all of them."""
    (tmp_path / "torch.py").write_text(f"raise {fault}('amid the imports')")
    ended = subprocess.run(
        [sys.executable, "-m", "transavs.tools.train_net", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == code, ended.stderr
    assert ("amid the imports" in ended.stderr) == shown
    assert shown or not ended.stderr


@pytest.mark.parametrize("by_module", [True, False])
def test_a_module_that_is_run_keeps_its_name(by_module: bool, tmp_path) -> None:
    """``python -m`` and a path call it ``__main__``; lines and files of tracebacks do not."""
    (tmp_path / "room").mkdir()
    path = tmp_path / "room" / "failing.py"
    path.write_text(
        "from transavs.tools.command_line import command\n\n\n@command\ndef main(argv=None):\n"
        "    raise (ValueError if argv else KeyError)('amiss')\n\n\nmain(['x'])\nmain([])\n"
    )
    ended = subprocess.run(
        [sys.executable, *(["-m", "room.failing"] if by_module else [str(path)])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    mistake, ours = ended.stderr.splitlines()
    assert mistake == "failing: error: amiss" and ours.startswith("failing: unexpected KeyError")
    assert [file.stem.startswith("failing-") for file in tmp_path.glob("*.txt")] == [True]


def test_files_to_be_written_are_looked_at_without_a_trace(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    check_output_files({"--output": str(tmp_path / "a" / "b" / "c.txt"), "--report": None}, {})
    for path, told in (
        ("file/a.txt", "--output: .*file is a file, expected a folder"),
        ("", "--output names a folder"),
        ("file", "--output would overwrite --weights"),
    ):
        with pytest.raises((ValueError, OSError), match=told):
            check_output_files(
                {"--output": str(tmp_path / path)}, {"--weights": str(tmp_path / "file")}
            )
    with pytest.raises(OSError, match="too long"):
        check_folder_to_be("--output", tmp_path / ("n" * 300) / "a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="--output: cannot write into"):
        check_folder_to_be("--output", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_misspelt_key_comes_first() -> None:
    opts = ["INPUT.MIN_SIZE_TEST", "64", "MODEL.TRANSAVS.NUM_QUERYS", "3", "SEED", "1"]
    with pytest.raises(ValueError) as told:
        read_cfg("s4_R50.yaml", opts)
    text = str(told.value)
    first = "no configuration key MODEL.TRANSAVS.NUM_QUERYS; near it: MODEL.TRANSAVS.NUM_QUERIES"
    assert text.startswith(first)
    assert text.endswith(f" (configuration s4_R50.yaml with {' '.join(opts)})")
