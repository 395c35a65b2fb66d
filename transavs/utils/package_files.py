"""Finds the configs that the package ships, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]

#: Where configs may lie: inside the package when it was installed from a wheel, at the top of the
#: repository in a checkout or an editable install.
CONFIG_FOLDERS = (_PACKAGE_FOLDER / "configs", _PACKAGE_FOLDER.parent / "configs")


def find_config(path: str | os.PathLike[str]) -> str:
    """Returns the path of an existing config file.

    Args:
        path: a file, taken as given if it exists; otherwise the name of a shipped config, with or
            without the leading ``configs/``: ``"s4_R101.yaml"``, ``"configs/demo/demo_s4.yaml"``.

    Raises:
        FileNotFoundError: neither; the message lists the shipped configs.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return str(given)
    if not given.is_absolute():
        parts = given.parts[1:] if given.parts[:1] == ("configs",) else given.parts
        for folder in CONFIG_FOLDERS:
            shipped = folder.joinpath(*parts)
            if parts and shipped.is_file():
                return str(shipped)
    names = ", ".join(shipped_configs()) or "none found, the installation is broken"
    raise FileNotFoundError(
        f"no config file {os.fspath(path)!r}, neither from the folder {os.getcwd()} nor among "
        f"those of the package: {names}"
    )


def shipped_configs() -> list[str]:
    """Returns the names of all configs that :func:`find_config` knows, sorted."""
    for folder in CONFIG_FOLDERS:
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.yaml"))
        if names:
            return names
    return []
