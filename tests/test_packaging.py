"""What the package promises: commands that exist, thin wrappers, exact pins, configs in a wheel."""

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from mistakes import command_module
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from transavs.tools import install_detectron2

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

import transavs_commands  # noqa: E402


def setup_constants() -> dict:
    """The literal assignments of setup.py, read without running it."""
    constants = {}
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return constants


SETUP = setup_constants()


def pinned_versions() -> dict[str, str]:
    pins = {}
    for file in ("pinned.txt", "pinned_alone.txt"):
        for line in (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines():
            line = line.partition("#")[0].strip()
            if line:
                requirement = Requirement(line)
                (specifier,) = requirement.specifier
                assert specifier.operator == "==", f"{line} is no exact version"
                pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


@pytest.mark.parametrize("command", sorted(SETUP["COMMANDS"]))
def test_every_command_has_a_main(command):
    assert callable(command_module(SETUP["COMMANDS"][command]).main)


def test_commands_of_pip_run_their_main(monkeypatch, capsys):
    (script,) = [line for line in (ROOT / "setup.py").read_text("utf-8").splitlines()
                 if "transavs_commands:{module}" in line]  # fmt: skip
    assert "{command} = " in script
    monkeypatch.setattr(sys, "argv", ["transavs-check-avsbench", "/no/such/folder"])
    assert transavs_commands.check_avsbench() == 2
    assert "ROOT must be a folder, got '/no/such/folder'" in capsys.readouterr().err


def test_ctrl_c_while_a_command_is_imported(monkeypatch, capsys):
    def interrupted(name):
        assert name == "transavs.tools.train_net"
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert transavs_commands.train_net() == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "wrapper", sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("datasets/*.py")]), ids=lambda p: p.name
)
def test_scripts_are_thin_wrappers_of_commands(wrapper):
    source = wrapper.read_text(encoding="utf-8")
    (module,) = re.findall(r"from transavs\.(?:apps|tools)\.(\w+) import main", source)
    assert module in SETUP["COMMANDS"].values()
    assert len(source.splitlines()) <= 12


def test_pins_satisfy_the_ranges_of_users():
    pins = pinned_versions()
    extras = [entry for entries in SETUP["EXTRAS_REQUIRE"].values() for entry in entries]
    for entry in [*SETUP["INSTALL_REQUIRES"], *extras, *install_detectron2.WHEEL_REQUIREMENTS]:
        requirement = Requirement(entry)
        version = pins[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"pinned {version} is outside {entry}"


def test_what_is_installed_alone_finds_what_it_needs():
    """`pip install --no-deps` asks for nothing: every need of those packages must have a pin."""
    pins = pinned_versions()
    for line in (ROOT / "requirements" / "pinned_alone.txt").read_text("utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if not line or not importlib.util.find_spec(Requirement(line).name):
            continue
        for need in importlib.metadata.requires(Requirement(line).name) or []:
            requirement = Requirement(need)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in pins, f"{line} needs {need}"


def test_detectron2_is_pinned_by_hash_in_one_place_only():
    assert "sal-detectron2" not in pinned_versions()
    assert re.fullmatch(r"sal-detectron2==[\d.]+", install_detectron2.WHEEL)
    assert re.fullmatch(r"[0-9a-f]{64}", install_detectron2.WHEEL_SHA256)
    assert not any("detectron2" in entry for entry in SETUP["INSTALL_REQUIRES"])


def test_every_folder_with_code_is_a_package():
    folders = {file.parent for file in (ROOT / "transavs").rglob("*.py")}
    missing = [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    assert not missing, f"wheels would lack {missing}"


def third_party_imports() -> set[str]:
    """Top-level names that transavs imports anywhere, less its own."""
    names = set()
    for file in (ROOT / "transavs").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    return names - {"transavs", "__future__"}


def test_every_import_is_declared():
    distributions = {
        "cv2": "opencv-python-headless",
        "grpc": "grpcio",
        "PIL": "pillow",
        "yaml": "pyyaml",
    }
    declared = {
        canonicalize_name(Requirement(entry).name)
        for entry in [
            *SETUP["INSTALL_REQUIRES"],
            *SETUP["EXTRAS_REQUIRE"]["demo"],
            *SETUP["EXTRAS_REQUIRE"]["video"],
            *SETUP["EXTRAS_REQUIRE"]["web"],
            *SETUP["EXTRAS_REQUIRE"]["export"],
            *SETUP["EXTRAS_REQUIRE"]["ray"],
        ]
    }
    imported = third_party_imports() - set(sys.stdlib_module_names) - {"detectron2"}
    undeclared = {
        name
        for name in imported
        if canonicalize_name(distributions.get(name, name)) not in declared
        and canonicalize_name(f"{name}-model") not in declared
    }
    assert not undeclared, f"add to setup.py and requirements/pinned.txt: {sorted(undeclared)}"


def test_the_wheel_carries_the_configs(tmp_path, monkeypatch):
    """Runs only the build step that copies files; a whole wheel takes too long here."""
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **kwargs: captured.update(kwargs))
    captured = {}
    exec(
        compile((ROOT / "setup.py").read_text("utf-8"), str(ROOT / "setup.py"), "exec"),
        {"__file__": str(ROOT / "setup.py"), "__name__": "setup"},
    )
    distribution = setuptools.Distribution(
        {"packages": [], "cmdclass": captured["cmdclass"], "script_name": "setup.py"}
    )
    command = distribution.get_command_obj("build_py")
    command.build_lib = str(tmp_path)
    command.ensure_finalized()
    command.run()
    expected = {file.relative_to(ROOT).as_posix() for file in (ROOT / "configs").rglob("*.yaml")}
    copied = {
        file.relative_to(tmp_path / "transavs").as_posix()
        for file in (tmp_path / "transavs").rglob("*.yaml")
    }
    assert copied == expected
    assert {str(tmp_path / "transavs" / name) for name in expected} <= set(command.get_outputs())


def test_an_editable_install_copies_nothing(tmp_path):
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert source.count("if not self.editable_mode") == 2


def test_shipped_models_travel_with_the_package():
    assert '"weights/*.safetensors"' in (ROOT / "setup.py").read_text(encoding="utf-8")
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    assert "recursive-include transavs/weights *.safetensors" in manifest
