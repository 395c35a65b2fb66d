"""Embeddings computed once: the same numbers in training and evaluation, and nothing stale."""

import json
import math

import avsbench_trees
import numpy as np
import pytest
import safetensors.torch
import tiny_models
import torch
from detectron2.modeling import build_model

from transavs.audio import EmbeddingStore
from transavs.audio.embedding_store import write_store
from transavs.config import setup_cfg
from transavs.data import AVSDatasetMapper, load_records, with_condition
from transavs.engine import SafeCheckpointer, Trainer
from transavs.engine.robustness import evaluate_conditions
from transavs.tools import train_net
from transavs.tools.precompute_audio import main

#: Of the last one the sounds are files again, as off-screen sounds are.
CONDITIONS = ("original", "silence", "noise", "shuffled")
SETS = (
    "DATASETS.TRAIN", "('demo_ms3_train','demo_s4_train')", "DATASETS.VAL", "()",
    "DATASETS.TEST", "('demo_ms3_test',)",
)  # fmt: skip


@pytest.fixture(params=["SmallVGGish", "NarrowHTSAT", "TPAVI"])
def options(request, monkeypatch):
    tiny_models.register_narrow_htsat(monkeypatch)
    if request.param == "TPAVI":
        return [
            *SETS, "MODEL.META_ARCHITECTURE", "TPAVI", "MODEL.TPAVI.CHANNELS", "8",
        ]  # fmt: skip
    return [*SETS, "MODEL.AUDIO.NAME", request.param]


@pytest.fixture
def trained(tmp_path, datasets_env, options):
    """A model of random weights as its checkpoint."""
    model = tiny_models.tiny_model(*options)
    SafeCheckpointer(model, str(tmp_path)).save("model")
    return tmp_path / "model.pth"


def precompute(*arguments: object, options=()) -> int:
    words = ["--config-file", "configs/ms3_R50.yaml", "--workers", "0", *map(str, arguments)]
    return main([*words, *tiny_models.TINY, *map(str, options)])


def test_with_and_without_are_the_same(trained, tmp_path, options):
    store = tmp_path / "store.safetensors"
    assert precompute("--weights", trained, "--output", store, options=options) == 0
    plain = tiny_models.tiny_cfg(*options, config="ms3_R50.yaml")
    cached = tiny_models.tiny_cfg(*options, "INPUT.AUDIO_EMBEDDINGS", store, config="ms3_R50.yaml")
    model = build_model(plain).eval()
    SafeCheckpointer(model).load(str(trained))

    # Evaluation, bit for bit, under every condition and for clips alone and together.
    records = load_records("demo_ms3_test") + load_records("demo_s4_train")
    for condition in CONDITIONS:
        changed = with_condition(records, condition)
        mappers = [AVSDatasetMapper(cfg, is_train=False) for cfg in (plain, cached)]
        clips = [[mapper(record) for record in changed] for mapper in mappers]
        holds = ["audio_embeddings" in clip for clip in clips[1]]
        assert all(holds) if condition in ("original", "shuffled") else not any(holds)
        assert not any("audio_embeddings" in clip for clip in clips[0])
        with torch.no_grad():
            for batch in ([0], [0, 1]):
                answers = [model([some[i] for i in batch]) for some in clips]
                for ours, theirs in zip(*answers, strict=True):
                    assert torch.equal(ours["scores"], theirs["scores"])
                    assert torch.equal(ours["masks"], theirs["masks"])
    scores = [evaluate_conditions(cfg, model, records, CONDITIONS[::3]) for cfg in (plain, cached)]
    assert json.dumps(scores[0]) == json.dumps(scores[1])


