"""The command: a file that onnxruntime runs, its facts, and mistakes."""

import json

import numpy as np
import pytest
from tiny_models import TINY, tiny_cfg, tiny_model

from transavs.apps.export import ExportedModel, check, main, runtime
from transavs.apps.export.graph import ClipGraph
from transavs.audio import waveform
from transavs.tools.command_line import INTERRUPTED, USER_ERROR

# A shallow network: following one takes longer the more operators it has.
SHALLOW = (
    "MODEL.BACKBONE.NAME", "build_timm_backbone",
    "MODEL.TIMM.NAME", "test_resnet",
    "MODEL.TRANSAVS.DECODER_LAYERS", "1",
    "MODEL.TRANSAVS.NUM_CLASSES", "2",
)  # fmt: skip
OPTIONS = ["--config-file", "s4_R50.yaml", "--random-weights", "--size", "40,64"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    words = [*OPTIONS, "--output", str(path), "--latency", "--no-compile"]
    assert main([*words, "--repeats", "1", *TINY, *SHALLOW]) == 0
    return path


@pytest.fixture(scope="module")
def model(exported):
    return ExportedModel(exported)


def test_facts(exported, model):
    facts = json.loads(exported.with_suffix(".json").read_text())
    assert facts == model.facts
    assert facts["inputs"]["frames"]["shape"] == ["batch", "frames", 3, 40, 64]
    assert facts["sound"] == "waveform" and facts["sample_rate_hz"] == 16_000
    assert facts["most_frames"] == 5 and len(facts["fingerprint"]) == 64
    checked = facts["checked"]
    assert checked["bounds"] == {"scores": 1e-4, "queries": 1e-4, "pixels": 1e-3}
    assert 0 < checked["max_difference"] <= 1e-4 and 0 < checked["max_query_difference"] <= 1e-4
    assert checked["foreground"] > 0
    assert set(facts["latency"]["runtimes"]) == {"torch", "onnxruntime"}
    assert facts["latency"]["runtimes"]["torch"]["ratio"] == 1


def test_a_compiled_copy_is_timed(exported, monkeypatch):
    seen = []
    cfg, network = tiny_cfg(*SHALLOW), tiny_model(*SHALLOW).eval()
    graph = ClipGraph(cfg, network, "waveform", (40, 64))
    monkeypatch.setattr(check, "compile_parts", lambda own: seen.append(own is not network))
    found = check.measure_latency(graph, exported.read_bytes(), 2, 1, compiled=True)
    assert seen == [True] and found["runtimes"]["torch.compile"]["seconds"] > 0
    assert "torch.compile" in check.format_latency(found)


@pytest.mark.parametrize(("clips", "frames", "samples"), [(1, 1, 9), (3, 5, 90_000)])
def test_any_number_of_clips_and_frames(model, clips, frames, samples):
    pictures = np.zeros((clips, frames, 3, 40, 64), np.uint8)
    found = model(pictures, np.zeros((clips, samples), np.float32))
    assert list(found) == ["scores", "masks", "class_maps", "class_logits", "mask_logits"]
    assert found["scores"].shape == found["masks"].shape == (clips, frames, 40, 64)
    assert found["class_maps"].max() <= 2 and found["masks"].dtype == bool
    assert found["class_logits"].shape == (clips, frames, 5, 3)
    assert list(model(pictures, np.zeros((clips, 1), np.float32), "masks")) == ["masks"]


def test_wrong_arrays_are_told(model):
    frames, sound = np.zeros((2, 3, 3, 40, 64), np.uint8), np.zeros((2, 99), np.float32)
    cases = {
        "frames: expected an array of uint8, got float32": (frames.astype(np.float32), sound),
        "frames: expected an array of uint8, got list": ([0], sound),
        r"frames: expected shape \[batch, frames, 3, 40, 64\]": (frames[..., 1:], sound),
        r"waveform: expected shape \[batch, samples\], got \[2, 0\]": (frames, sound[:, :0]),
        "2 clips of frames, but 1 of waveform": (frames, sound[:1]),
        "at most 5 frames a clip, got 6": (np.tile(frames, (1, 2, 1, 1, 1)), sound),
        "must be finite": (frames, sound + np.nan),
        r"waveform: expected samples in \[-1, 1\], got 32767: divide": (frames, sound - 32767),
    }
    for message, arrays in cases.items():
        with pytest.raises(ValueError, match=message):
            model(*arrays)
    assert model(frames, sound + np.float32(1.5), "masks")  # as filters overshoot
    assert runtime.LOUDEST == waveform.LOUDEST
    with pytest.raises(ValueError, match="not 'mask'"):
        model(frames, sound, "mask")


def test_other_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no exported model"):
        ExportedModel(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("words")
    with pytest.raises(ValueError, match="cannot read .*text.onnx as an ONNX model"):
        ExportedModel(tmp_path / "text.onnx")


def test_providers_of_onnxruntime(exported):
    lacking = ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert ExportedModel(exported, providers=lacking).sound == "waveform"
    assert ExportedModel(exported, providers="CPUExecutionProvider").sound == "waveform"
    with pytest.raises(ValueError, match=r"threads must be 0 .* or more, got -1"):
        ExportedModel(exported, threads=-1)
    for providers, told in (
        (("CPUExecutionProvider", "GPU"), "CPUExecutionProvider, not GPU"),
        (("XnnpackExecutionProvider",), "CPUExecutionProvider, not XnnpackExecutionProvider"),
        ((), "not none"),
        ("GPU", "CPUExecutionProvider, not GPU"),
    ):
        with pytest.raises(ValueError, match=f"onnxruntime has here the providers .*{told}"):
            ExportedModel(exported, providers=providers)


def test_the_description_is_written_last(exported, tmp_path, monkeypatch):
    """Whatever ends the command between the two: no description of a file that is not there."""

    def interrupted(path, text):
        assert str(path).endswith("model.json")
        raise KeyboardInterrupt

    import onnx

    monkeypatch.setattr("transavs.apps.export.export_graph", lambda *_: onnx.load(exported))
    monkeypatch.setattr("transavs.apps.export.check_export", lambda *_: {"by": "another test"})
    monkeypatch.setattr("transavs.apps.export.write_text", interrupted)
    words = [*OPTIONS, "--output", str(tmp_path / "new" / "model.onnx"), *TINY, *SHALLOW]
    assert main(words) == INTERRUPTED
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.onnx"]
    assert ExportedModel(tmp_path / "new" / "model.onnx").facts["checked"]


def test_a_model_that_differs_is_not_written(tmp_path, monkeypatch, capsys, exported):
    import onnx

    def wrong_export(graph):
        return onnx.load(exported)  # of another seed's weights

    monkeypatch.setattr("transavs.apps.export.export_graph", wrong_export)
    monkeypatch.setattr("transavs.apps.export._SEED", 1)
    path = tmp_path / "model.onnx"
    assert main([*OPTIONS, "--output", str(path), *TINY, *SHALLOW]) == USER_ERROR
    assert "the exported model differs from the model" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_queries_count_where_scores_hide_them(tmp_path, monkeypatch, capsys):
    """Sums of many queries are cut at 1, and the largest of many may be anybody's."""
    run = check._run

    def with_wrong_queries(*asked):
        found = run(*asked)
        return found | {"class_logits": found["class_logits"] + np.float32([0.01, 0, 0])}

    monkeypatch.setattr(check, "_run", with_wrong_queries)
    words = [*OPTIONS, "--sound", "embeddings", "--output", str(tmp_path / "model.onnx")]
    assert main([*words, *TINY, *SHALLOW]) == USER_ERROR
    assert "its queries' probabilities by 0.00" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


DEFORMABLE = (
    "MODEL.PIXEL_DECODER.NAME", "MSDeformAttnPixelDecoder",
    "MODEL.PIXEL_DECODER.ENCODER_LAYERS", "1",
    "MODEL.TRANSAVS.HEAD", "mask2former",
    "MODEL.TRANSAVS.MASKED_ATTENTION", "True",
)  # fmt: skip


def test_deformable_and_masked_attention(tmp_path):
    path = tmp_path / "model.onnx"
    words = [*OPTIONS, "--sound", "embeddings", "--output", str(path)]
    assert main([*words, *TINY, *SHALLOW, *DEFORMABLE]) == 0
    checked = json.loads(path.with_suffix(".json").read_text())["checked"]
    assert 0 < checked["max_difference"] <= 1e-4 and checked["foreground"] > 0
    assert [case[:2] for case in checked["cases"]] == [[1, 1], [2, 3], [3, 4]]


def test_a_graph_that_fails_when_it_runs(tmp_path, monkeypatch, capsys, exported):
    import onnx

    def of_another_size(graph):
        return onnx.load(exported)

    # Its frames are 40 x 64, and onnxruntime says so in an exception of its own.
    monkeypatch.setattr("transavs.apps.export.export_graph", of_another_size)
    path = tmp_path / "model.onnx"
    words = [*OPTIONS, "--size", "64,64", "--output", str(path)]
    assert main([*words, *TINY, *SHALLOW]) == USER_ERROR
    message = capsys.readouterr().err
    assert "cannot be exported for any number of clips and frames: with 1 of 1 frames" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "model.pt"], "--output must end in .onnx"),
        (["--output", "a.onnx", "--weights", "b.pth"], "--weights without --config-file"),
        (["--output", "a.onnx", "--evaluate", "demo_ms3_test"], "needs --sound examples"),
        (["--output", "a.onnx", "MODEL.WEIGHTS", "b"], "MODEL.WEIGHTS without --config-file"),
        # Nor is a folder left behind that nothing was written into.
        (
            ["--output", "new/a.onnx", "--config-file", "s4_R50.yaml", "--weights", "none.pth"],
            "no checkpoint none.pth",
        ),
        (
            ["--output", "a.onnx", "--sound", "examples", "--evaluate", "demo_ms4_test"],
            "no data set is called 'demo_ms4_test'",
        ),
    ],
)
def test_mistakes(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == USER_ERROR
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [("--size", "9999999999"), ("--size", "224,2049"), ("--size", "x"), ("--repeats", "0")]
)
def test_numbers_that_no_export_takes(words, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["--output", str(tmp_path / "a.onnx"), "--latency", *words])
    assert ended.value.code == USER_ERROR
    message = capsys.readouterr().err
    assert words[0] in message and words[1] in message
    assert not list(tmp_path.iterdir())


def test_a_json_of_something_else_stays(tmp_path, capsys):
    """Such as the scores of a shipped model, which lie beside its weights."""
    scores = tmp_path / "demo_ms3.json"
    scores.write_text("{}")
    assert main(["--output", str(tmp_path / "demo_ms3.onnx")]) == USER_ERROR
    assert "demo_ms3.json, which no export wrote" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["demo_ms3.json"]
