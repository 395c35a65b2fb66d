"""train_net: one process and two, evaluation alone, Ctrl-C and --resume, answers to mistakes."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_trainings
import tiny_models
import torch
from detectron2.utils import logger as d2_logger
from mistakes import contents

from transavs.config import setup_cfg
from transavs.engine.distributed import Job
from transavs.tools import train_net

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def surroundings_as_before(monkeypatch):
    """The command hides the GPUs from detectron2, for the whole process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def reports(monkeypatch) -> list[dict]:
    """The scores that the command ends with."""
    found: list[dict] = []
    run = train_net.run

    def recorded(args):
        results = run(args)
        if results is not None:
            found.append(results)
        return results

    monkeypatch.setattr(train_net, "run", recorded)
    return found


def words(folder: Path, *opts: object, config: str = "s4_R101.yaml", flags=()) -> list[str]:
    """The command line of a tiny training into ``folder``."""
    options = [*tiny_models.TINY, "SOLVER.MAX_ITER", 3, "OUTPUT_DIR", folder, *opts]
    return ["--config-file", config, "--num-gpus", "1", *flags, *map(str, options)]


def run_as_a_process(arguments: list[str]) -> int:
    """Runs the command, and lets go of its log files as the end of a process does."""
    try:
        return train_net.main(arguments)
    finally:
        for name in ("detectron2", "fvcore", "transavs"):
            for handler in logging.getLogger(name).handlers:
                handler.flush()
            logging.getLogger(name).handlers.clear()
        d2_logger.setup_logger.cache_clear()
        d2_logger._cached_log_stream.cache_clear()


