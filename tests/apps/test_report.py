"""The report: the page, its files, and the facts that it tells."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import listening_model
import numpy as np
import pytest
import torch
from listening_model import LOUD_JACCARD, MARKED_PIXELS, OBJECT_PIXELS
from PIL import Image

from transavs.apps.report import main
from transavs.apps.report.clip_analysis import (
    ClipAnalysis,
    ClipAnalyzer,
    choose_clips,
    seconds_in_words,
)
from transavs.apps.report.page import number
from transavs.data import AVSDatasetMapper, load_records, with_condition
from transavs.engine.trained_model import load_trained_model, predict_clip
from transavs.tools.command_line import read_cfg

RESULTS = {
    "demo_ms3_test": {
        "original": {
            **{"M_J": 70.0, "M_J_nonempty": 66.0, "FPR": 0.0123},
            **{"M_F": 80.0, "M_F_group": 4},
        },
        "shuffled": {"M_J": 30.0, "M_J_nonempty": 21.5, "M_F": None, "FPR": 0.01},
        "silence": {"frames_with_false_pixels": 1.5, "FPR": 0.001},
    },
    "references": {
        "demo_ms3_test": {
            "nothing": 20.0,
            "every_object": 61.0,
            "every_object_nonempty": 57.0,
            "no <audio>": {"M_J": 44.0, "M_J_nonempty": 33.0, "M_F": 50.0, "FPR": None},
        }
    },
    "robustness": {
        "demo_ms3_test": {
            **{"G_mIoU": 71.25, "G_mIoU_all_frames": 52.5},
            "conditions": {"silence": {"J": 0.0}},
        }
    },
}


class Links(HTMLParser):
    """Collects what a page refers to, and checks that its elements close."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for key, value in attrs if key in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    root = listening_model.write_clips(tmp_path / "clips")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    config = listening_model.write_config(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    return [
        *("--results", str(tmp_path / "results.json")),
        *("--model", "demo_ms3_test", str(config), str(tmp_path / "model.pth")),
        *("--output", str(tmp_path / "page" / "index.html")),
        *("--cell-width", "40"),
    ]


@pytest.fixture
def analyzer(arguments: list[str]) -> ClipAnalyzer:
    cfg = read_cfg(arguments[4], [])
    load_records("demo_ms3_test")
    return ClipAnalyzer(
        load_trained_model(cfg, arguments[5]), AVSDatasetMapper(cfg, False), "demo_ms3_test", "RGB"
    )


def analyze(analyzer: ClipAnalyzer, condition: str, clip_id: str = "loud_a") -> ClipAnalysis:
    records = with_condition(load_records("demo_ms3_test"), condition)
    (record,) = (record for record in records if record["clip_id"] == clip_id)
    return analyzer.analyze(record, condition, cell_width=32)


def test_page_is_whole_and_its_files_are_there(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"iteration": 9, "total_loss": 3.0, "avs/M_J": 50}\n')
    page = tmp_path / "page" / "index.html"
    folder = page.parent / "index_files"
    folder.mkdir(parents=True)
    for name in ("demo_ms3_test__gone__original.png", "mine.png"):
        (folder / name).touch()
    assert main([*arguments, "--clips", "2"]) == 0
    links = Links(page.read_text(encoding="utf-8")).links
    assert links and all(link.startswith("index_files/") for link in links)
    for link in set(links):
        path = page.parent / link
        assert path.stat().st_size > 0
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
    names = {Path(link).name for link in links}
    # Two clips with three pictures, of which silence has no sound; loss curves and a histogram.
    assert len([name for name in names if name.endswith(".png")]) == 6
    assert len([name for name in names if name.endswith(".wav")]) == 4
    assert {name for name in names if name.endswith(".svg")} == {
        "demo_ms3_test__curves.svg",
        "demo_ms3_test__clips.svg",
    }
    # What an earlier page showed is gone, what somebody else put there is not.
    assert {path.name for path in folder.iterdir()} == names | {"mine.png"}


