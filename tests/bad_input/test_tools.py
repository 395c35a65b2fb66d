"""Films, results, pages and command lines that a command cannot work with."""

import re

import listening_model
import numpy as np
import pytest
import soundfile
from films import write_film
from mistakes import Case, cases, check, write
from PIL import Image

from transavs.apps import ablation, benchmark, report, web
from transavs.tools import (
    check_avsbench,
    collect_sounds,
    compose_scenes,
    convert_checkpoint,
    demo,
    eval_robustness,
    eval_videos,
    precompute_audio,
    prepare_demo,
    pretrain_audio,
    train_net,
    visualize,
)

FILM = "--input {}/film.mp4 --output {}/out.mp4"
GOOD = "--input {}/good.mkv --output {}/out.mp4 "
FRAMES = "--input {}/frames --output {}/out.mp4"
REPORT = "--results {}/results.json --output {}/out.html --model demo_s4_test s4_R50.yaml w.pth"
EVALUATE = "--config-file s4_R50.yaml --weights w.pth --merge --output {}/results.json"
COMPARE = "--compare {}/a.json {}/a.json"
GRID = "config: s4_R50.yaml\nseeds: [0]\ntest: [demo_s4_test]\nrows: [{name: a}]\n"
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return listening_model.write_options(tmp_path_factory.mktemp("model"))


def half_a_film(folder):
    path = write_film(folder / "film.mp4", 1.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def words_among_pictures(folder):
    (folder / "frames").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "frames" / "1.png")
    (folder / "frames" / "0.png").write_text("words")


def good(folder):
    write_film(folder / "good.mkv", 1.0)


def lending_words(folder):
    good(folder)
    write("words.wav", "words")(folder)
    soundfile.write(folder / "loud.wav", np.full(16_000, 13_087.0), 16_000, subtype="FLOAT")


def mute(folder):
    write_film(folder / "good.mkv", 1.0, voices=())


@cases(
    Case("nothing", "demo", FILM, "film.mp4", "check the path"),
    Case("words", "demo", FILM, "film.mp4", "a file that FFmpeg reads", write("film.mp4", "words")),
    Case("empty", "demo", FILM, "film.mp4", "a file that FFmpeg reads", write("film.mp4", "")),
    Case("half of it", "demo", FILM, "film.mp4", "export or fetch it again", half_a_film),
    Case("a playlist", "demo", FILM, "film.mp4", "a file that FFmpeg reads",
         write("film.mp4", "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")),
    Case("no pictures", "demo", FRAMES, "frames", "holds no pictures",
         lambda folder: (folder / "frames").mkdir()),
    Case("words among pictures", "demo", FRAMES, "0.png", "restore|export", words_among_pictures),
    Case("another container", "demo", GOOD.replace("out.mp4", "out.avi"), "out.avi",
         "must be one of", good),
    Case("behind its end", "demo", GOOD + "--start 9", "good.mkv", "ends at second", good),
    Case("no such track", "demo", GOOD + "--audio-track 7", "good.mkv", "no sound track 7", good),
    Case("a sound of words", "demo", GOOD + "--sound {}/words.wav", "words.wav", "FFmpeg reads",
         lending_words),
    Case("16-bit floats", "demo", GOOD + "--sound {}/loud.wav", "loud.wav", "by 32768",
         lending_words),
    Case("no sound to hear", "demo", GOOD + "--sound {}/no.wav", "no.wav", "check the path", good),
    Case("the film over itself", "demo", "--input {}/good.mkv --output {}/good.mkv", "good.mkv",
         "choose|name|another", good),
)  # fmt: skip
def test_films(case, model, tmp_path, capsys):
    check(case, tmp_path, capsys, model)


@cases(
    Case("no results", "report", REPORT, "results.json", "check the path"),
    Case("half of them", "report", REPORT, "results.json", "choose another",
         write("results.json", "{")),
    Case("bytes", "report", REPORT, "results.json", "choose another",
         write("results.json", b"\xff\xfe\x00")),
    Case("a list to merge with", "eval_robustness", EVALUATE, "results.json", "another file",
         write("results.json", "[1]")),
    Case("deep results", "report", REPORT, "results.json", "choose another",
         write("results.json", DEEP)),
    Case("no measurement", "benchmark", COMPARE, "a.json", "check the path"),
    *(
        Case(name, "benchmark", COMPARE, "a.json", "expected a benchmark of version 2.*again",
             write("a.json", text))
        for name, text in (
            ("half of it", "{"),
            ("another version", '{"version": 1}'),
            ("deep", DEEP),
            ("no numbers", '{"version": 2, "settings": {}, "machine": {}}'),
        )
    ),
)  # fmt: skip
def test_results_and_pages(case, datasets_env, tmp_path, capsys):
    check(case, tmp_path, capsys)


