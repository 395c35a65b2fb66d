"""The soak: what is sampled, what counts as flat, and the command."""

import json
import multiprocessing
import os

import pytest
from tiny_models import TINY

from transavs.engine.benchmark import format_soak, summarize_soak
from transavs.engine.benchmark.soak import QUANTITIES, give_back_free_memory, held
from transavs.tools.benchmark import main


def samples_of(memory: list[float], files: list[float]) -> list[dict[str, float]]:
    others = dict.fromkeys(QUANTITIES, 7.0)
    return [
        {**others, "iteration": 10.0 * (i + 1), "rss_bytes": m, "files": f}
        for i, (m, f) in enumerate(zip(memory, files, strict=True))
    ]


def test_what_stays_is_flat():
    # The first two of eight samples are the warm-up.
    memory = [1.0, 50.0, 100.0, 101.0, 98.5, 101.5, 100.0, 100.0]
    found = summarize_soak(samples_of(memory, [4, 4, 4, 6, 4, 4, 6, 4]))
    rss = found["rss_bytes"]
    assert (rss["first"], rss["median"], rss["last"]) == (100.0, 100.0, 100.0)
    assert (rss["fall"], rss["rise"]) == pytest.approx((0.015, 0.015)) and rss["flat"]
    # Slope of the six over -2.5 ... 2.5: (-250 - 151.5 - 49.25 + 50.75 + 150 + 250) / 17.5 = 0.
    assert rss["drift"] == pytest.approx(0, abs=1e-12)
    assert all(found[name]["flat"] for name in QUANTITIES if name != "files")
    assert "NO" not in format_soak({"rss_bytes": rss})


@pytest.mark.parametrize("extreme", [97.5, 102.5])
def test_memory_that_falls_or_rises_is_not_flat(extreme):
    memory = [100.0, 100.0, 100.0, 100.0, extreme, 100.0, 100.0, 100.0]
    rss = summarize_soak(samples_of(memory, memory))["rss_bytes"]
    assert not rss["flat"] and abs(rss["drift"]) < 0.02
    assert "NO" in format_soak({"rss_bytes": rss})


def test_a_leak_is_no_flat_line():
    grows = [100.0 + i for i in range(8)]
    found = summarize_soak(samples_of(grows, grows))
    for name in ("rss_bytes", "files"):
        # Six samples from 102 to 107.
        assert found[name]["drift"] == pytest.approx(5 / 104.5)
        assert found[name]["rise"] == pytest.approx(2.5 / 104.5) and not found[name]["flat"]
    assert "NO" in format_soak(found)
    with pytest.raises(ValueError, match="train longer"):
        summarize_soak(samples_of([1.0], [1.0]))


def test_freed_memory_is_given_back():
    give_back_free_memory()
    before = held(os.getpid())["rss_bytes"]
    # Small blocks, which come from the heap, and one behind them that stays.
    blocks = [bytes(1000) for _ in range(200_000)]
    last = blocks[-1]
    del blocks
    give_back_free_memory()
    assert last and held(os.getpid())["rss_bytes"] - before < 100e6


def test_children_and_files_are_counted(tmp_path):
    before = held(os.getpid())
    assert 10e6 < before["own_bytes"] <= before["rss_bytes"] < 1e12
    context = multiprocessing.get_context("fork")
    wake, woken = context.Pipe()
    child = context.Process(target=woken.recv)
    child.start()
    try:
        with open(tmp_path / "file", "w"):
            after = held(os.getpid())
        assert after["processes"] == before["processes"] + 1
        assert after["threads"] >= 2  # one each at least: others end when they like
        assert after["rss_bytes"] > before["rss_bytes"] and after["files"] > before["files"]
    finally:
        wake.send(None)
        child.join()


def test_the_command_trains_and_draws(datasets_env, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path = tmp_path / "soak.json"
    arguments = ["--config-file", "s4_R50.yaml", "--soak", "4", "--soak-period", "1"]
    # So short a training may well hold more at its end than at its start.
    assert main([*arguments, "--output", str(path), *TINY, "SOLVER.MAX_ITER", "4"]) in (0, 1)
    data = json.loads(path.read_text())
    assert [sample["iteration"] for sample in data["soak"]["samples"]] == [1, 2, 3, 4]
    assert data["soak"]["summary"]["processes"]["flat"] == 1
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "resident memory, MB" in capsys.readouterr().out


def test_too_short_a_soak_is_refused(capsys):
    assert main(["--config-file", "s4_R50.yaml", "--soak", "30"]) == 2
    assert "--soak 30 is too short for a sample every 10 iterations" in capsys.readouterr().err


def test_a_soak_that_shall_scale_is_refused(capsys):
    assert main(["--config-file", "s4_R50.yaml", "--soak", "40", "--scaling"]) == 2
    assert "--soak and --scaling exclude each other" in capsys.readouterr().err
