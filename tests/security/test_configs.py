"""Configurations and grids are plain YAML: tags of Python are refused, everywhere in the chain."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

from transavs.apps.ablation.grid import read_grid
from transavs.config import setup_cfg
from transavs.tools.command_line import USER_ERROR, command, read_cfg
from transavs.tools.train_net import main as train_main

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools" / "maintainers"))

from make_model_zoo import read_published  # noqa: E402

#: YAML that makes the file {canary} in a reader that trusts it.
TAGS = (
    "!!python/object/apply:builtins.open [{canary}, w]",
    "!!python/object/apply:os.mkdir [{canary}]",
    "!!python/object/new:os.mkdir [{canary}]",
    "!!python/object/apply:subprocess.check_output [[touch, {canary}]]",
)


def write(path, text, **values):
    path.write_text(text.format(**values), encoding="utf-8")
    return path


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_refused(tmp_path, tag):
    canary = tmp_path / "canary"
    value = tag.format(canary=canary)
    plain = write(tmp_path / "plain.yaml", "MODEL:\n  WEIGHTS: {value}\n", value=value)
    write(tmp_path / "base.yaml", "MODEL:\n  WEIGHTS: {value}\n", value=value)
    derived = write(tmp_path / "derived.yaml", "_BASE_: base.yaml\nVERSION: 2\n")
    further = write(tmp_path / "further.yaml", "_BASE_: [derived.yaml]\n")
    hidden = write(tmp_path / "hidden.yaml", "_BASE_: {value}\n", value=value)
    for path in (plain, derived, further, hidden):
        with pytest.raises(ValueError, match=f"{tmp_path}.*constructor for the tag"):
            read_cfg(str(path), [])
    grid = write(tmp_path / "grid.yaml", "seeds: [1]\ntest: a\nrows: {value}\n", value=value)
    with pytest.raises(ValueError, match=r"grid\.yaml is no plain YAML"):
        read_grid(grid)
    assert not canary.exists()
    yaml.unsafe_load(value)
    assert canary.exists()


def test_published_scores_are_plain(tmp_path):
    canary = tmp_path / "canary"
    path = write(tmp_path / "published.yaml", "families: " + TAGS[0], canary=canary)
    with pytest.raises(yaml.YAMLError, match="constructor for the tag"):
        read_published(path)
    assert not canary.exists()


def test_words_of_the_command_line_are_values(tmp_path):
    canary = tmp_path / "canary"
    text = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    cfg = setup_cfg("s4_R50.yaml", ["OUTPUT_DIR", text])
    assert cfg.OUTPUT_DIR == text and not canary.exists()
    with pytest.raises(ValueError, match="Type mismatch"):
        read_cfg("s4_R50.yaml", ["SOLVER.MAX_ITER", text])
    assert not canary.exists()


def test_loops_end(tmp_path, capsys):
    for name, base in (("a", "b"), ("b", "a"), ("self", "self")):
        write(tmp_path / f"{name}.yaml", "_BASE_: {base}.yaml\n", base=base)
    write(tmp_path / "deep.yaml", "MODEL: {deep}\n", deep="[" * 5000)
    for name in ("a", "self", "deep"):
        path = tmp_path / f"{name}.yaml"
        with pytest.raises(ValueError, match=f"{path} (stands on itself by _BASE_|is no plain)"):
            setup_cfg(str(path))
    assert train_main(["--config-file", str(tmp_path / "a.yaml")]) == USER_ERROR
    assert "stands on itself" in capsys.readouterr().err


def test_a_base_that_is_not_there(tmp_path, capsys):
    path = write(tmp_path / "a.yaml", "_BASE_: ../../nowhere.yaml\n")
    main = command(lambda argv=None: read_cfg(str(path), []) and 0)
    assert main() == USER_ERROR
    assert "nowhere.yaml" in capsys.readouterr().err


def calls(path):
    """(dotted name, names of keywords -> their source) of each call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            words = {each.arg: ast.unparse(each.value) for each in node.keywords}
            yield ast.unparse(node.func), words, [ast.unparse(each) for each in node.args]


def test_nothing_reads_files_freely():
    """What could run code out of a file, a word or a name is called nowhere, or made safe."""
    never = {
        *(
            "eval",
            "exec",
            "os.system",
            "os.popen",
            "pickle.load",
            "pickle.loads",
            "pickle.Unpickler",
        ),
        *(
            "yaml.unsafe_load",
            "yaml.full_load",
            "yaml.load_all",
            "torch.jit.load",
            "torch.hub.load",
        ),
        *("marshal.load", "marshal.loads", "shelve.open", "joblib.load", "np.load", "numpy.load"),
        *("shutil.unpack_archive", "tarfile.open", "runpy.run_path", "pandas.read_pickle"),
    }
    found = []
    for path in sorted((ROOT / "transavs").rglob("*.py")):
        for name, words, arguments in calls(path):
            allowed = True
            if name in never or name.endswith((".extractall", ".extract")):
                allowed = False
            elif name == "torch.load":
                allowed = words.get("weights_only") == "True"
            elif name == "yaml.load":
                allowed = path.name == "plain_yaml.py" and arguments[1:] == ["PlainLoader"]
            elif name.endswith("merge_from_file"):
                allowed = words.get("allow_unsafe") == "False"
            elif name.startswith("subprocess."):
                allowed = words.get("shell", "False") == "False"
            if not allowed:
                found.append(f"{path.relative_to(ROOT)}: {name}")
    assert not found
