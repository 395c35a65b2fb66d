"""Stands in for training and evaluation in tests of a grid: two commands that take no time.

Run as ``python fake_trainings.py train|evaluate ...`` with the arguments of ``train_net`` and
``eval_robustness``. The folder ``$FAKE_TRAININGS`` steers them by files
whose names say command, row and seed: ``fail-train-big-seed_1`` makes that training fail,
``wait-train-...`` lets it wait to be stopped, ``hang-train-...`` ignores the first two SIGINT,
``killed-train-...`` and ``nothing-train-...`` say what they do, ``finish-evaluate-...`` waits to be
stopped and then does its work. Each call adds a line to the file ``calls``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

#: M_J of a row by its name, to which the seed adds; see ``evaluate``.
BASE_SCORES = {"base": 60.0, "big": 70.0}


def commands() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """First words of the commands to train and to evaluate."""
    # Without site-packages Python starts within milliseconds.
    start = (sys.executable, "-I", "-S", __file__)
    return (*start, "train"), (*start, "evaluate")


def control() -> Path:
    return Path(os.environ["FAKE_TRAININGS"])


def train(words: list[str]) -> int:
    folder = Path(words[words.index("OUTPUT_DIR") + 1])
    what = f"train-{folder.parent.name}-{folder.name}"
    with (control() / "calls").open("a") as file:
        file.write(f"{what}{' --resume' if '--resume' in words else ''}\n")
    print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
    log_iteration(folder, 19)
    if (control() / f"fail-{what}").exists():
        print("first line\n\rstep 1\rstep 2\nout of memory", file=sys.stderr)
        return 3
    if (control() / f"killed-{what}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if (control() / f"hang-{what}").exists():
        wait_to_be_stopped(what, needed=3)
    if (control() / f"wait-{what}").exists():
        wait_to_be_stopped(what, needed=1)
        save(folder, "model_0000049")
        log_iteration(folder, 49)
        return 130
    save(folder, "model_0000099")
    if not (control() / f"nothing-{what}").exists():
        save(folder, "model_best" if "DATASETS.VAL" not in words else "model_final")
    log_iteration(folder, 99)
    return 0


def wait_to_be_stopped(what: str, needed: int) -> None:
    stops = []
    signal.signal(signal.SIGINT, lambda number, frame: stops.append(number))
    (control() / f"waiting-{what}").touch()
    while len(stops) < needed:
        time.sleep(0.01)


def save(folder: Path, name: str) -> None:
    (folder / f"{name}.pth").write_text("weights")
    (folder / "last_checkpoint").write_text(f"{name}.pth")


def log_iteration(folder: Path, iteration: int) -> None:
    with (folder / "metrics.json").open("a") as file:
        file.write(json.dumps({"iteration": iteration}) + "\n")


def evaluate(words: list[str]) -> int:
    """Scores that can be followed by hand: M_J is the row's number plus twice the seed."""
    merge = "--merge" in words
    words = [word for word in words if word != "--merge"]
    values = dict(zip(words[::2], words[1::2], strict=True))
    folder = Path(values["--output"]).parent
    what = f"evaluate-{folder.parent.name}-{folder.name}"
    with (control() / "calls").open("a") as file:
        file.write(f"{what}\n")
    assert Path(values["--weights"]).is_file()
    names = values["--datasets"].split(",")
    if any((control() / name).exists() for name in (f"fail-{what}", f"fail-{what}-{names[0]}")):
        return 1
    if (control() / f"finish-{what}").exists():
        wait_to_be_stopped(what, needed=1)
    if (control() / f"wait-{what}").exists():
        wait_to_be_stopped(what, needed=1)
        return 130
    results: dict[str, dict] = {"references": {}, "robustness": {}}
    if merge:
        results = json.loads(Path(values["--output"]).read_text())
    for dataset in names:
        m_j = BASE_SCORES[folder.parent.name] + 2 * int(folder.name.removeprefix("seed_"))
        scores = {"M_J": m_j, "M_J_nonempty": m_j - 10, "M_F": None, "query_cosine": 0.5}
        results[dataset] = dict.fromkeys(values["--conditions"].split(","), scores)
        results["robustness"][dataset] = {"G_mIoU": 50.0, "FPR": 0.01}
    Path(values["--output"]).write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    raise SystemExit({"train": train, "evaluate": evaluate}[sys.argv[1]](sys.argv[2:]))
