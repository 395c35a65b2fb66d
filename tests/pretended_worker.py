"""A worker process that loads no model: what it does is written in an item's id.

It speaks the protocol of transavs/engine/prediction/worker.py with the standard library alone, so
that it starts in a moment. Its settings' ``weights`` say how it begins.
"""

import json
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

COMMAND = (sys.executable, __file__)
DESCRIPTION = {"weights": "pretended"}


def rows(index: int) -> list[dict]:
    """What is said of an item."""
    row = {"frame": 0, "seconds": 0.5, "height": 2, "width": 3, "counts": "6", "score": index / 8}
    return [{**row, "classes": None, "class_counts": None}]


def first_time(item: dict) -> bool:
    """Whether an item is met for the first time, in any process."""
    path = Path(item["folder"], f"met {item['index']}")
    if path.exists():
        return False
    path.touch()
    return True


def answer(item: dict) -> list:
    name = item["id"].split()[0]
    if name == "exit":
        os._exit(3)
    if name == "crash" or (name == "crash_once" and first_time(item)):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "kill_parent" and first_time(item):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if name == "sleep":
        Path(item["folder"], "asleep").touch()
        time.sleep(60)
    if name in ("error", "broken"):
        return [name, f"{name} {item['index']}"]
    return ["rows", rows(item["index"])]


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    beginning = json.loads(connection.recv_bytes())["weights"]
    if beginning == "die":
        sys.exit(4)
    if beginning == "refuse":
        connection.send_bytes(json.dumps(["error", "no such model"]).encode())
        return
    connection.send_bytes(json.dumps(["ready", DESCRIPTION]).encode())
    while True:
        reply = answer(json.loads(connection.recv_bytes()))
        connection.send_bytes(json.dumps(reply).encode())
        if reply[0] == "broken":
            return


if __name__ == "__main__":
    try:
        main()
    except EOFError:
        pass
