"""Stands in for training and evaluation in tests of a grid: two commands that take no time.

Run as ``python fake_trainings.py train|evaluate ...`` with the arguments of ``train_net`` and
``eval_robustness``. Files of the folder ``$FAKE_TRAININGS`` steer them by names that say command,
row and seed: ``fail-train-big-seed_1`` makes that training fail, ``wait-...`` lets it wait to be
stopped, ``hang-...`` ignores the first two SIGINT, ``killed-...`` and ``nothing-...`` say what they
do, ``finish-...`` waits to be stopped and then does its work. Each call adds a line to ``calls``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

#: First words of both commands. Without site-packages Python starts within milliseconds.
TRAIN = (sys.executable, "-I", "-S", __file__, "train")
EVALUATE = (*TRAIN[:-1], "evaluate")

#: M_J of a row by its name, to which twice the seed adds.
BASE_SCORES = {"base": 60.0, "big": 70.0}


def begin(what: str, note: str) -> Path:
    """Notes the call and does what the folder asks for; returns the folder."""
    folder = Path(os.environ["FAKE_TRAININGS"])
    with (folder / "calls").open("a") as file:
        file.write(f"{what}{note}\n")
    if (folder / f"fail-{what}").exists():
        print("first line\n\rstep 1\rstep 2\nout of memory", file=sys.stderr)
        raise SystemExit(3)
    if (folder / f"killed-{what}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    needed = {"hang": 3, "wait": 1, "finish": 1}
    stops: list[int] = []
    for word in [word for word in needed if (folder / f"{word}-{what}").exists()]:
        signal.signal(signal.SIGINT, lambda number, frame: stops.append(number))
        (folder / f"waiting-{what}").touch()
        deadline = time.monotonic() + 60
        while len(stops) < needed[word] and time.monotonic() < deadline:
            time.sleep(0.01)
        if word != "finish":
            raise SystemExit(130)
    return folder


def train(words: list[str]) -> None:
    folder = Path(words[words.index("OUTPUT_DIR") + 1])
    what = f"train-{folder.parent.name}-{folder.name}"
    print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
    (folder / "metrics.json").write_text('{"iteration": 1}\n{"iter')
    control = begin(what, " --resume" if "--resume" in words else "")
    names = ["model_0000099", "model_best" if "EVAL" in " ".join(words) else "model_final"]
    for name in names[: 1 if (control / f"nothing-{what}").exists() else 2]:
        (folder / f"{name}.pth").write_text("weights")
        (folder / "last_checkpoint").write_text("model_0000099.pth")


def evaluate(words: list[str]) -> None:
    options = [words.index(word) for word in words if word.startswith("--") and word != "--merge"]
    values = {words[index]: words[index + 1] for index in options}
    output = Path(values["--output"])
    row, seed = output.parent.parent.name, output.parent.name
    names = values["--datasets"].split(",")
    begin(f"evaluate-{row}-{seed}", f" {names[0]}" if "--merge" in words else "")
    assert Path(values["--weights"]).is_file()
    results: dict[str, dict] = json.loads(output.read_text()) if "--merge" in words else {}
    for dataset in names:
        m_j = BASE_SCORES[row] + 2 * int(seed.removeprefix("seed_"))
        scores = {"M_J": m_j, "M_J_nonempty": m_j - 10, "M_F": None, "query_cosine": 0.5}
        results[dataset] = dict.fromkeys(values["--conditions"].split(","), scores)
        results.setdefault("robustness", {})[dataset] = {"G_mIoU": 50.0, "FPR": 0.01}
    output.write_text(json.dumps(results))


if __name__ == "__main__":
    {"train": train, "evaluate": evaluate}[sys.argv[1]](sys.argv[2:])
