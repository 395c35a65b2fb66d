"""docs/python_api.md is run, line by line, and prints what it says."""

import doctest
import re
from pathlib import Path

import cv2
import films
import numpy as np
import soundfile
from films import write_film

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python_api.md"
BLOCK = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4", 2.0, picture=lambda _: np.zeros((48, 64, 3), np.uint8))
    soundfile.write("other.wav", films.tone(440)(np.arange(32_000) / 16_000), 16_000)
    (tmp_path / "frames").mkdir()
    for number in (1, 2):
        cv2.imwrite(f"frames/clip_{number}.png", np.zeros((48, 64, 3), np.uint8))
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 7
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    names: dict = {}
    for number, block in enumerate(blocks):
        test = doctest.DocTestParser().get_doctest(block, names, f"block {number}", str(PAGE), 0)
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.failures == 0, capsys.readouterr().out
    assert runner.tries >= 20
    written = {file.name for file in tmp_path.iterdir()}
    assert {"out.mp4", "masks.json"} <= written


def test_five_lines():
    first = BLOCK.findall(PAGE.read_text(encoding="utf-8"))[0]
    code = [line for line in first.splitlines() if line.startswith((">>>", "..."))]
    assert len(code) == 5
