"""Assets read from stand-ins for the packages, and the drawn ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from demo_files import write_packages

from transavs.data.demo import catalogue, packages
from transavs.data.demo.assets import AssetFiles, DemoAssets, load_real_assets
from transavs.data.demo.credits import credits_text
from transavs.data.demo.packages import UnpackedPackage


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UnpackedPackage]:
    references = catalogue.file_references(catalogue.DEFAULT_CLASSES)
    written = write_packages(tmp_path_factory.mktemp("packages"), references)
    stamps = written[packages.STAMPS.name].folder / "usr/share/tuxpaint/stamps"
    cymbal = stamps / "hobbies/music/percussion/cymbal_crash.dat"
    cymbal.write_text("noflip\nnomirror\n")
    (stamps / "animals/mammals/dogs/dog.dat").write_text("noflip\n")
    return written


@pytest.fixture(scope="module")
def real_assets(unpacked: dict[str, UnpackedPackage]) -> DemoAssets:
    return load_real_assets(unpacked, catalogue.DEFAULT_CLASSES)


def test_everything_of_the_catalogue_is_read(real_assets: DemoAssets) -> None:
    assert real_assets.source == "real"
    assert real_assets.references() == catalogue.file_references(catalogue.DEFAULT_CLASSES)
    for each, entry in zip(real_assets.classes, catalogue.DEFAULT_CLASSES, strict=True):
        assert (each.name, each.category, each.group) == (entry.name, entry.category, entry.group)
        assert (each.held_out is None) == (entry.held_out is None)
    assert len(real_assets.backgrounds) == 54 and len(real_assets.held_out_backgrounds) == 13


def test_pictures_and_recordings_are_prepared(real_assets: DemoAssets) -> None:
    dog = real_assets.classes[0]
    assert dog.pictures[0].area == 50 * 80
    assert dog.recordings[0].samples.dtype == np.float32
    assert len(dog.recordings[0].samples) == pytest.approx(8000, abs=400)
    assert np.abs(dog.recordings[0].samples).max() == pytest.approx(1)


def test_mirror_hints(real_assets: DemoAssets) -> None:
    may_mirror = {each.name: each.pictures[0].may_mirror for each in real_assets.classes}
    assert may_mirror.pop("cymbal") is False
    assert all(may_mirror.values())


def test_credits(real_assets: DemoAssets, drawn_assets: DemoAssets) -> None:
    text = credits_text(real_assets)
    for package in packages.PACKAGES:
        assert f"- {package.name} {package.version} ({package.licence})" in text
    for reference in real_assets.references():
        assert f"- `{reference}`" in text
    assert "`gc:explore_monuments/tajMahal.webp` (Yann, CC-BY-SA-4.0" in text
    drawn = credits_text(drawn_assets)
    assert "nothing was taken from elsewhere" in drawn and "Packages" not in drawn


def test_missing_files(unpacked: dict[str, UnpackedPackage]) -> None:
    files = AssetFiles(unpacked)
    with pytest.raises(FileNotFoundError, match=r"tp:animals/unicorn\.png"):
        files.read("tp:animals/unicorn.png")
    with pytest.raises(FileNotFoundError, match="holds 0 such files"):
        files.read("gc:instruments/kazoo.ogg")
    with pytest.raises(FileNotFoundError, match=r"nothing\.rcc"):
        files.read("gc:nothing/kazoo.ogg")


def test_drawn_assets(drawn_assets: DemoAssets) -> None:
    assert len(drawn_assets.classes) == 8
    assert all(each.held_out is not None for each in drawn_assets.classes)
    assert len(set(drawn_assets.references())) == len(drawn_assets.references())
    assert not {each.reference for each in drawn_assets.backgrounds} & {
        each.reference for each in drawn_assets.held_out_backgrounds
    }
    outlines = [each.pictures[0].rgba[..., 3] >= 128 for each in drawn_assets.classes]
    for one, other in combinations(outlines, 2):
        assert one.shape != other.shape or (one != other).mean() > 0.05


def test_timbres_differ(drawn_assets: DemoAssets) -> None:
    # Mean spectra in bands: two takes of a timbre are more alike than two timbres.
    def bands(samples: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(samples, 2**15)) ** 2
        edges = np.geomspace(50, 8000, 25) / 8000 * len(power)
        parts = [power[int(a) : int(b)].mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
        shape = np.log(np.array(parts) + 1e-3)
        return (shape - shape.mean()) / shape.std()

    shapes = [bands(each.recordings[0].samples) for each in drawn_assets.classes]
    for number, each in enumerate(drawn_assets.classes):
        held_out = bands(each.held_out.samples)  # type: ignore[union-attr]
        distances = [float(((held_out - shape) ** 2).mean()) for shape in shapes]
        assert int(np.argmin(distances)) == number, each.name


def test_seeded_textures_are_the_same_twice(drawn_assets: DemoAssets, tmp_path: Path) -> None:
    from transavs.data.demo.drawn import make_drawn_assets

    again = make_drawn_assets()
    for one, other in zip(drawn_assets.backgrounds, again.backgrounds, strict=True):
        assert (one.rgb == other.rgb).all()
    for one, other in zip(drawn_assets.classes, again.classes, strict=True):
        assert (one.recordings[0].samples == other.recordings[0].samples).all()
