"""Documents tell the truth: links, files, names, keys and defaults, commands that can be parsed."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from mistakes import command_module

import transavs
from transavs.config import add_transavs_config, setup_cfg

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
    + [ROOT / folder / "README.md" for folder in ("configs", "datasets", "tools")]
)
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"@@\w*(?:@@)?")
#: Inline code that names a file of the repository.
FILE_NAME = re.compile(r"(?:transavs|configs|tools|docs|tests|requirements)/[\w./-]*\w")
DATASET_FILE = re.compile(r"datasets/\w+\.(?:py|md)")
DOTTED_NAME = re.compile(r"transavs(?:\.\w+)+")
#: Subcommands of `make` and console scripts, wherever they are named.
MAKE_TARGET = re.compile(r"\bmake ([a-z]+)\b")
CONSOLE_SCRIPT = re.compile(r"\btransavs-[a-z0-9-]+\b")
#: Not the configs, such as demo_ms3_tpavi.yaml.
DATASET_NAME = re.compile(r"\b(?:avsbench|demo)_(?:s4|ms3|avss_rgb|avss)_[a-z]+\b(?!\.yaml)")
#: Keys of tables such as "| `KEY` | `default` | meaning | `file` |".
KEY_ROW = re.compile(r"^\| `([A-Z][\w.]+)` \| `([^`]+)` \| .* \| ([^|]+) \|$", re.MULTILINE)
CONFIG_KEY = re.compile(r"(?:MODEL|INPUT|DATASETS|SOLVER|TEST|DATALOADER)(?:\.[A-Z0-9_]+)+")
#: Prefixes of a line that calls one of our commands -> the module that holds it.
COMMAND = re.compile(
    r"^python (?:(?:tools|datasets)/(\w+)\.py|-m transavs\.(?:tools|apps)\.(\w+))\s*(.*)$"
)


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path, *languages: str) -> list[str]:
    """Code blocks of a document in one of some languages."""
    text = document.read_text(encoding="utf-8")
    return [code for language, code in CODE_BLOCK.findall(text) if language in languages]


def inline_code(document: Path) -> list[str]:
    text = CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))
    return re.findall(r"`([^`\n]+)`", text)


def shell_lines(document: Path) -> Iterator[str]:
    """Commands in a document's shell blocks and inline, with continued lines joined."""
    for block in blocks(document, "bash"):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
    yield from inline_code(document)


def headings(document: Path) -> list[str]:
    """Headings of a document without their marks, outside code."""
    text = CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))
    return re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)


def heading_anchors(document: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(document)
    }


def make_targets() -> dict[str, str]:
    """Targets of the Makefile with their recipes, continued lines joined."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([a-z]+):[^=\n]*\n((?:\t.*\n)*)", text, flags=re.MULTILINE)
    return {target: recipe.replace("\t", "") for target, recipe in found}


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


def test_all_documents_are_found():
    names = {name_of(document) for document in DOCUMENTS}
    assert {"README.md", "GETTING_STARTED.md", "tools/README.md", "configs/README.md"} <= names
    assert all(document.is_file() for document in DOCUMENTS)


class TestText:
    @each_document
    def test_nothing_is_left_to_fill_in(self, document):
        """Places that a script was to fill, such as @@TABLE@@."""
        assert PLACEHOLDER.findall(document.read_text(encoding="utf-8")) == []

    @each_document
    def test_no_heading_twice(self, document):
        found = headings(document)
        assert sorted(found) == sorted(set(found))

    def test_both_are_found(self, tmp_path):
        document = tmp_path / "page.md"
        document.write_text("# A page\n\n## Results\n\n@@TABLE@@\n\n## Results\n", encoding="utf-8")
        assert PLACEHOLDER.findall(document.read_text(encoding="utf-8")) == ["@@TABLE@@"]
        assert headings(document) == ["A page", "Results", "Results"]


class TestNames:
    @each_document
    def test_links(self, document):
        for link in LINK.findall(CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), f"{link}: no such file"
            if anchor:
                assert anchor in heading_anchors(target), f"{link}: no such heading"

    @each_document
    def test_files(self, document):
        for code in inline_code(document):
            if FILE_NAME.fullmatch(code) or DATASET_FILE.fullmatch(code):
                assert (ROOT / code).exists(), f"no {code}"

    @each_document
    def test_names_of_the_package(self, document):
        for name in filter(DOTTED_NAME.fullmatch, inline_code(document)):
            assert resolve(name) is not None

    @each_document
    def test_make_targets(self, document):
        code = [*inline_code(document), *blocks(document, "bash")]
        named = {target for part in code for target in MAKE_TARGET.findall(part)}
        assert named <= set(make_targets())

    @each_document
    def test_console_scripts(self, document):
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        for script in CONSOLE_SCRIPT.findall(document.read_text(encoding="utf-8")):
            assert f'"{script}":' in setup, f"setup.py installs no {script}"

    @each_document
    def test_data_sets(self, document):
        for name in DATASET_NAME.findall(document.read_text(encoding="utf-8")):
            assert name in DatasetCatalog, name

    def test_every_document_is_in_the_readme(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        for document in DOCUMENTS:
            if name_of(document) != "README.md":
                assert f"]({name_of(document)})" in readme, f"README.md does not link {document}"

    def test_every_tool_has_a_paragraph(self):
        text = (ROOT / "tools" / "README.md").read_text(encoding="utf-8")
        for script in (ROOT / "tools").glob("*.py"):
            assert f"## `{script.name}`" in text
        for script in (ROOT / "datasets").glob("*.py"):
            assert f"## `datasets/{script.name}`" in text


def resolve(name: str) -> Any:
    """Returns what a dotted name stands for; AttributeError if there is nothing."""
    found: Any = transavs
    reached = "transavs"
    for part in name.split(".")[1:]:
        reached += f".{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(reached)
            except ModuleNotFoundError as error:
                raise AttributeError(f"{name}: there is no {reached}") from error
    return found


class _Parsed(BaseException):
    """Stops a command once its arguments are read."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments


@pytest.fixture
def parse(monkeypatch):
    """A function that returns what a command makes of its arguments, without running it."""
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        raise _Parsed(original(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)

    def parse_command(module: str, words: list[str]) -> argparse.Namespace:
        tool = command_module(module)
        with pytest.raises(_Parsed) as stopped:
            tool.main(words)
        return stopped.value.arguments

    return parse_command


def check_command(line: str, parse: Any) -> None:
    """Parses a command and reads the configuration that it asks for."""
    match = COMMAND.match(line)
    assert match
    arguments = parse(match[1] or match[2], shlex.split(match[3], comments=True))
    options = getattr(arguments, "opts", [])
    configs = [arguments.config_file] if getattr(arguments, "config_file", None) else []
    for option in ("model", "reference"):
        configs += [config for _, config, _ in getattr(arguments, option, None) or []]
    for config in configs:
        assert (ROOT / config).is_file(), f"no {config}"
        cfg = setup_cfg(str(ROOT / config), options)
        if match[1] == "train_net":
            for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *cfg.DATASETS.TEST):
                assert name in DatasetCatalog, name


class TestCommands:
    @each_document
    def test_commands_in_documents(self, document, parse):
        for line in shell_lines(document):
            # Inline, a call may be named without its arguments.
            if COMMAND.match(line) and COMMAND.match(line)[3]:
                check_command(line, parse)

    def test_there_are_commands(self):
        lines = [line for document in DOCUMENTS for line in shell_lines(document)]
        called = {match[1] or match[2] for match in map(COMMAND.match, lines) if match}
        scripts = [*(ROOT / "tools").glob("*.py"), *(ROOT / "datasets").glob("*.py")]
        assert {script.stem for script in scripts} <= called

    @pytest.mark.parametrize(("target", "least"), [("demo", 5), ("listen", 3)])
    def test_commands_of_the_makefile(self, target, least, parse):
        recipe = re.sub(r"\$\(\w+_OUTPUT\)", f"output/{target}", make_targets()[target])
        calls = [line.partition("$(VENV_PYTHON)")[2] for line in recipe.splitlines()]
        commands = [f"python{call}" for call in calls if COMMAND.match(f"python{call}")]
        assert len(commands) >= least
        for line in commands:
            check_command(line, parse)

    def test_a_wrong_option_is_found(self, parse):
        with pytest.raises(SystemExit):
            check_command("python tools/visualize.py --colour red", parse)
        with pytest.raises(KeyError):
            check_command(
                "python tools/train_net.py --config-file configs/s4_R50.yaml MODEL.QUERIES 3", parse
            )


class TestPython:
    @each_document
    def test_code_compiles_and_its_imports_exist(self, document):
        for code in blocks(document, "python"):
            tree = ast.parse(code)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module or "")
                    for alias in node.names:
                        assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
                elif isinstance(node, ast.Import):
                    for alias in node.names:
                        importlib.import_module(alias.name)


def leaves(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Values below a node by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        found |= leaves(value, f"{name}.") if isinstance(value, CfgNode) else {name: value}
    return found


class TestKeys:
    @pytest.fixture
    def own_defaults(self) -> dict[str, Any]:
        cfg = get_cfg()
        before = leaves(cfg)
        add_transavs_config(cfg)
        return {key: value for key, value in leaves(cfg).items() if key not in before}

    @pytest.fixture
    def rows(self) -> list[tuple[str, str, str]]:
        return KEY_ROW.findall((ROOT / "configs" / "README.md").read_text(encoding="utf-8"))

    def test_all_own_keys_are_described_once(self, rows, own_defaults):
        described = [key for key, _, _ in rows]
        assert sorted(described) == sorted(own_defaults)

    def test_defaults(self, rows, own_defaults):
        for key, default, _ in rows:
            value = ast.literal_eval(default)
            assert value == own_defaults[key] and type(value) is type(own_defaults[key]), key

    def test_readers(self, rows):
        for key, _, readers in rows:
            files = re.findall(r"`([^`]+)`", readers)
            assert files, f"{key}: nobody reads it"
            for file in files:
                # MODEL.SWIN is read as a whole, through a short name for its node.
                text = (ROOT / file).read_text(encoding="utf-8")
                assert f".{key.rsplit('.', 1)[1]}" in text, f"{file} does not read {key}"

    def test_every_config_is_described(self):
        text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
        for config in (ROOT / "configs").rglob("*.yaml"):
            # The ablations of the two subsets share a row.
            name = config.relative_to(ROOT).as_posix().replace("ablation/ms3_", "ablation/s4_")
            assert f"`{name}`" in text, f"configs/README.md does not tell what {config} is"

    @each_document
    def test_keys_named_anywhere_exist(self, document):
        cfg = get_cfg()
        add_transavs_config(cfg)
        every = leaves(cfg)
        for code in inline_code(document):
            key = code.split()[0]
            if CONFIG_KEY.fullmatch(key):
                assert any(f"{known}.".startswith(f"{key}.") for known in every), f"no key {key}"
