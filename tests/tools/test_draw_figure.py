"""draw_figure: the README's figure."""

from pathlib import Path

import pytest

from transavs.tools.draw_figure import build_figure, main

PACKAGE = Path(__file__).resolve().parents[2] / "transavs"


def test_equal_calls_write_equal_files(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert main(["--output", str(tmp_path / "docs" / name)]) == 0
    first, second = ((tmp_path / "docs" / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second and first.startswith(b"<?xml")


def test_named_files_exist() -> None:
    (axes,) = build_figure().axes
    names = [word.strip(",") for text in axes.texts for word in text.get_text().split()]
    files = [name for name in names if name.endswith(".py")]
    assert len(files) >= 8 and all((PACKAGE / name).is_file() for name in files)


def test_unknown_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path / "figure.doc")]) == 2
    assert "expected an ending out of" in capsys.readouterr().err
