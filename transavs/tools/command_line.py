"""What the commands share: configuration, logging, and mistakes told in a line."""

from __future__ import annotations

import argparse
import builtins
import functools
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from torch.multiprocessing import ProcessRaisedException

from transavs.audio import AUDIO_ENCODER_REGISTRY
from transavs.config import setup_cfg
from transavs.modeling import PIXEL_DECODER_REGISTRY
from transavs.utils.progress import LogAroundBars
from transavs.utils.whole_files import write_text

__all__ = [
    "INTERRUPTED",
    "OUR_ERROR",
    "USER_ERROR",
    "CommandParser",
    "add_debug_option",
    "check_folder_to_be",
    "check_names",
    "check_output_files",
    "check_threads",
    "command",
    "read_cfg",
    "split_names",
    "start_logging",
    "user_message",
    "write_text",
]

Main = Callable[..., int]

OUR_ERROR = 1
USER_ERROR = 2
INTERRUPTED = 130

#: More of them than any machine has cores, and fewer than a system refuses to start.
MOST_THREADS = 1024

# With the abbreviations that argparse would take.
_DEBUG_WORDS = frozenset({"--deb", "--debu", "--debug"})


class CommandParser(argparse.ArgumentParser):
    """A parser with the option that all commands have."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        add_debug_option(self)


def add_debug_option(parser: argparse.ArgumentParser) -> None:
    """Lets ``--help`` tell of ``--debug``; :func:`command` is who reads it."""
    parser.add_argument("--debug", action="store_true", help="show where in the code an error rose")


def command(main: Main) -> Main:
    """Makes a ``main(argv=None)`` end with a line and a code, not a traceback.

    ValueError and OSError are the answers to a user's mistake: their message goes to stderr and the
    exit code is 2, also where a process that we started raised them. Numbers that are not finite
    (FloatingPointError) are a line and code 1. Anything else is, as a rule, a mistake of ours: a
    line names the file that keeps the traceback, and the exit code is 1.

    With ``--debug``, which stands anywhere among the words and never reaches ``main``, tracebacks
    are shown as well. A ``~`` at the start of a word, or behind ``--option=`` where shells leave
    it alone, is the home folder.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        name = _name_of(main)
        words = list(sys.argv[1:] if argv is None else argv)
        debug = not _DEBUG_WORDS.isdisjoint(words)
        try:
            return main([_with_home(word) for word in words if word not in _DEBUG_WORDS])
        except Exception as error:
            if debug:
                traceback.print_exc()
            mistake = user_message(error)
            if mistake is not None:
                print(f"{name}: error: {mistake}", file=sys.stderr)
                return USER_ERROR
            if isinstance(error, FloatingPointError):
                # A training that diverged: nobody's mistake in the code, and its message tells all.
                print(f"{name}: error: {_last_line(error)}", file=sys.stderr)
                return OUR_ERROR
            kept = "shown above" if debug else _keep_traceback(name)
            print(
                f"{name}: unexpected {type(error).__name__}: {_last_line(error)} (no mistake of "
                f"yours that we foresaw: please report it with the traceback, {kept})",
                file=sys.stderr,
            )
            return OUR_ERROR
        except KeyboardInterrupt:
            if debug:
                traceback.print_exc()
            print(f"{name}: interrupted", file=sys.stderr)
            return INTERRUPTED

    return wrapped


def _with_home(word: str) -> str:
    option = re.match(r"--[\w-]+=", word)
    start = option.end() if option else 0
    return word[:start] + os.path.expanduser(word[start:])


def _name_of(main: Main) -> str:
    """Returns the name of a command's module, also where ``python -m`` calls it ``__main__``."""
    module = main.__module__
    if module == "__main__":
        spec = sys.modules["__main__"].__spec__
        module = spec.name if spec else Path(sys.argv[0]).stem
    return module.rsplit(".", 1)[-1]


def user_message(error: BaseException) -> str | None:
    """Returns the line to tell of a user's mistake; None if the error is a mistake of ours.

    The traceback that comes with an error out of another process is left out.
    """
    if not isinstance(error, ValueError | OSError | ProcessRaisedException):
        return None
    text = str(error)
    if isinstance(error, ProcessRaisedException) or "Traceback" in text:
        found = re.findall(r"^([\w.]*(?:Error|Exception|Interrupt)): (.+)", text, re.MULTILINE)
        kind, text = found[-1] if found else ("", text)
        if not issubclass(getattr(builtins, kind, Exception), ValueError | OSError):
            return None
    text = re.sub(r"\s*\n\s*", " ", text.strip()) or type(error).__name__
    if isinstance(error, OSError) and error.errno:
        # The system's own words name no way out.
        text += "; check the path, whether you may use it, and whether its disk has room"
    return text


