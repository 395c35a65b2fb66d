"""requirements/locked*.txt: every pin with the hashes of its files, and nothing else installed."""

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "requirements"


def load_program():
    spec = importlib.util.spec_from_file_location("pin_hashes", FOLDER / "pin_hashes.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules["pin_hashes"] = module
    spec.loader.exec_module(module)
    return module


pin_hashes = load_program()


def pins_of(name):
    return pin_hashes.read_pins((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("locked", pin_hashes.LOCKED_FILES)
def test_locked_files_hold_the_pins_with_hashes(locked):
    expected = list(pins_of(pin_hashes.LOCKED_FILES[locked]))
    if locked == "locked_build.txt":
        expected = [pin for pin in expected if pin.name in pin_hashes.BUILD_TOOLS]
        assert len(expected) == len(pin_hashes.BUILD_TOOLS)
    found = pins_of(locked)
    assert list(found) == expected, "run .venv/bin/python requirements/pin_hashes.py"
    for pin, hashes in found.items():
        assert hashes and hashes == sorted(set(hashes)), pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), pin


def test_pip_is_called_with_hashes_alone():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    calls = re.findall(r"\$\(call install,(.*)\)", makefile)
    assert len(calls) == 4
    *locked, own = calls
    for call in locked:
        assert {"--require-hashes", "--no-deps"} <= set(call.split())
    named = [re.search(r"requirements/(\S+)", call)[1] for call in locked]
    assert named == ["locked_build.txt", "locked.txt", "locked_alone.txt"]
    # The checkout itself, built with what is installed; it brings nothing along.
    assert {"--no-deps", "--no-build-isolation", "--editable", "."} <= set(own.split())
    assert "--no-build-isolation" in locked[1].split()


def test_pins_need_nothing_else():
    """--no-deps asks for nothing: every need of what is pinned must be pinned, and satisfied."""
    pins = {
        canonicalize_name(pin.name): pin.version
        for source in set(pin_hashes.LOCKED_FILES.values())
        for pin in pins_of(source)
    }
    checked = set()
    for name, version in pins.items():
        if name == "gradio":  # see pinned_alone.txt
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version != version:
            continue
        for need in map(Requirement, found.requires or []):
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            own = pins.get(canonicalize_name(need.name))
            assert own is not None, f"{name} needs {need}, which has no pin"
            assert need.specifier.contains(own, prereleases=True), f"{name} needs {need}, not {own}"
        checked.add(name)
    if not checked:
        pytest.skip("none of the pinned versions is installed")


def listed(*names):
    return [
        {"filename": name, "hashes": {"sha256": f"{number:064x}"}}
        for number, name in enumerate(names, start=1)
    ]


def chosen(version, *names):
    hashes = pin_hashes.supported_hashes(pin_hashes.Pin("a", version), listed(*names))
    return [names[int(each, 16) - 1] for each in hashes]


MINORS = pin_hashes.PYTHON_MINORS
LINUX = [f"a-1.0-cp3{minor}-cp3{minor}-manylinux_2_28_x86_64.whl" for minor in MINORS]
ARM = [f"a-1.0-cp3{minor}-cp3{minor}-manylinux2014_aarch64.whl" for minor in MINORS]


def test_a_release_for_all_has_its_wheel_alone():
    names = ("a-1.0.tar.gz", "a-1.0-py3-none-any.whl", "a-1.1-py3-none-any.whl", "a-1.0.exe")
    assert chosen("1.0", *names) == ["a-1.0-py3-none-any.whl"]
    # 2.post1 and 2.0.post1 are one version, 2 is another.
    assert chosen("2.post1", "a-2-py3-none-any.whl", "a-2.0.post1-py2.py3-none-any.whl") == [
        "a-2.0.post1-py2.py3-none-any.whl"
    ]


def test_wheels_of_supported_machines():
    foreign = (
        "a-1.0-cp310-cp310-manylinux_2_28_x86_64.whl",
        "a-1.0-cp312-cp312-win_amd64.whl",
        "a-1.0-cp312-cp312-musllinux_1_2_x86_64.whl",
        "a-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl",
        "a-1.0-cp312-cp312-manylinux_2_28_s390x.whl",
        "a-1.0.tar.gz",
    )
    mac = "a-1.0-cp312-cp312-macosx_11_0_arm64.whl"
    assert chosen("1.0", *LINUX, *foreign, *ARM, mac) == [*LINUX, *ARM, mac]
    # The ABI that is the same in all later versions of Python.
    stable = [f"a-1.0-cp39-abi3-manylinux_2_28_{each}.whl" for each in ("x86_64", "aarch64")]
    assert chosen("1.0", *stable, "a-1.0.tar.gz") == stable


def test_a_source_archive_stands_in_for_wheels_that_lack():
    assert chosen("1.0", *LINUX, "a-1.0.tar.gz") == [*LINUX, "a-1.0.tar.gz"]
    assert chosen("1.0", *LINUX, *ARM[1:], "a-1.0.tar.gz")[-1] == "a-1.0.tar.gz"
    assert chosen("1.0", "a-1.0.tar.gz", "a-1.0-py2-none-any.whl") == ["a-1.0.tar.gz"]


def test_releases_that_cannot_be_locked():
    with pytest.raises(ValueError, match=r"no usable file of a==3\.0"):
        chosen("3.0", "a-1.0.tar.gz")
    file = {"filename": "a-3.0.tar.gz", "hashes": {"md5": "0"}}
    with pytest.raises(ValueError, match=r"no sha256 of a-3\.0\.tar\.gz"):
        pin_hashes.supported_hashes(pin_hashes.Pin("a", "3.0"), [file])


def test_locked_text_comes_back():
    text = 'b==2 ; sys_platform == "linux"  # why\n\n# words\na.c==1.0.post1\n'
    pins = dict.fromkeys(pin_hashes.read_pins(text), ["00", "ff"])
    assert [str(pin) for pin in pins] == ['b==2 ; sys_platform == "linux"', "a.c==1.0.post1"]
    again = pin_hashes.read_pins(pin_hashes.locked_text("x.txt", pins))
    assert again == dict.fromkeys(pins, ["sha256:00", "sha256:ff"])
    with pytest.raises(ValueError, match="expected NAME==VERSION, got 'a>=1'"):
        pin_hashes.read_pins("a>=1\n")