def test_page_tells_the_scores(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--clips", "1"]) == 0
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "<td>own sound</td><td>66.0</td><td>70.0</td><td>80.0 (4)</td><td>1.23</td>" in text
    assert "mark every object" in text and "57.0" in text
    assert "with another clip's sound J = 21.5; in silence, 1.5 % of the frames" in text
    assert "false pixels; G-mIoU = 71.2 (over all frames 52.5)." in text
    cells = "<td>33.0</td><td>44.0</td><td>50.0</td><td>–</td><td>–</td>"
    assert f"<td>another model: no &lt;audio&gt;</td>{cells}" in text
    assert "the best of 3 clips" in text
    # Without metrics.json there are no curves, and no link to them.
    assert "curves.svg" not in text


def test_one_clip_has_nobody_to_exchange_sounds_with(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = listening_model.write_clips(tmp_path / "single", ("loud_a",))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    (tmp_path / "results.json").write_text("{}")
    assert main(arguments) == 0
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "with the sound of" not in text and "in silence" in text
    assert "No scores of TransAVS demo, multi-sources (MS3), test" in text


def test_data_without_objects_and_classes(
    arguments: list[str], tmp_path: Path, datasets_env: Path
) -> None:
    arguments[3] = "avsbench_ms3_test"
    assert main(arguments) == 0
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "The data do not tell what is heard when." in text
    assert "surest query" in text and "♪ stands" in text and "<td>dog</td>" not in text


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, "nowhere.json", "nowhere.json"),
        (3, "nothing", "no data set is called 'nothing'"),
        (5, "nowhere.pth", "no checkpoint nowhere.pth"),
        (None, ["--clips", "0"], "--clips must be 1 or more"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str],
    place: int | None,
    value: str | list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if place is None:
        arguments += value
    else:
        arguments[place] = value
    assert main(arguments) == 2
    assert re.search(f"report: error: .*{message}", capsys.readouterr().err)


def test_analysis_of_the_own_sound(analyzer: ClipAnalyzer) -> None:
    analysis = analyze(analyzer, "original")
    assert analysis.jaccard == pytest.approx([100 * value for value in LOUD_JACCARD])
    assert analysis.something_sounds == [True, True, True, True, False]
    assert analysis.mean_jaccard == pytest.approx(100 * np.mean(LOUD_JACCARD[:4]))
    assert analysis.heard == [["dog"], ["dog"], ["cow", "dog"], ["cow"], []]
    dog, cow = analysis.objects
    assert (dog.name, cow.name) == ("dog", "cow")
    assert dog.heard == [True, True, True, False, False]
    assert dog.marked == pytest.approx([MARKED_PIXELS / OBJECT_PIXELS] * 5)
    assert cow.heard == [False, False, True, True, False] and cow.marked == [0.0] * 5
    assert analysis.sound_of == "loud_a"


def test_analysis_of_the_queries(analyzer: ClipAnalyzer) -> None:
    queries = analyze(analyzer, "original").queries
    assert queries is not None
    for notes in queries:
        assert [note.index for note in notes] == [0, 1, 2]
        assert [note.confidence for note in notes] == pytest.approx([0.9, 0.3, 0.1])
        assert [note.sounds for note in notes] == [True, False, False]
        assert [note.target for note in notes] == ["dog", "", ""]


def test_analysis_of_silence(analyzer: ClipAnalyzer) -> None:
    analysis = analyze(analyzer, "silence")
    assert analysis.audio_file is None and analysis.sound_of == ""
    assert analysis.heard == [[]] * 5 and analysis.predicted_share == [0.0] * 5
    assert not any(any(track.heard) for track in analysis.objects)
    assert analysis.jaccard[:4] == [0.0] * 4 and analysis.jaccard[4] == pytest.approx(100)


def test_analysis_of_another_sound(analyzer: ClipAnalyzer) -> None:
    analysis = analyze(analyzer, "shuffled", "quiet")
    assert analysis.sound_of in ("loud_a", "loud_b")
    assert analysis.sound_of in str(analysis.audio_file)
    # All clips here have the same objects at the same times.
    assert analysis.objects[0].heard == [True, True, True, False, False]


def test_clip_score_leaves_out_silent_seconds(analyzer: ClipAnalyzer) -> None:
    loud, _, quiet = load_records("demo_ms3_test")
    assert analyzer.clip_jaccard(loud) == pytest.approx(100 * np.mean(LOUD_JACCARD[:4]))
    assert analyzer.clip_jaccard(quiet) == 0


def test_queries_share_the_mask(analyzer: ClipAnalyzer) -> None:
    # Two believed queries with overlapping masks: a pixel goes to the larger p m.
    model = analyzer._model
    model.query_decoder.mask_logits.data[1] = 5.0
    answer = predict_clip(model, analyzer._mapper(load_records("demo_ms3_test")[0]))
    (frame, *_) = answer.queries
    assert frame.pixels.sum(0).max() == 1
    assert (frame.pixels.any(0) <= answer.masks[0].numpy()).all()
    assert not frame.pixels[1].any()


def test_models_without_queries_are_welcome(analyzer: ClipAnalyzer) -> None:
    class Plain(torch.nn.Module):
        def forward(self, clips: list[dict]) -> list[dict]:
            shape = (5, clips[0]["height"], clips[0]["width"])
            return [{"masks": torch.zeros(shape, dtype=torch.bool), "scores": torch.zeros(shape)}]

    analyzer._model = Plain()
    analysis = analyze(analyzer, "original")
    assert analysis.queries is None and analysis.mean_jaccard == 0


def test_choice_of_clips() -> None:
    scores = [50.0, None, 90.0, 10.0, 60.0, 55.0]
    chosen = choose_clips(scores, 4)
    assert chosen[:3] == [(2, "the best"), (5, "the median"), (3, "the worst")]
    assert chosen[3][0] in (0, 4) and chosen[3][1] == "drawn at random"
    assert choose_clips(scores, 4) == chosen
    assert len(choose_clips(scores, 99)) == 5 and choose_clips(scores, 1) == chosen[:1]
    assert choose_clips([None], 3) == [] and choose_clips([5.0], 3) == [(0, "the best")]


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ([True, True, False, False, True], "seconds 1, 2 and 5"),
        ([False, True, False], "second 2"),
        ([True, True, True], "every second"),
        ([False, False], "no second"),
    ],
)
def test_seconds_in_words(present: list[bool], words: str) -> None:
    assert seconds_in_words(present) == words


def test_numbers() -> None:
    assert number(None) == number(float("nan")) == "–"
    assert number(0.5, 100, 2) == "50.00"