def logged(folder: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        values |= json.loads(line)
    return values


def test_train_then_eval_only_repeats_the_score(datasets_env, tmp_path, reports):
    folder = tmp_path / "run"
    assert train_net.main(words(folder, "TEST.EVAL_PERIOD", 1)) == 0
    for name in ("config.yaml", "log.txt", "metrics.json", "model_final.pth", "model_best.pth"):
        assert (folder / name).is_file(), name
    assert train_net.main(
        words(tmp_path / "again", "MODEL.WEIGHTS", folder / "model_best.pth", flags=["--eval-only"])
    ) == 0  # fmt: skip
    trained, repeated = reports
    assert trained["avs"] == pytest.approx(repeated["avs"], nan_ok=True, abs=0)
    assert trained["avs"]["clips"] == 1
    # The library's own messages are in the log, too.
    assert "Best avs/M_J so far" in (folder / "log.txt").read_text()
    # --resume evaluates the last checkpoint instead.
    assert train_net.main(words(folder, flags=["--eval-only", "--resume"])) == 0


def test_two_runs_with_a_seed_are_the_same_to_the_bit(datasets_env, tmp_path):
    """From the first weights on, whatever the generators of the process are when it starts."""
    options = ("SEED", 3, "MODEL.TRANSAVS.DROPOUT", 0.1, "TEST.EVAL_PERIOD", 1)
    for number, name in enumerate(("one", "two")):
        torch.manual_seed(number)
        assert train_net.main(words(tmp_path / name, *options)) == 0
    for name in ("model_final.pth", "model_best.pth"):
        states = [torch.load(tmp_path / run / name)["model"] for run in ("one", "two")]
        assert states[0].keys() == states[1].keys()
        for tensor, value in states[0].items():
            assert torch.equal(value, states[1][tensor]), tensor
    logs = [small_trainings.metrics(tmp_path / run / "metrics.json") for run in ("one", "two")]
    assert logs[0] == logs[1]


def test_resuming_from_damaged_checkpoints(datasets_env, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ("SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.TEST", "()", "DATASETS.VAL", "()")
    assert train_net.main(words(folder, *options)) == 0
    expected = torch.load(folder / "model_final.pth")["model"]
    for name in ("model_final.pth", "model_0000002.pth"):
        (folder / name).write_bytes((folder / name).read_bytes()[:5000])
    assert run_as_a_process(words(folder, *options, flags=["--resume"])) == 0
    found = torch.load(folder / "model_final.pth")["model"]
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert "Going on from" in (folder / "log.txt").read_text()
    for path in folder.glob("model_*.pth"):
        path.write_bytes(path.read_bytes()[:5000])
    before = contents(folder)
    message = error_of(capsys, words(folder, *options, "SEED", 5, flags=["--resume"]))
    assert "can be read" in message and "model_0000001.pth (" in message
    assert contents(folder) == before


def test_a_refused_run_leaves_the_files_of_another_as_they_are(datasets_env, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ("DATASETS.TEST", "()", "DATASETS.VAL", "()")
    assert run_as_a_process(words(folder, *options)) == 0
    before = contents(folder)
    assert {"config.yaml", "log.txt"} <= before.keys()
    for change, flags, told in (
        (("MODEL.TRANSAVS.NUM_QUERIES", 4), ["--resume"], "MODEL.TRANSAVS.NUM_QUERIES"),
        (("MODEL.BACKBONE.FREEZE", True), ["--resume"], "go on with its config.yaml"),
        (("SOLVER.MAX_ITER", 2), ["--resume"], "SOLVER.MAX_ITER is 2, but "),
        (("MODEL.WEIGHTS", tmp_path / "none.pth"), [], "no checkpoint at"),
    ):
        assert told in error_of(capsys, words(folder, *options, *change, flags=flags))
        assert contents(folder) == before, change
    # Nor does one that could not begin stand in a new folder.
    error_of(capsys, words(tmp_path / "new", "MODEL.WEIGHTS", tmp_path / "none.pth"))
    assert not contents(tmp_path / "new")
    # What is logged goes on behind what was there.
    assert run_as_a_process(words(folder, *options, "SOLVER.MAX_ITER", 4, flags=["--resume"])) == 0
    assert (folder / "log.txt").read_bytes().startswith(before["log.txt"])
    assert "Starting training from iteration 3" in (folder / "log.txt").read_text()


def test_without_test_sets_nothing_is_reported(datasets_env, tmp_path, reports):
    assert train_net.main(words(tmp_path / "run", "DATASETS.TEST", "()")) == 0
    assert reports == []


def test_two_processes_train_like_one(datasets_env, tmp_path):
    """The same global batches; sums in another order differ in their last digits."""
    # Group norm refuses the single value a channel that one clip of 32 pixels leaves at stride 32.
    options = ("TEST.EVAL_PERIOD", 2, "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.CROP.SIZE", "[64,64]")
    assert train_net.main(words(tmp_path / "one", *options)) == 0
    command = words(tmp_path / "two", *options)
    command[command.index("--num-gpus") + 1] = "2"
    assert train_net.main(["--dist-url", "auto", *command]) == 0
    first, second = logged(tmp_path / "one"), logged(tmp_path / "two")
    for name in first:
        if "loss" in name:
            assert second[name] == pytest.approx(first[name], rel=1e-4, abs=1e-5), name
    assert second["avs/clips"] == 1
    states = [torch.load(tmp_path / name / "model_final.pth")["model"] for name in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        # The parameters moved by up to 0.003; 1e-5 is the largest difference seen.
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_and_resume(datasets_env, tmp_path, reports, processes):
    folder = tmp_path / "run"
    sizes = ("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.CROP.SIZE", "[64,64]")
    endless = words(folder, "SOLVER.MAX_ITER", 100000, "DATALOADER.NUM_WORKERS", 2, *sizes)
    endless[endless.index("--num-gpus") + 1] = str(processes)
    printed, logged_losses = tmp_path / "printed.txt", folder / "metrics.json"
    with printed.open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, "tools/train_net.py", *endless],
            cwd=REPOSITORY,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not (logged_losses.exists() and logged_losses.stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline, printed.read_text()
            time.sleep(0.2)
        if processes == 1:
            # A terminal sends it to every process of the group.
            os.killpg(process.pid, signal.SIGINT)
        else:
            os.kill(process.pid, signal.SIGTERM)
        started = time.monotonic()
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    output = printed.read_text()
    assert process.returncode == 130, output
    assert time.monotonic() - started < 20
    assert output.count("Stopping after this step") == 1
    assert "The same command with --resume continues from here" in output
    assert "Traceback" not in output
    name = (folder / "last_checkpoint").read_text()
    iteration = torch.load(folder / name)["iteration"]
    assert iteration >= 19 and name == f"model_{iteration:07d}.pth"
    assert (
        train_net.main(words(folder, "SOLVER.MAX_ITER", iteration + 3, *sizes, flags=["--resume"]))
        == 0
    )
    assert f"Starting training from iteration {iteration + 1}" in (folder / "log.txt").read_text()
    assert (folder / "model_final.pth").is_file()


def error_of(capsys, arguments: list[str]) -> str:
    assert run_as_a_process(arguments) == 2
    written = capsys.readouterr().err
    assert "train_net: error: " in written
    return written.split("train_net: error: ")[-1]


def test_checkpoint_of_another_number_of_queries(datasets_env, tmp_path, capsys):
    model = tiny_models.tiny_model("MODEL.TRANSAVS.NUM_QUERIES", 4)
    torch.save({"model": model.state_dict()}, tmp_path / "four.pth")
    for flags in (["--eval-only"], []):
        message = error_of(
            capsys,
            words(
                tmp_path / "run", "MODEL.WEIGHTS", tmp_path / "four.pth",
                config="s4_R50.yaml", flags=flags,
            ),
        )  # fmt: skip
        assert "query_generator.time_mixture (file [4, 5], model [5, 5])" in message
        assert "MODEL.TRANSAVS.NUM_QUERIES" in message


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("backbone.pth", "backbone.pth holds a part of this model only"),
        ("backbone.pth?matching_heuristics=True", "to start a training from"),
        ("detectron2://ImageNetPretrained/MSRA/R-101.pkl", "to start a training from"),
        ("", "no weights"),
        ("nan.pth", "nan.pth holds NaN"),
    ],
)
def test_evaluation_needs_a_whole_model(datasets_env, tmp_path, capsys, weights, told):
    """Training may start from any of them, but the scores would be those of a random decoder."""
    state = tiny_models.tiny_model().state_dict()
    if weights == "nan.pth":
        state["query_generator.time_mixture"].fill_(torch.nan)
        torch.save({"model": state}, tmp_path / weights)
        weights = tmp_path / weights
    backbone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    if str(weights).startswith("backbone"):
        weights = tmp_path / weights
    folder = tmp_path / "run"
    for flags in (["--eval-only"], ["--eval-only", "--resume"]):
        command = words(folder, "MODEL.WEIGHTS", weights, config="s4_R50.yaml", flags=flags)
        message = error_of(capsys, command)
        assert told in message and re.search("name (the|a) checkpoint", message.lower())
    assert not folder.exists()


def test_keys_of_detectron2_and_the_home_folder(datasets_env, tmp_path, monkeypatch):
    """Those that change nothing are named; those that do are applied before anything is checked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    options = (
        "TEST.AUG.ENABLED", True, "SOLVER.BIAS_LR_FACTOR", 2.0, "DATASETS.TEST", "()",
        "SOLVER.REFERENCE_WORLD_SIZE", 2, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 1,
        "SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.VAL", "()",
    )  # fmt: skip
    assert run_as_a_process(words("~/run", *options)) == 0
    log = (tmp_path / "run/log.txt").read_text()
    assert "TEST.AUG.ENABLED True" in log and "SOLVER.BIAS_LR_FACTOR 2.0" in log
    assert "SOLVER.MOMENTUM" not in re.findall("change nothing: .*", log)[0]
    assert "from SOLVER.REFERENCE_WORLD_SIZE 2 to the 1 processes: 2 clips" in log
    # What the training ran with, and what would run the same without the key.
    written = setup_cfg(str(tmp_path / "run/config.yaml"))
    assert (written.SOLVER.IMS_PER_BATCH, written.SOLVER.MAX_ITER) == (2, 2)
    assert written.OUTPUT_DIR == str(tmp_path / "run")
    assert (tmp_path / "run/model_0000001.pth").is_file()


def test_the_batch_is_checked_as_it_will_be(datasets_env, tmp_path):
    def check(processes, *options):
        cfg = tiny_models.tiny_cfg("OUTPUT_DIR", tmp_path, *options)
        train_net.check_before_work(cfg, SimpleNamespace(eval_only=False), Job(processes))

    with pytest.raises(ValueError, match=r"IMS_PER_BATCH \(4\) must be a multiple of the 3"):
        check(3, "SOLVER.IMS_PER_BATCH", 4)
    check(3, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_WORLD_SIZE", 2)
    for reference in (3, -2):
        with pytest.raises(ValueError, match=f"REFERENCE_WORLD_SIZE must be .*, got {reference}"):
            check(2, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_WORLD_SIZE", reference)


def test_broken_and_missing_checkpoints(datasets_env, tmp_path, capsys):
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04 half a file")
    for name, message in (("half.pth", "not a checkpoint"), ("no.pth", "no checkpoint ")):
        command = words(tmp_path / "run", "MODEL.WEIGHTS", tmp_path / name, flags=["--eval-only"])
        assert message in error_of(capsys, command)


def test_mistakes_in_the_configuration(tmp_path, capsys):
    folder = tmp_path / "run"
    assert "near it: MODEL.TRANSAVS.NUM_QUERIES" in error_of(
        capsys, words(folder, "MODEL.TRANSAVS.NUM_QUERYS", 3)
    )
    assert "odd number of words" in error_of(capsys, words(folder, "SEED"))
    assert "no config file" in error_of(capsys, words(folder, config="s5_R101.yaml"))
    assert "no data set is called 'avsbench_s5_train'" in error_of(
        capsys, words(folder, "DATASETS.TRAIN", "('avsbench_s5_train',)")
    )


def test_mistakes_that_would_end_the_work_are_told_before_it(datasets_env, tmp_path, capsys):
    """And nothing is made in vain."""
    folder, file = tmp_path / "run", tmp_path / "file"
    file.write_text("in the way")
    frozen = ("MODEL.BACKBONE.FREEZE", True, "MODEL.BACKBONE.CACHE")
    for place in (file, file / "below"):
        message = error_of(capsys, words(folder, *frozen, place))
        assert f"MODEL.BACKBONE.CACHE: {file} is a file, expected a folder" in message
    message = error_of(capsys, words(folder, "MODEL.COMPILE", "inductr"))
    assert "must be a backend of torch.compile" in message
    # Found when the model is there.
    assert "none.pth" in error_of(capsys, words(folder, "MODEL.WEIGHTS", tmp_path / "none.pth"))
    assert {path.name for path in tmp_path.iterdir()} == {"file", datasets_env.name}


def test_one_training_in_a_folder_at_a_time(datasets_env, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("of the other")
    with small_trainings.another_at_work(folder) as process:
        message = error_of(capsys, words(folder))
        assert f"another command is at work in {folder}: process {process}" in message
        assert (folder / "config.yaml").read_text() == "of the other"
        assert not (folder / "log.txt").exists()
    assert run_as_a_process(words(folder, "SOLVER.MAX_ITER", 1)) == 0
    assert not list(folder.glob(".*"))


def test_no_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in error_of(capsys, words(tmp_path / "run"))


def test_missing_sound_is_found_before_training(datasets_env, tmp_path, capsys):
    sounds = sorted((datasets_env / "Single-source").rglob("train/*/*.wav"))
    sounds[0].unlink()
    message = error_of(capsys, words(tmp_path / "run"))
    assert sounds[0].name in message
    assert not list((tmp_path / "run").glob("*.pth"))


def test_batch_that_the_processes_cannot_share(datasets_env, tmp_path):
    command = words(tmp_path / "run", "SOLVER.IMS_PER_BATCH", 0)
    assert train_net.main(command) == 2


def test_robustness_after_training_and_by_eval_only(datasets_env, tmp_path, reports):
    folder = tmp_path / "run"
    silence = ("TEST.ROBUSTNESS", "('silence','noise')", "TEST.EVAL_PERIOD", 3)
    assert train_net.main(words(folder, *silence)) == 0
    # Validation, which the metrics are of, is by the clips' own sound.
    assert not [name for name in logged(folder) if "silence" in name or "query_" in name]
    path = folder / "robustness.json"
    first = path.read_text()
    assert list(json.loads(first)["avsbench_s4_test"]) == ["original", "silence", "noise"]
    path.unlink()
    weights = ("MODEL.WEIGHTS", folder / "model_best.pth")
    assert train_net.main(words(folder, *silence, *weights, flags=["--eval-only"])) == 0
    assert path.read_text() == first
    for results in reports:
        assert list(results) == ["avs", "robustness"]
    assert reports[0]["robustness"] == reports[1]["robustness"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.BACKBONE.NAME", "build_foo"], "MODEL.BACKBONE.NAME must be one of .*'build_foo'"),
        (["MODEL.DEVICE", "cud"], "MODEL.DEVICE must be 'cpu' or 'cuda'"),
        (["DATASETS.TEST", "('nobody_test',)"], "no data set is called 'nobody_test'"),
        (["DATASETS.VAL", "('nobody_val',)"], "no data set is called 'nobody_val'"),
        (["MODEL.TRANSAVS.NUM_QUERIES", "0"], "NUM_QUERIES must be at least 1"),
        (["SOLVER.IMS_PER_BATCH", "0"], "IMS_PER_BATCH must be at least 1"),
        # One clip has nobody to exchange its sound with.
        (["TEST.ROBUSTNESS", "('silence','shuffled')"], "'shuffled': .* at least 2 clips, got 1"),
        (["TEST.ROBUSTNESS", "('quiet',)"], "TEST.ROBUSTNESS must be some of .*, got quiet"),
    ],
)
def test_mistakes_are_told_before_any_work(
    overrides: list[str], words: str, tmp_path: Path, capsys, datasets_env
) -> None:
    output = tmp_path / "run"
    arguments = ["--config-file", "configs/demo/demo_ms3.yaml", "OUTPUT_DIR", str(output)]
    assert train_net.main([*arguments, *overrides]) == 2
    assert re.search(f"train_net: error: .*{words}", capsys.readouterr().err)
    assert not list(output.glob("*"))


def test_an_output_folder_that_cannot_be(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "run")
    assert (
        train_net.main(["--config-file", "configs/demo/demo_ms3.yaml", "OUTPUT_DIR", folder]) == 2
    )
    told = capsys.readouterr().err
    assert f"OUTPUT_DIR: {tmp_path / 'file'} is a file, expected a folder" in told


def test_a_batch_that_the_processes_cannot_share(tmp_path: Path, capsys) -> None:
    arguments = ["--config-file", "configs/demo/demo_ms3.yaml", "--num-gpus", "2"]
    assert (
        train_net.main([*arguments, "SOLVER.IMS_PER_BATCH", "3", "OUTPUT_DIR", str(tmp_path)]) == 2
    )
    assert "must be a multiple of the 2 processes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FloatingPointError("iteration 3: total_loss is nan"), "iteration 3: total_loss is nan"),
        (RuntimeError("[gloo/tcp] Connection reset by peer"), "another process ended"),
        (ValueError("a.png is truncated"), "a.png is truncated"),
        (KeyError("masks"), None),
    ],
)
def test_the_log_has_tracebacks_of_our_mistakes_alone(error, told):
    try:
        raise error
    except Exception:
        record = logging.LogRecord("d2", logging.ERROR, "", 0, "Exception", (), sys.exc_info())
    assert train_net._in_a_line(record)
    assert (record.exc_info is None) == (told is not None)
    if told is not None:
        assert record.getMessage().startswith(f"Training failed: {told}")