@cases(
    Case("no ending", "precompute_audio", "--config-file s4_R50.yaml --output {}/out", "out",
         "name --output FILE.safetensors"),
    Case("a negative count", "precompute_audio",
         "--config-file s4_R50.yaml --output {}/o.safetensors --workers -1", "--workers",
         "at least 0"),
    Case("a folder that is a file", "visualize",
         "--config-file s4_R50.yaml --dataset demo_ms3_test --ground-truth-only --output {}/file",
         "file", "--output: .* is a file, expected a folder: name another", write("file", "")),
    Case("a folder in a file", "visualize",
         "--config-file s4_R50.yaml --weights no.pth --output {}/file/out",
         "file", "--output: .* is a file, expected a folder: name another", write("file", "")),
    Case("no folder", "visualize", "--config-file s4_R50.yaml --output=", "--output",
         "is empty: name the folder"),
    Case("no clip wide", "visualize",
         "--config-file s4_R50.yaml --ground-truth-only --cell-width 0 --output {}/out",
         "--cell-width", "must be 1 to 2048 pixels, got 0"),
    Case("too wide a clip", "visualize",
         "--config-file s4_R50.yaml --ground-truth-only --cell-width 1000000 --output {}/out",
         "--cell-width", "must be 1 to 2048 pixels, got 1000000"),
    Case("a list of no clips", "visualize", "--config-file s4_R50.yaml --clips , --output {}/out",
         "--clips", "names no clip, got ',': name some"),
    Case("no model's queries", "visualize",
         "--config-file s4_R50.yaml --ground-truth-only --draw-queries --output {}/out",
         "--draw-queries", "leave one of them out"),
    Case("an unknown sound", "eval_robustness",
         "--config-file s4_R50.yaml --output {}/out.json --conditions loud", "--conditions",
         "out of original, silence"),
    Case("no clips", "report", REPORT + " --clips 0", "--clips", "1 or more"),
    Case("an unknown part", "benchmark", "--config-file s4_R50.yaml --parts speed", "--parts",
         "expected some of size"),
    Case("seeds of words", "ablation", "{}/g.yaml --output {}/out --seeds a",
         "--seeds", "whole numbers such as 0,1", write("g.yaml", GRID)),
    Case("an unknown row", "ablation", "{}/g.yaml --output {}/out --rows b",
         "'b'", "row", write("g.yaml", GRID)),
    Case("two processes, three clips", "train_net",
         "--config-file s4_R50.yaml --num-gpus 2 SOLVER.IMS_PER_BATCH 3 MODEL.DEVICE cpu "
         "OUTPUT_DIR {}/out", "SOLVER.IMS_PER_BATCH", "multiple of the 2 processes"),
    Case("a folder that is a file", "train_net",
         "--config-file s4_R50.yaml MODEL.DEVICE cpu OUTPUT_DIR {}/file/out", "file",
         "OUTPUT_DIR: .* expected a folder: name another", write("file", "")),
    Case("no training data", "pretrain_audio",
         "--config-file s4_R50.yaml --mixtures 0 --train nobody --output {}/a.safetensors",
         "nobody", "known: "),
    Case("an unknown class", "prepare_demo",
         "--root {}/new --source drawn --classes unicorn", "unicorn", "class"),
    Case("a negative size", "prepare_demo", "--root {}/new --source drawn --scale -1", "-1",
         "scale|size"),
    Case("a port too high", "web", "--port 70000", "--port", "0 to 65535"),
    Case("no time", "web", "--max-seconds 0", "--max-seconds", "above 0"),
    Case("no configuration", "web", "--weights w.pth", "--weights", "name the configuration"),
)  # fmt: skip
def test_arguments(case, datasets_env, tmp_path, capsys):
    check(case, tmp_path, capsys)


TOOLS = (
    ablation, benchmark, check_avsbench, collect_sounds, compose_scenes, convert_checkpoint, demo,
    eval_robustness, eval_videos, precompute_audio, prepare_demo, pretrain_audio, report, train_net,
    visualize, web,
)  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__.rpartition(".")[2])
def test_an_unknown_option(tool, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        tool.main(["--no-such-option", "1"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("usage: ") and re.search(r"^\S+: error: ", printed, re.MULTILINE)
    assert not list(tmp_path.iterdir())
