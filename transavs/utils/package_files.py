"""Finds the configs and models that the package ships, in a checkout and in a wheel alike."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]

#: Where configs may lie: inside the package when it was installed from a wheel, at the top of the
#: repository in a checkout or an editable install.
CONFIG_FOLDERS = (_PACKAGE_FOLDER / "configs", _PACKAGE_FOLDER.parent / "configs")

# Its files are lists of trainings, not configs of a model.
_GRID_FOLDER = "grid"

#: Where shipped models lie, see ``transavs.pretrained.bundled_models``.
WEIGHTS_FOLDER = _PACKAGE_FOLDER / "weights"


def find_config(path: str | os.PathLike[str]) -> str:
    """Returns the path of an existing config file.

    Args:
        path: a file, taken as given if it exists; otherwise the name of a shipped config, with or
            without the leading ``configs/``: ``"s4_R101.yaml"``, ``"configs/demo/demo_s4.yaml"``.

    Raises:
        FileNotFoundError: neither; the message names the nearest of the shipped configs, or all.
    """
    return _find(path, "config file", shipped_configs())


def find_grid(path: str | os.PathLike[str]) -> str:
    """Returns the path of an existing grid file (a list of trainings), as :func:`find_config`.

    Raises:
        FileNotFoundError: no such file; the message names the nearest of the shipped grids, or all.
    """
    return _find(path, "grid file", shipped_grids())


def find_weights(path: str | os.PathLike[str]) -> str:
    """Returns the path of an existing checkpoint.

    Args:
        path: a file, taken as given if it exists; otherwise the name of a shipped model, with or
            without its folder: ``"demo_ms3.safetensors"``, ``"weights/demo_ms3.safetensors"``.

    Raises:
        FileNotFoundError: neither; the message lists the shipped models.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return str(given)
    shipped = WEIGHTS_FOLDER / given.name
    if given.parent.parts in ((), ("weights",), ("transavs", "weights")) and shipped.is_file():
        return str(shipped)
    names = sorted(file.name for file in WEIGHTS_FOLDER.glob("*.safetensors"))
    raise FileNotFoundError(
        f"no checkpoint {os.fspath(path)}; train a model first, or mend the path"
        + (f". Models that come with the package: {', '.join(names)}" if names else "")
    )


def shipped_configs() -> list[str]:
    """Returns the names of all configs of a model that the package ships, sorted."""
    return [name for name in _shipped() if not name.startswith(f"{_GRID_FOLDER}/")]


def shipped_grids() -> list[str]:
    """Returns the names of all grid files that the package ships, sorted."""
    return [name for name in _shipped() if name.startswith(f"{_GRID_FOLDER}/")]


def _find(path: str | os.PathLike[str], what: str, shipped_names: list[str]) -> str:
    given = Path(path).expanduser()
    if given.is_file():
        return str(given)
    if not given.is_absolute():
        parts = given.parts[1:] if given.parts[:1] == ("configs",) else given.parts
        for folder in CONFIG_FOLDERS:
            shipped = folder.joinpath(*parts)
            if parts and shipped.is_file():
                return str(shipped)
    near = difflib.get_close_matches(str(given).removeprefix("configs/"), shipped_names, n=3)
    names = ", ".join(shipped_names) or "none found, the installation is broken"
    raise FileNotFoundError(
        f"no {what} {os.fspath(path)!r}, neither from the folder {os.getcwd()} nor among "
        "those of the package"
        + (f"; near it: {', '.join(f'configs/{name}' for name in near)}" if near else f": {names}")
    )


def _shipped() -> list[str]:
    for folder in CONFIG_FOLDERS:
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.yaml"))
        if names:
            return names
    return []