def _keep_traceback(name: str) -> str:
    """Writes the traceback of the error that is being handled, and returns where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"{name}-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            traceback.print_exc(file=file)
    except OSError:
        traceback.print_exc()
        return "shown above"
    return f"which --debug shows and {file.name} holds"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[-1]


def check_output_files(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Raises ValueError or OSError before long work for a file that cannot or must not be written.

    Args:
        outputs: option of the command line -> file; its folder may be made when it is written.
        inputs: likewise, files that must stay as they are.
    """
    taken = {os.path.realpath(p): name for name, p in inputs.items() if p}
    for option, path in outputs.items():
        if not path:
            continue
        own = os.path.realpath(path)
        if own in taken:
            raise ValueError(f"{option} would overwrite {taken[own]} {path}: name another file")
        if os.path.isdir(own) or not os.path.basename(path):
            raise ValueError(f"{option} names a folder, {path}: name a file in it")
        check_folder_to_be(option, os.path.dirname(own))
        taken[own] = option


def check_folder_to_be(option: str, folder: str | os.PathLike[str]) -> None:
    """Raises OSError before long work for a folder that cannot be made or written into.

    Nothing is made: a command that ends with a mistake leaves no empty folder behind.

    Args:
        option: of the command line that names the folder, or a file in it.
        folder: need not be there, nor need the folders above it.
    """
    place = os.path.realpath(folder)
    while not _is_there(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise NotADirectoryError(f"{option}: {place} is a file, expected a folder: name another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{option}: cannot write into {place}: choose another folder")


def _is_there(path: str) -> bool:
    # Unlike os.path.exists, this raises for names that the system finds too long.
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def check_threads(count: int) -> None:
    """Raises ValueError for a number of ``--threads`` that cannot be had."""
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(
            f"--threads must lie in 1 to {MOST_THREADS}, got {count}: more than this machine's "
            f"{os.cpu_count()} cores make nothing faster"
        )


def start_logging() -> None:
    """Shows the library's messages on stderr, unless the caller has set up logging already."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s %(name)s] %(message)s",
        datefmt="%H:%M:%S",
        handlers=[LogAroundBars()],
    )


def read_cfg(config_file: str, opts: Sequence[str]) -> CfgNode:
    """Returns ``transavs.config.setup_cfg``'s configuration; every mistake in it is a ValueError.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown key, a value of the wrong type, a name that nothing has, or a file
            that is no plain YAML.
    """
    try:
        cfg = setup_cfg(config_file, opts)
        check_names(cfg)
    except (KeyError, AssertionError, yaml.YAMLError) as error:
        # KeyError quotes its message; yacs asserts what it is given on the command line.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ValueError(f"{text} ({_told(config_file, opts)})") from error
    except ValueError as error:
        if os.path.basename(config_file) in str(error):
            raise
        raise ValueError(f"{error} ({_told(config_file, opts)})") from error
    return cfg


def _told(config_file: str, opts: Sequence[str]) -> str:
    with_opts = f" with {' '.join(map(str, opts))}" if opts else ""
    return f"configuration {config_file}{with_opts}"


def check_names(cfg: CfgNode) -> None:
    """Raises ValueError for a network or a part of one that is registered under no such name."""
    registries = {
        "MODEL.META_ARCHITECTURE": (cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY),
        "MODEL.BACKBONE.NAME": (cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY),
        "MODEL.PIXEL_DECODER.NAME": (cfg.MODEL.PIXEL_DECODER.NAME, PIXEL_DECODER_REGISTRY),
        "MODEL.AUDIO.NAME": (cfg.MODEL.AUDIO.NAME, AUDIO_ENCODER_REGISTRY),
    }
    for key, (name, registry) in registries.items():
        if name not in registry:
            known = ", ".join(sorted(known for known, _ in registry))
            raise ValueError(f"{key} must be one of {known}, got {name!r}")


def split_names(text: str) -> list[str]:
    """Returns the words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]