def test_training_with_and_without(trained, tmp_path, options):
    """Two steps with negative sounds among the clips; then a full evaluation."""
    store = tmp_path / "store.safetensors"
    assert precompute("--weights", trained, "--output", store, options=options) == 0
    losses, results = [], []
    for embeddings in ("", store):
        output = tmp_path / f"run {bool(embeddings)}"
        cfg = tiny_models.tiny_cfg(
            *options, "INPUT.AUDIO_EMBEDDINGS", embeddings, "MODEL.WEIGHTS", trained,
            "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 5, "OUTPUT_DIR", output,
            "INPUT.NEGATIVE_AUDIO.SHARE", 0.5, "INPUT.NEGATIVE_AUDIO.KINDS", "('silence','noise')",
            config="ms3_R50.yaml",
        )  # fmt: skip
        output.mkdir()
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        lines = (output / "metrics.json").read_text().splitlines()
        metrics = [json.loads(line) for line in lines]
        losses.append([v for step in metrics for k, v in step.items() if "loss" in k])
        results.append(Trainer.test(cfg, trainer.model)["avs"])
    assert losses[0] and all(map(math.isfinite, losses[0]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert results[0]["M_J"] == pytest.approx(results[1]["M_J"], abs=0.05)


@pytest.fixture
def small(datasets_env, tmp_path):
    """A store of SmallVGGish, its model's configuration and its checkpoint."""
    model = tiny_models.tiny_model(*SETS)
    SafeCheckpointer(model, str(tmp_path)).save("model")
    trained, store = tmp_path / "model.pth", tmp_path / "store.safetensors"
    assert precompute("--weights", trained, "--output", store, options=SETS) == 0
    cfg = setup_cfg(
        "ms3_R50.yaml", [*tiny_models.TINY, *SETS, "INPUT.AUDIO_EMBEDDINGS", str(store)]
    )
    return model.eval(), cfg, store, trained


def test_goes_on_where_it_was(small, caplog):
    _, _, store, trained = small
    before = EmbeddingStore(store).entries()
    assert len(before) == 3  # two clips of the training sets share no sound, one is tested on
    arguments = ("--weights", trained, "--output", store)
    with caplog.at_level("INFO"):
        assert precompute(*arguments, "--datasets", "demo_ms3_test", options=SETS) == 0
    assert "1 sounds of demo_ms3_test, 0 to embed" in caplog.text
    assert precompute(*arguments, "--datasets", "demo_ms3_val", options=SETS) == 0
    after = EmbeddingStore(store).entries()
    assert len(after) == 4
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_interrupted_run_keeps_what_is_done(small, monkeypatch):
    _, _, store, trained = small
    store.unlink()
    import transavs.tools.precompute_audio as tool

    read, calls = tool.read_wav_examples, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(tool, "read_wav_examples", interrupted)
    assert precompute("--weights", trained, "--output", store, options=SETS) == 130
    assert len(EmbeddingStore(store).entries()) == 2


def test_a_file_has_one_writer_at_a_time(small, monkeypatch, capsys):
    _, _, store, trained = small
    store.unlink()
    import transavs.tools.precompute_audio as tool

    read, arguments = tool.read_wav_examples, ("--weights", trained, "--output", store)

    def meanwhile(*call):
        monkeypatch.setattr(tool, "read_wav_examples", read)
        assert precompute(*arguments, "--datasets", "demo_ms3_val", options=SETS) == 2
        assert f"another command is writing {store}: process" in capsys.readouterr().err
        return read(*call)

    monkeypatch.setattr(tool, "read_wav_examples", meanwhile)
    assert precompute(*arguments, options=SETS) == 0
    assert not list(store.parent.glob(".*.lock"))
    assert precompute(*arguments, "--datasets", "demo_ms3_val", options=SETS) == 0
    assert len(EmbeddingStore(store).entries()) == 4


def test_a_damaged_store_is_refused(small, capsys):
    model, cfg, store, trained = small
    good, record = EmbeddingStore(store), load_records("demo_ms3_test")[0]
    entries, identity = good.entries(), good.identity

    def problem(change):
        write_store(store, {name: change(tensor) for name, tensor in entries.items()}, identity)
        with pytest.raises(ValueError, match=r"store\.safetensors.* again") as error:
            model([AVSDatasetMapper(cfg, is_train=False)(record)])
        return str(error.value)

    assert "have 256 channels, expected 128" in problem(lambda one: one.repeat(1, 2))
    for change, found in (
        (torch.Tensor.long, "got torch.int64"),
        (lambda one: one / 0, "got NaN"),
        (lambda one: one[:2], "got [2, 128]"),
    ):
        assert found in problem(change)
        assert precompute("--weights", trained, "--output", store, options=SETS) == 2
        assert found in capsys.readouterr().err
    safetensors.torch.save_file(entries, store, {"format": "transavs-audio-embeddings-1"})
    assert precompute("--weights", trained, "--output", store, options=SETS) == 2
    assert "got another file" in capsys.readouterr().err


def test_a_sound_that_changes_is_computed_anew(small):
    model, cfg, *_ = small
    record = load_records("demo_ms3_test")[0]
    assert "audio_embeddings" in AVSDatasetMapper(cfg, is_train=False)(record)
    avsbench_trees.write_wav(
        type(small[2])(record["audio_file"]), np.sin(np.arange(80_000) / 9) / 3
    )
    clip = AVSDatasetMapper(cfg, is_train=False)(record)
    assert "audio_embeddings" not in clip and model([clip])[0]["masks"].shape[0] == 5


def test_embeddings_of_other_weights_are_refused(small, capsys):
    model, cfg, store, trained = small
    clip = AVSDatasetMapper(cfg, is_train=False)(load_records("demo_ms3_test")[0])
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["audio_encoder.embedding.bias"] += 1
    model.load_state_dict(state)
    with pytest.raises(ValueError, match="store.safetensors are of another encoder.*Compute them"):
        model([clip])
    SafeCheckpointer(model, str(store.parent)).save("other")
    other = store.parent / "other.pth"
    assert precompute("--weights", other, "--output", store, options=SETS) == 2
    assert "holds embeddings of another encoder" in capsys.readouterr().err
    model.audio_encoder.frozen = False
    with pytest.raises(ValueError, match="need a frozen encoder"):
        model([clip])


def test_embeddings_of_another_front_end_are_refused(small):
    _, cfg, *_ = small
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.AUDIO.NAME = "HTSAT"
    with pytest.raises(ValueError, match="another encoder .*SmallVGGish.*takes hts-at log-mel 320"):
        AVSDatasetMapper(cfg, is_train=False)
    cfg.INPUT.AUDIO_EMBEDDINGS, cfg.INPUT.AUDIO_SOURCE = "", "log_mel"
    with pytest.raises(ValueError, match="pickles of VGGish's front-end, .* takes hts-at"):
        AVSDatasetMapper(cfg, is_train=False)


def test_training_stops_before_work_without_the_file(datasets_env, capsys):
    words = [*tiny_models.TINY, *SETS, "INPUT.AUDIO_EMBEDDINGS", "no.safetensors"]
    assert train_net.main(["--config-file", "configs/ms3_R50.yaml", *words]) == 2
    assert "no precomputed embeddings at no.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "options", "message"), [
    (["--output", "store.pth"], [], "name --output FILE.safetensors, got 'store.pth'"),
    (["--output", "s.safetensors", "--datasets", ","], [], "no data sets: name --datasets"),
    (["--output", "s.safetensors", "--workers", "-1"], [], "--workers must be at least 0"),
    (["--output", "configs/x.safetensors/"], [], "name --output FILE.safetensors"),
    (["--output", "setup.py/s.safetensors"], [], "setup.py is a file, expected a folder"),
    (["--output", "s.safetensors", "--weights", "s.safetensors"], [], "overwrite --weights"),
    (["--output", "s.safetensors"], [], "no weights of SmallVGGish at MODEL.AUDIO.WEIGHTS ''"),
    (["--output", "s.safetensors"], ["INPUT.AUDIO_SOURCE", "log_mel"], "INPUT.AUDIO_SOURCE wav"),
    (["--output", "s.safetensors", "--weights", "no.pth"], [], "no.pth"),
])  # fmt: skip
def test_mistakes_are_told_in_a_line(datasets_env, arguments, options, message, capsys):
    assert precompute(*arguments, options=[*SETS, *options]) == 2
    assert message in capsys.readouterr().err
