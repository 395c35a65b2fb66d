"""Holds the plan of the house: imports go down in level, and never to another room of one level.

Read from the source with ``ast``, so that imports inside functions count as well.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "transavs"

#: Level of each room (a subpackage or a module of ``transavs``).
LEVELS = {
    "structures": 0,
    "config": 0,
    "config_checks": 0,
    "env": 0,
    "pretrained": 0,
    "version": 0,
    "utils": 0,
    "audio": 1,
    "layers": 1,
    "data": 2,
    "losses": 2,
    "evaluation": 2,
    "visualization": 2,
    "video": 2,
    "modeling": 3,
    "synthetic": 3,
    "engine": 4,
    "tools": 4.5,  # what is on its way into apps
    "apps": 5,
}
#: The rooms of level 0 are single modules; these may use what is written there.
LEVEL_0_USES = {
    "config": {"config_checks", "utils", "version"},
    "env": {"utils", "version"},
    "pretrained": {"utils"},
}

#: A top-level package of this name comes with the detectron2 wheel and is never ours.
FOREIGN_NAMES = ("tools", "tests", "datasets", "configs")


def room_of(module: str) -> str | None:
    """``"transavs.audio.io"`` -> ``"audio"``; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(file: Path) -> list[tuple[int, str]]:
    """Every (line, absolute module name) that a file imports, relative imports resolved."""
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            names = [".".join(base)]
            if names == ["transavs"]:  # from transavs import audio
                names = [f"transavs.{alias.name}" for alias in node.names]
            found += [(node.lineno, name) for name in names]
    return found


def violations(file: Path) -> list[str]:
    own_room = room_of(module_name(file))
    problems = []
    for line, imported in imported_modules(file):
        place = f"{file.relative_to(PACKAGE.parent)}:{line} imports {imported}"
        top = imported.split(".")[0]
        if top in FOREIGN_NAMES:
            problems.append(f"{place}: not part of the package")
        other = room_of(imported) if top == "transavs" else None
        if own_room is None or other is None or other == own_room or other not in LEVELS:
            continue
        own_level, other_level = LEVELS[own_room], LEVELS[other]
        if other in LEVEL_0_USES.get(own_room, set()):
            continue
        if other_level >= own_level:
            problems.append(f"{place}: level {own_level} ({own_room}) -> level {other_level}")
    return problems


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_level():
    rooms = {room_of(module_name(file)) for file in SOURCES} - {None}
    assert rooms <= set(LEVELS), f"give a level to {sorted(rooms - set(LEVELS))}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file):
    assert not violations(file)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_modules_stay_readable(file):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= 450, f"{file} has {lines} lines; split it"


class TestTheCheckItself:
    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "transavs")

        def write_module(path, source):
            file = tmp_path / "transavs" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
            return file

        return write_module

    @pytest.mark.parametrize(
        "source",
        [
            "import transavs.modeling.meta_arch",
            "from transavs.losses import matcher",
            "from transavs import engine",
            "from ..losses.matcher import HungarianMatcher",
            "def late():\n    from transavs.tools import train_net",
            "import tools.train_net",
        ],
    )
    def test_upwards_and_sideways_are_found(self, write, source):
        assert len(violations(write("data/loader.py", source))) == 1

    @pytest.mark.parametrize(
        "source",
        [
            "from transavs.audio import load_waveform",
            "from transavs.data.avsbench import read",
            "from . import targets",
            "from transavs import version",
            "import torch",
        ],
    )
    def test_downwards_and_inside_are_not(self, write, source):
        assert not violations(write("data/loader.py", source))

    def test_level_0_is_no_exception(self, write):
        assert violations(write("utils/helper.py", "from transavs.config import setup_cfg"))
        assert not violations(write("config.py", "from transavs.utils import package_files"))
