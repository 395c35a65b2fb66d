"""YAML is read as plain values, and configurations are looked at with all that they stand on."""

import pytest

from transavs.utils.plain_yaml import check_config_file, read_plain_yaml


def write(path, text):
    path.write_text(text)
    return str(path)


def test_plain_values_come_back(tmp_path):
    path = write(tmp_path / "a.yaml", "a: &x [1, 2.5, {b: null}]\nc: *x\nd: {<<: {e: true}}\n")
    shared = [1, 2.5, {"b": None}]
    assert read_plain_yaml(path) == {"a": shared, "c": shared, "d": {"e": True}}


def test_repeated_values_are_counted(tmp_path):
    """A level holds two of the one before and itself: v = 2 v + 3 with the two keys, from 1 on."""
    levels = "x0: &x0 1\n" + "".join(
        f"x{i}: &x{i} {{a: *x{i - 1}, b: *x{i - 1}}}\n" for i in range(1, 30)
    )
    for count, fits in ((13, True), (16, False)):
        path = write(tmp_path / "a.yaml", "".join(levels.splitlines(keepends=True)[:count]))
        if fits:
            assert len(read_plain_yaml(path)) == count
        else:
            with pytest.raises(ValueError, match="more than 100000 values"):
                read_plain_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "line 2: 'c' is given twice"),
        ("a: !!python/name:os.system\n", "python/name"),
        ("&a [*a]", "holds itself"),
        ("[" * 60 + "]" * 60, "more than 50 deep"),
        ("a: !!int {}", "no plain YAML"),
        ("a: !!bool 7", "does not fit its tag"),
        ("a: \t{", "no plain YAML"),
    ],
)
def test_what_is_not_plain(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"a.yaml .*{message}"):
        read_plain_yaml(write(tmp_path / "a.yaml", text))


def test_bases(tmp_path):
    write(tmp_path / "one.yaml", "SEED: 1\n")
    write(tmp_path / "two.yaml", "_BASE_: one.yaml\n")
    check_config_file(write(tmp_path / "three.yaml", "_BASE_: [one.yaml, two.yaml]\n"))
    with pytest.raises(FileNotFoundError, match="mine.yaml: _BASE_: there is no file .*four.yaml"):
        check_config_file(write(tmp_path / "mine.yaml", "_BASE_: four.yaml\n"))
    # The file with the mistake is named, not the one that stands on it.
    write(tmp_path / "two.yaml", "1: 2\n")
    with pytest.raises(ValueError, match="two.yaml: expected words as keys, got 1"):
        check_config_file(str(tmp_path / "three.yaml"))


def test_a_base_that_stands_on_the_file(tmp_path):
    write(tmp_path / "a.yaml", "_BASE_: b.yaml\n")
    path = write(tmp_path / "b.yaml", "_BASE_: a.yaml\n")
    with pytest.raises(ValueError, match="b.yaml stands on itself"):
        check_config_file(path)
    for number in range(25):
        write(tmp_path / f"{number}.yaml", f"_BASE_: {number + 1}.yaml\n")
    with pytest.raises(ValueError, match="more than 20 files"):
        check_config_file(str(tmp_path / "0.yaml"))
