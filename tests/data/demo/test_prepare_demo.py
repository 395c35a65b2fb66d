"""The command line of the composer."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
from demo_files import write_packages

from transavs.data import load_records
from transavs.data.demo import AssetsUnavailable, catalogue
from transavs.data.demo.packages import UnpackedPackage
from transavs.tools import prepare_demo

TINY = ["--scale", "0.001", "--workers", "1", "--no-progress"]


def manifest(root: Path) -> dict:
    return json.loads((root / "transavs_demo/demo.json").read_text())


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssetsUnavailable("apt-get is not installed")

    monkeypatch.setattr(prepare_demo, "provide_packages", refuse)


def test_drawn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--root", str(tmp_path), "--source", "drawn", "--count", "ms3/train=2", *TINY]
    assert prepare_demo.main(options) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "transavs_demo")
    assert manifest(tmp_path)["source"] == "drawn"
    assert manifest(tmp_path)["counts"]["ms3"]["train"] == 2


def test_environment_names_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert prepare_demo.build_parser().parse_args([]).root == tmp_path
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert prepare_demo.build_parser().parse_args([]).root == Path("datasets")


def test_falls_back_to_the_drawn_set(
    tmp_path: Path, without_packages: None, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert prepare_demo.main(["--root", str(tmp_path), *TINY]) == 0
        assert "apt-get is not installed; composing the drawn set instead" in caplog.text
    assert manifest(tmp_path)["source"] == "drawn"


def test_real_insists(
    tmp_path: Path, without_packages: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert prepare_demo.main(["--root", str(tmp_path), "--source", "real", *TINY]) == 1
    assert "apt-get is not installed" in caplog.text
    assert not (tmp_path / "transavs_demo").exists()


def test_real_set_from_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    classes = catalogue.classes_named("dog,horse,violin")
    unpacked = write_packages(tmp_path / "packages", catalogue.file_references(classes))

    def provide(*arguments: object, **options: object) -> dict[str, UnpackedPackage]:
        return unpacked

    monkeypatch.setattr(prepare_demo, "provide_packages", provide)
    options = ["--root", str(tmp_path), "--classes", "dog,horse,violin", *TINY]
    assert prepare_demo.main(options) == 0
    made = manifest(tmp_path)
    assert made["source"] == "real"
    assert [each["name"] for each in made["classes"]] == ["dog", "horse", "violin"]
    # A whole set needs no packages.
    monkeypatch.delattr(prepare_demo, "provide_packages")
    with caplog.at_level(logging.INFO):
        assert prepare_demo.main(options) == 0
    assert "is there already" in caplog.text


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--root", str(tmp_path), "--source", "drawn", *TINY]
    assert prepare_demo.main([*options, "--classes", "unicorn"]) == 2
    assert "prepare_demo: error: unknown demo classes" in capsys.readouterr().err
    assert prepare_demo.main(options) == 0
    assert prepare_demo.main([*options, "--seed", "1"]) == 2
    assert "seed differ" in capsys.readouterr().err
    assert prepare_demo.main([*options, "--seed", "1", "--force"]) == 0


def test_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_demo, "compose_set", interrupt)
    assert prepare_demo.main(["--root", str(tmp_path), "--source", "drawn", *TINY]) == 130
    assert "goes on where this one stopped" in caplog.text


@pytest.mark.parametrize("text", ["train=3", "s5/train=3", "s4/dev=3", "s4/train=", "s4/train=-1"])
def test_bad_counts(text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        prepare_demo.build_parser().parse_args(["--count", text])
    assert "expected" in capsys.readouterr().err


def media_below(root: Path) -> dict[str, bytes]:
    """Content of every picture and sound of a set by relative path."""
    files = (root / "transavs_demo").rglob("*.*")
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in files
        if file.suffix in (".png", ".wav")
    }


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a drawn set of one clip a split; do not change it."""
    root = tmp_path_factory.mktemp("whole")
    assert prepare_demo.main(["--root", str(root), "--source", "drawn", *TINY]) == 0
    return root


SPLITS = ["--source", "drawn", "--splits", "test,unseen", *TINY]


def test_some_splits_alone(
    whole_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare_demo.main(["--root", str(tmp_path), *SPLITS]) == 0
    assert manifest(tmp_path)["counts"]["ms3"] == {"train": 0, "val": 0, "test": 1, "unseen": 1}
    alone, whole = media_below(tmp_path), media_below(whole_set)
    assert alone == {path: whole[path] for path in alone}
    left_out = set(whole) - set(alone)
    assert alone and left_out and not [path for path in left_out if re.search("test|unseen", path)]
    csv = "transavs_demo/Multi-sources/ms3_meta_data.csv"
    assert len((tmp_path / csv).read_text().splitlines()) == 3
    # The reader is content with it.
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert len(load_records("demo_ms3_test")) == 1
    with pytest.raises(ValueError, match="train"):
        load_records("demo_ms3_train")


def test_a_set_that_holds_the_splits_is_used(
    whole_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["--root", str(tmp_path), "--within", str(whole_set), *SPLITS]
    assert prepare_demo.main(words) == 0
    assert capsys.readouterr().out.strip() == str(whole_set / "transavs_demo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("difference", ["seed", "size", "kind", "file", "manifest", "nothing"])
def test_another_set_is_not_touched(
    whole_set: Path, tmp_path: Path, difference: str, capsys: pytest.CaptureFixture
) -> None:
    other, own = tmp_path / "other", tmp_path / "own"
    if difference != "nothing":
        shutil.copytree(whole_set, other)
    if difference == "file":
        next((other / "transavs_demo").rglob("test/**/*.wav")).unlink()
    if difference == "manifest":
        (other / "transavs_demo/demo.json").write_text("{")
    if difference == "kind":
        content = manifest(other) | {"source": "real"}
        (other / "transavs_demo/demo.json").write_text(json.dumps(content))
    before = {path: path.stat().st_mtime_ns for path in other.rglob("*")}
    options = {"seed": ["--seed", "1"], "size": ["--count", "ms3/test=2"]}.get(difference, [])
    words = ["--root", str(own), "--within", str(other), *SPLITS, *options]
    assert prepare_demo.main(words) == 0
    assert capsys.readouterr().out.strip() == str(own / "transavs_demo")
    assert manifest(own)["counts"]["s4"]["test"] == 1
    assert {path: path.stat().st_mtime_ns for path in other.rglob("*")} == before


def test_packages_that_are_there_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def refuse(cache: Path, *arguments: object, **options: object) -> None:
        seen.append(cache)
        raise AssetsUnavailable("none")

    monkeypatch.setattr(prepare_demo, "provide_packages", refuse)
    own, other = tmp_path / "own", tmp_path / "other"
    words = ["--root", str(own), "--within", str(other), "--source", "real"]
    folder = prepare_demo.CACHE_FOLDER
    for made, expected in ((None, own), (other, other), (own, own)):
        if made is not None:
            (made / folder).mkdir(parents=True)
        assert prepare_demo.main(words) == 1
        assert seen.pop() == expected / folder


def test_unknown_splits(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        prepare_demo.build_parser().parse_args(["--splits", "test,dev"])
    assert "expected some of train,val,test,unseen, got 'test,dev'" in capsys.readouterr().err
