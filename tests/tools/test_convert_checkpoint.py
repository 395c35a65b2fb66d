"""The command line: formats, checks, converted files, and what stops it."""

import json

import published_weights as published
import pytest
import safetensors.torch
import tiny_models
import torch
from detectron2.modeling import build_backbone

from transavs.audio import HTSAT
from transavs.audio.hts_at_log_mel import mel_matrix
from transavs.engine import SafeCheckpointer
from transavs.pretrained import FORMATS
from transavs.tools.convert_checkpoint import main

CONFIG = ["--config-file", "configs/s4_R50.yaml"]


@pytest.fixture
def file(tmp_path):
    own = build_backbone(tiny_models.tiny_cfg()).state_dict()
    path = tmp_path / "resnet50-0676ba61.pth"
    torch.save(published.torchvision_resnet(own, 50), path)
    return path


def run(*arguments: object) -> int:
    return main([*map(str, arguments), *map(str, tiny_models.TINY)])


def test_list_names_every_format(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FORMATS)


def test_check_writes_nothing_but_the_report(file, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run("--weights", file, *CONFIG, "--check", "--report", report) == 0
    assert "torchvision-resnet: 265 tensors mapped to 265 (backbone 265)" in capsys.readouterr().out
    told = json.loads(report.read_text())
    assert told["mapped"]["backbone.res5.2.conv3.norm.running_var"] == "layer4.2.bn3.running_var"
    assert set(told["left"]) >= {"fc.weight", "fc.bias"} and not told["problems"]
    assert len(told["mapped"]) + len(told["left"]) == len(torch.load(file))
    assert {path.name for path in tmp_path.iterdir()} == {file.name, report.name}


def test_converted_file_is_a_start(file, tmp_path):
    output = tmp_path / "start.safetensors"
    assert run("--weights", file, *CONFIG, "--output", output) == 0
    model = tiny_models.tiny_model()
    before = model.query_decoder.class_head.weight.clone()
    SafeCheckpointer(model).load(str(output))
    source = torch.load(file)
    assert torch.equal(model.backbone.stem.conv1.weight, source["conv1.weight"])
    assert torch.equal(model.query_decoder.class_head.weight, before)
    # In the place of another model's backbone it is refused.
    with pytest.raises(ValueError, match="converted for another configuration.*Convert it again"):
        SafeCheckpointer(tiny_models.tiny_model("MODEL.RESNETS.DEPTH", 101)).load(str(output))


def test_converted_checkpoint_of_s4_starts_avss(tmp_path):
    SafeCheckpointer(tiny_models.tiny_model(), str(tmp_path)).save("model_best")
    output = tmp_path / "start.safetensors"
    other = ("MODEL.TRANSAVS.NUM_CLASSES", 70)
    arguments = ["--weights", str(tmp_path / "model_best.pth"), *CONFIG, "--output", str(output)]
    assert main([*arguments, *tiny_models.TINY, *map(str, other)]) == 0
    SafeCheckpointer(tiny_models.tiny_model(*other)).load(str(output))
    # Nothing that the file should fill may stay random unnoticed.
    tensors = safetensors.torch.load_file(output)
    del tensors["query_decoder.level.weight"]
    with safetensors.safe_open(output, "pt") as opened:
        metadata = opened.metadata()
    safetensors.torch.save_file(tensors, output, metadata)
    with pytest.raises(ValueError, match=r"missing: query_decoder\.level\.weight"):
        SafeCheckpointer(tiny_models.tiny_model(*other)).load(str(output))


@pytest.mark.parametrize(("arguments", "message"), [
    (["--check"], "name --weights and --config-file, or --list"),
    (["--weights", "FILE", *CONFIG], "name --output FILE.safetensors, or --check"),
    (["--weights", "FILE", *CONFIG, "--output", "start.pth"], "name --output FILE.safetensors"),
    (["--weights", "no.pth", *CONFIG, "--check"], "no weights at no.pth"),
    (["--weights", "FILE", "--config-file", "configs/s4_R101.yaml", "--check",
      "MODEL.RESNETS.DEPTH", "50"], "set INPUT.FORMAT RGB (is BGR), MODEL.PIXEL_MEAN"),
    (["--weights", "FILE", *CONFIG, "--check", "--format", "swin"], "tensors of the file without"),
])  # fmt: skip
def test_mistakes_are_told_in_a_line(file, arguments, message, capsys):
    words = [str(file) if word == "FILE" else word for word in arguments]
    options = [] if "--config-file" not in words else list(tiny_models.TINY)
    assert main([*words, *options]) == 2
    assert message in capsys.readouterr().err


def test_unexplained_tensors_leave_no_file(file, tmp_path, capsys):
    torch.save(torch.load(file) | {"layer5.0.conv1.weight": torch.ones(1)}, file)
    output = tmp_path / "start.safetensors"
    assert run("--weights", file, *CONFIG, "--output", output) == 2
    assert "layer5.0.conv1.weight" in capsys.readouterr().err and not output.exists()
    torch.save({"strange": torch.ones(1)}, file)
    assert run("--weights", file, *CONFIG, "--output", output) == 2
    assert "no known format: it holds 1 tensors such as strange" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [
    (lambda tensor: tensor.long(), "of another type: backbone.res2.0.conv1.weight (file torch.int"),
    (lambda tensor: tensor > 0, "of another type: backbone.res2.0.conv1.weight (file torch.bool"),
    (lambda tensor: tensor / 0, "that are not finite: layer1.0.conv1.weight. It needs"),
    (lambda tensor: tensor.to(torch.complex64), "these entries are none: layer1.0.conv1.weight;"),
    (lambda tensor: tensor.to_sparse(), "these entries are none: layer1.0.conv1.weight;"),
    (lambda tensor: tensor.to("meta"), "these entries are none: layer1.0.conv1.weight;"),
    (lambda tensor: tensor.to(torch.float8_e4m3fn), "these entries are none: layer1.0.conv1.wei"),
])  # fmt: skip
def test_tensors_of_another_kind_are_named(file, tmp_path, change, message, capsys):
    tensors = torch.load(file)
    tensors["layer1.0.conv1.weight"] = change(tensors["layer1.0.conv1.weight"])
    torch.save(tensors, file)
    assert run("--weights", file, *CONFIG, "--output", tmp_path / "start.safetensors") == 2
    error = capsys.readouterr().err
    assert message in error and "the file lacks" not in error
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_tensors_that_share_memory_are_written_twice(file, tmp_path):
    tensors = torch.load(file)
    tensors["layer1.1.conv1.weight"] = tensors["layer1.2.conv1.weight"]
    torch.save(tensors, file)
    output = tmp_path / "start.safetensors"
    assert run("--weights", file, *CONFIG, "--output", output) == 0
    written = safetensors.torch.load_file(output)
    first, second = (written[f"backbone.res2.{block}.conv1.weight"] for block in (1, 2))
    assert torch.equal(first, second)


