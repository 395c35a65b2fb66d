"""The check tool: exit codes, counts, and every kind of broken file by name."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import avsbench_trees as trees
import numpy as np
import PIL.Image
import pytest
import soundfile

from transavs.data.avsbench_spec import AVSS
from transavs.tools.check_avsbench import main

PATHS = {
    "frame": "Multi-sources/ms3_data/visual_frames/both_val/both_val.mp4_2.png",
    "mask": "Multi-sources/ms3_data/gt_masks/val/both_val/both_val_3.png",
    "objects": "Multi-sources/ms3_data/object_masks/val/both_val/both_val_4.png",
    "wav": "Multi-sources/ms3_data/audio_wav/val/both_val.wav",
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_all_well(demo_root: Path, capsys: pytest.CaptureFixture[str], options: tuple) -> None:
    code, output = run(capsys, demo_root, *options)
    assert code == 0
    assert "TransAVS demo, single-source (S4)" in output
    assert "found 5 of 5 frames, 1 of 1 masks, 1 of 1 wav files, 0 log-mel pickles" in output
    assert "unseen:" in output
    assert "no problem found" in output


def test_counts_are_compared_with_the_published(
    avsbench_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = run(capsys, avsbench_root)
    assert code == 1
    assert "2 clips (published: 3452); found 10 of 10 frames, 2 of 2 masks" in output
    assert "s4_meta_data.csv lists 2 clips of the split 'train', published are 3452" in output
    assert "6 problems found" in output


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("options", [(), ("--full",)])
def test_missing_and_truncated_files_are_named(
    demo_root: Path, capsys: pytest.CaptureFixture[str], kind: str, options: tuple
) -> None:
    path = demo_root / "transavs_demo" / PATHS[kind]
    content = path.read_bytes()
    for damage in ("missing", "truncated", "empty"):
        if damage == "missing":
            path.unlink()
        else:
            # A wav cut behind its header is still sound, a shorter one: cut the header.
            path.write_bytes(content[:20] if damage == "truncated" else b"")
        code, output = run(capsys, demo_root, *options)
        lines = [line for line in output.splitlines() if "problem:" in line]
        assert code == 1
        assert len(lines) == 1 and str(path) in lines[0], (damage, output)


def test_masks_of_another_size(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = demo_root / "transavs_demo" / PATHS["mask"]
    trees.write_image(path, trees.binary_mask((12, 16)))
    for options in ((), ("--full",)):
        code, output = run(capsys, demo_root, *options)
        assert code == 1 and f"{path} is 16 x 12 pixels, but the clip" in output


def test_full_check_looks_at_values(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = demo_root / "transavs_demo"
    trees.write_image(demo / PATHS["mask"], trees.binary_mask() // 255)
    trees.write_image(demo / PATHS["objects"], trees.object_map() * 0)
    soundfile.write(demo / PATHS["wav"], [0.0, float("nan")], 16000, subtype="FLOAT")
    pickles = demo / "Multi-sources/ms3_data/audio_log_mel/val"
    pickles.mkdir(parents=True)
    (pickles / "both_val.pkl").write_bytes(b"no pickle")
    code, output = run(capsys, demo_root)
    assert code == 0, "headers are well"
    assert "1 log-mel pickles" in output
    code, output = run(capsys, demo_root, "--full")
    assert code == 1
    assert "4 problems found" in output
    assert "areas of the grey 1," in output
    assert "pixels differ from the sounding objects of" in output
    assert "both_val.wav" in output and "both_val.pkl" in output


@pytest.mark.parametrize(
    ("values", "right"), [(257, True), (1, True), (100, False)], ids=["65535", "255", "25500"]
)
def test_full_check_reads_masks_as_training_does(
    demo_root: Path, capsys: pytest.CaptureFixture[str], values: int, right: bool
) -> None:
    path = demo_root / "transavs_demo" / PATHS["mask"]
    with PIL.Image.open(path) as mask:
        trees.write_image(path, np.array(mask, dtype=np.uint16) * values)
    code, output = run(capsys, demo_root, "--full")
    assert (code == 0) if right else (code == 1 and f"{path}: a mask holds 0" in output)


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_turned_frames(demo_root: Path, capsys: pytest.CaptureFixture[str], options: tuple) -> None:
    """Stored lying and shown upright, as large as their mask."""
    path = demo_root / "transavs_demo" / PATHS["frame"]
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    with PIL.Image.open(path) as frame:
        lying = frame.transpose(PIL.Image.Transpose.ROTATE_90)
    lying.save(path, exif=exif)
    assert run(capsys, demo_root, *options)[0] == 0
    lying.save(path)
    code, output = run(capsys, demo_root, *options)
    assert code == 1 and str(path.name) in output


def test_sound_without_samples(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(demo_root / "transavs_demo" / PATHS["wav"], [], 16000)
    code, output = run(capsys, demo_root)
    assert code == 1 and "both_val.wav holds no sample" in output


def test_broken_tables(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = demo_root / "transavs_demo"
    (demo / "Single-source/s4_meta_data.csv").write_text("name,start,category\n")
    objects = demo / "Multi-sources/ms3_data/objects.json"
    content = json.loads(objects.read_text())
    del content["both_test"]
    objects.write_text(json.dumps(content))
    code, output = run(capsys, demo_root)
    assert code == 1
    assert "column 'split'" in output
    assert "no entry for the clip 'both_test'" in output
    assert "2 problems found" in output


def test_missing_csv(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (demo_root / "transavs_demo/Single-source/s4_meta_data.csv").unlink()
    code, output = run(capsys, demo_root)
    assert code == 1 and "s4_meta_data.csv" in output


def test_a_smaller_demo_set_is_no_problem(
    demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(demo_root / "transavs_demo/Single-source")
    csv = demo_root / "transavs_demo/Multi-sources/ms3_meta_data.csv"
    csv.write_text("vid,split\nboth_train,train\n")
    code, output = run(capsys, demo_root)
    assert code == 0 and "unseen: 0 clips" in output


def test_junk_is_ignored(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in list(demo_root.rglob("*")):
        if folder.is_dir():
            (folder / ".DS_Store").write_bytes(b"junk")
    assert run(capsys, demo_root)[0] == 0


def avss_check(
    root: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[list[str], list[str]]:
    """Lines of the report, and its problems without those about the published counts."""
    _, output = run(capsys, root, *options)
    lines = output.splitlines()
    problems = [line for line in lines if "problem: " in line]
    return lines, [line for line in problems if "published are" not in line]


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_avss(avss_root: Path, capsys: pytest.CaptureFixture[str], options: tuple) -> None:
    (avss_root / "AVSBench_semantic/label2idx.json").write_text(
        json.dumps({name: label + 1 for label, name in enumerate(AVSS.pixel_classes)})
    )
    lines, problems = avss_check(avss_root, capsys, *options)
    assert problems == []
    assert sum("AVSBench-semantic (AVSS)" in line for line in lines) == 2
    found = "found 20 of 20 frames, 16 of 16 masks, 3 of 3 wav files, 0 log-mel pickles"
    assert sum(line.endswith(found) and "train: " in line for line in lines) == 2


@pytest.mark.parametrize("kind", ["frames/1.jpg", "labels_semantic/1.png", "audio.wav"])
def test_broken_files_of_avss(
    avss_root: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    shutil.rmtree(avss_root / "AVSBench_semantic/v1s")
    path = avss_root / "AVSBench_semantic/v1m/0WxgIKuetYI_0" / kind
    content = path.read_bytes()
    lost = len(avss_check(avss_root, capsys)[1])
    for damaged in (content[:20], b"", b"<html>"):
        path.write_bytes(damaged)
        for options in ((), ("--full",)):
            _, problems = avss_check(avss_root, capsys, *options)
            # Both forms of the maps stand beside the same frames and sounds: told once.
            new = [line for line in problems if str(path) in line]
            assert len(new) == 1 == len(problems) - lost


def test_problems_of_both_forms_are_told_once(
    avss_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, output = run(capsys, avss_root)
    assert "3 problems found" in output  # the published counts of three splits
    folder = avss_root / "AVSBench_semantic"
    for content in ("[" * 100000, "5", "{"):
        (folder / "label2idx.json").write_text(content)
        _, problems = avss_check(avss_root, capsys)
        assert len(problems) == 1 and "label2idx.json is no list of class names" in problems[0]
    (folder / "metadata.csv").write_text("vid,uid\n")
    _, problems = avss_check(avss_root, capsys)
    assert len(problems) == 1 and "metadata.csv: the first line must be" in problems[0]
    (folder / "metadata.csv").unlink()
    code, output = run(capsys, avss_root)
    assert code == 1 and "1 problems found" in output


def test_values_and_names_of_avss(avss_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = avss_root / "AVSBench_semantic"
    names = list(AVSS.pixel_classes)
    names[28:30] = names[29:27:-1]
    (folder / "label2idx.json").write_text(json.dumps(dict.fromkeys(names, 0)))
    clip = folder / "v1m/0WxgIKuetYI_0"
    trees.write_image(clip / "labels_semantic/1.png", trees.binary_mask())
    trees.write_image(clip / "labels_rgb/2.png", trees.picture("x", 1))
    lines, problems = avss_check(avss_root, capsys)
    expected = "expected 71 classes with 'guitar' at place 28, got 71 with 'gun' there"
    assert [expected in line for line in problems] == [True]
    _, problems = avss_check(avss_root, capsys, "--full")
    assert any("labels_semantic/1.png: expected class ids" in line for line in problems)
    assert any("labels_rgb/2.png: the colour" in line for line in problems)
    assert len(problems) == 3
    # Whoever has one form of the maps alone is not told that the other is missing.
    for path in folder.rglob("labels_rgb/*"):
        path.unlink()
    lines, problems = avss_check(avss_root, capsys)
    assert "AVSBench-semantic (AVSS), colour-coded maps: no such masks; not checked" in lines
    assert len(problems) == 1
    (folder / "label2idx.json").write_text("[1")
    assert "is no list of class names in JSON" in avss_check(avss_root, capsys)[1][0]


def test_nothing_to_check(avsbench_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(avsbench_root / "nowhere")]) == 2
    assert "ROOT must be a folder" in capsys.readouterr().err
    empty = avsbench_root / "empty"
    empty.mkdir()
    assert main([str(empty)]) == 2
    assert "expected one of Single-source, Multi-sources" in capsys.readouterr().err
    assert main([str(avsbench_root / "Single-source")]) == 2
    assert f"ROOT is the folder above, {avsbench_root}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as raised:
        main([])
    assert raised.value.code == 2


def test_wrapper_script(
    demo_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "datasets" / "check_avsbench.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(demo_root)])
    with pytest.raises(SystemExit) as raised:
        runpy.run_path(str(script), run_name="__main__")
    assert raised.value.code == 0
    assert "no problem found" in capsys.readouterr().out
