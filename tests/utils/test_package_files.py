"""Finding shipped configs from anywhere."""

import pytest

from transavs.utils import package_files
from transavs.utils.package_files import find_config, find_grid, shipped_configs, shipped_grids


@pytest.fixture
def two_folders(tmp_path, monkeypatch):
    """An installed package folder and a checkout's folder; the former comes first."""
    installed, checkout = tmp_path / "installed", tmp_path / "checkout"
    for folder, names in (
        (installed, ["a.yaml", "grid/g.yaml"]),
        (checkout, ["a.yaml", "demo/b.yaml"]),
    ):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("VERSION: 2\n")
    monkeypatch.setattr(package_files, "CONFIG_FOLDERS", (installed, checkout))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return installed, checkout


def test_an_existing_file_is_taken_as_given(two_folders, tmp_path):
    own = tmp_path / "elsewhere" / "a.yaml"
    own.write_text("VERSION: 2\n")
    assert find_config("a.yaml") == "a.yaml"
    assert find_config(own) == str(own)


@pytest.mark.parametrize("name", ["a.yaml", "configs/a.yaml"])
def test_the_installed_folder_comes_first(two_folders, name):
    assert find_config(name) == str(two_folders[0] / "a.yaml")


@pytest.mark.parametrize("name", ["demo/b.yaml", "configs/demo/b.yaml"])
def test_then_the_checkout(two_folders, name):
    assert find_config(name) == str(two_folders[1] / "demo" / "b.yaml")


@pytest.mark.parametrize("name", ["mine", "configs", ""])
def test_the_error_lists_what_there_is(two_folders, name):
    with pytest.raises(FileNotFoundError, match=r"among those of the package: a\.yaml"):
        find_config(name)


@pytest.mark.parametrize("name", ["c.yaml", "configs/b.yaml"])
def test_the_error_names_the_nearest(two_folders, name):
    with pytest.raises(FileNotFoundError, match=r"of the package; near it: configs/a\.yaml$"):
        find_config(name)


def test_grids_are_no_configs_of_a_model(two_folders):
    assert shipped_configs() == ["a.yaml"]
    assert shipped_grids() == ["grid/g.yaml"]
    assert find_grid("configs/grid/g.yaml") == str(two_folders[0] / "grid" / "g.yaml")
    with pytest.raises(FileNotFoundError, match=r"no grid file 'h.yaml'.*package: grid/g\.yaml"):
        find_grid("h.yaml")


def test_without_any_config(tmp_path, monkeypatch):
    monkeypatch.setattr(package_files, "CONFIG_FOLDERS", (tmp_path,))
    assert shipped_configs() == []
    with pytest.raises(FileNotFoundError, match="the installation is broken"):
        find_config("a.yaml")