def test_nothing_is_written_over_the_weights(file, tmp_path, capsys):
    before = file.read_bytes()
    assert run("--weights", file, *CONFIG, "--check", "--report", file) == 2
    assert "--report would overwrite --weights" in capsys.readouterr().err
    output = tmp_path / "start.safetensors"
    assert run("--weights", file, *CONFIG, "--output", output, "--report", output) == 2
    assert "--report would overwrite --output" in capsys.readouterr().err
    output.mkdir()
    assert run("--weights", file, *CONFIG, "--output", output) == 2
    assert "--output names a folder" in capsys.readouterr().err
    assert file.read_bytes() == before and not any(output.iterdir())


def test_audio_encoders_are_checked_and_need_no_conversion(tmp_path, capsys, monkeypatch):
    small = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    monkeypatch.setattr(HTSAT.__init__, "__defaults__", tuple(small.values()))
    tiny, htsat = [*map(str, tiny_models.TINY)], ["MODEL.AUDIO.NAME", "HTSAT"]
    file = {"tscam_conv.weight": torch.ones(527, 96, 2, 3)}
    for key, tensor in tiny_models.tiny_model(*htsat).audio_encoder.state_dict().items():
        key = key.removeprefix("swin.").replace("batch_norm.", "bn0.")
        if ".downsample." in key:
            stage = int(key.split(".")[1])
            key = key.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
        file[f"sed_model.{key}"] = tensor
    torch.save({"state_dict": file}, tmp_path / "w.ckpt")
    arguments = ["--weights", str(tmp_path / "w.ckpt"), *CONFIG]
    assert main([*arguments, "--check", *tiny, *htsat]) == 0
    assert "hts-at: " in capsys.readouterr().out
    assert main([*arguments, "--output", str(tmp_path / "o.safetensors"), *tiny, *htsat]) == 2
    assert "MODEL.AUDIO.WEIGHTS takes files of the format hts-at" in capsys.readouterr().err
    assert main([*arguments, "--check", *tiny]) == 2
    assert "MODEL.AUDIO.NAME and the file belong together" in capsys.readouterr().err
    # Mel filters of another sample rate, in a file that fits besides.
    torch.save({"state_dict": file | {"logmel_extractor.melW": mel_matrix(48_000)}}, arguments[1])
    assert main([*arguments, "--check", *tiny, *htsat]) == 2
    assert "48 kHz" in capsys.readouterr().err
