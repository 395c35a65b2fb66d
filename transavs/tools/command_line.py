"""What the commands share: configuration, logging, and mistakes told in a line."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence

import yaml
from detectron2.config import CfgNode
from torch.multiprocessing import ProcessRaisedException

from transavs.config import setup_cfg
from transavs.utils.whole_files import write_text

__all__ = [
    "INTERRUPTED",
    "USER_ERROR",
    "check_output_files",
    "check_output_folder",
    "command",
    "own_message",
    "read_cfg",
    "split_names",
    "start_logging",
    "write_text",
]

Main = Callable[..., int]

USER_ERROR = 2
INTERRUPTED = 130


def command(main: Main) -> Main:
    """Makes a ``main(argv=None)`` end with a line and a code, not a traceback.

    ValueError and OSError are the answers to a user's mistake: their message goes to stderr and the
    exit code is 2, also where a process that we started raised them. Anything else is a mistake of
    ours and stays as it is.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        name = main.__module__.rsplit(".", 1)[-1]
        try:
            return main(argv)
        except (ValueError, OSError) as error:
            print(f"{name}: error: {own_message(error)}", file=sys.stderr)
            return USER_ERROR
        except ProcessRaisedException as error:
            if own_message(error) == str(error):
                raise
            print(f"{name}: error: {own_message(error)}", file=sys.stderr)
            return USER_ERROR
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            return INTERRUPTED

    return wrapped


def own_message(error: Exception) -> str:
    """Returns an error's message without the traceback that came from another process with it."""
    text = str(error)
    if "Traceback" not in text:
        return text
    found = re.findall(r"^(?:\w*ValueError|\w*Error): (.+)", text, flags=re.MULTILINE)
    known = re.findall(r"^(?:ValueError|FileNotFoundError|OSError): (.+)", text, flags=re.MULTILINE)
    return known[-1] if known and found[-1] == known[-1] else text


def check_output_folder(folder: str) -> None:
    """Raises OSError before long work whose results could not be written.

    Args:
        folder: made if it is not there.
    """
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write into {folder}: choose another output folder")


def check_output_files(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Raises ValueError or OSError before long work for a file that cannot or must not be written.

    Args:
        outputs: option of the command line -> file; its folder is made if it is not there.
        inputs: likewise, files that must stay as they are.
    """
    taken = {os.path.realpath(os.path.expanduser(p)): name for name, p in inputs.items() if p}
    for option, path in outputs.items():
        if not path:
            continue
        own = os.path.realpath(path)
        if own in taken:
            raise ValueError(f"{option} would overwrite {taken[own]} {path}: name another file")
        if os.path.isdir(own):
            raise ValueError(f"{option} names a folder, {path}: name a file in it")
        if os.path.isfile(os.path.dirname(own)):
            raise ValueError(f"{option} {path} lies in a file, expected a folder")
        check_output_folder(os.path.dirname(own))
        taken[own] = option


def start_logging() -> None:
    """Shows the library's messages on stderr, unless the caller has set up logging already."""
    logging.basicConfig(
        level=logging.INFO, format="[%(asctime)s %(name)s] %(message)s", datefmt="%H:%M:%S"
    )


def read_cfg(config_file: str, opts: Sequence[str]) -> CfgNode:
    """Returns ``transavs.config.setup_cfg``'s configuration; every mistake in it is a ValueError.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown key, a value of the wrong type, or a file that is no plain YAML.
    """
    try:
        return setup_cfg(config_file, opts)
    except (KeyError, AssertionError, UnicodeDecodeError, yaml.YAMLError) as error:
        # KeyError quotes its message; yacs asserts what it is given on the command line.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ValueError(f"configuration {config_file} with {list(opts)}: {text}") from error


def split_names(text: str) -> list[str]:
    """Returns the words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]
