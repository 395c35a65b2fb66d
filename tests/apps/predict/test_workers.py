"""Workers that die, hang or fail take nothing with them, here and on a Ray cluster."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pretended_model
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("pebble")

from transavs.apps.predict import workers  # noqa: E402
from transavs.apps.predict.manifest import Item  # noqa: E402
from transavs.apps.predict.workers import LocalWorker, check_address, run_workers  # noqa: E402


def items(folder, *names):
    return [Item(index, name, folder=str(folder)) for index, name in enumerate(names)]


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(happened, seconds=60.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def check(outcomes, names, failed):
    """Every item comes back once; those of ``failed`` with an error that names its value."""
    found = {one.index: one for one in outcomes}
    assert sorted(one.index for one in outcomes) == list(range(len(names)))
    assert {names[index] for index, one in found.items() if one.rows is None} == set(failed)
    for index, one in found.items():
        if one.rows is None:
            assert failed[names[index]] in one.error
        else:
            assert one.rows == pretended_model.rows(index)


def test_an_item_that_kills_hangs_or_fails_costs_itself_alone(tmp_path):
    names = ["good", "crash", "crash once", "error", "sleep", "unforeseen", *["good"] * 9]
    pool = [LocalWorker(pretended_model.load) for _ in range(2)]
    outcomes = list(run_workers(items(tmp_path, *names), pool, attempts=2, timeout=3))
    failed = {
        "crash": "exit code -11 (attempt 2)",
        "sleep": "TimeoutError: 3 s",
        "error": "no video",
        "unforeseen": "RuntimeError: in disorder",
    }
    check(outcomes, names, failed)
    assert not is_alive(int((tmp_path / "asleep").read_text()))


@pytest.mark.parametrize(
    ("load", "error", "told"),
    [
        (pretended_model.refuse, ValueError, "no such model"),
        (pretended_model.die, RuntimeError, "exit code 4.*fewer --workers"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path, monkeypatch, load, error, told):
    monkeypatch.setattr(workers, "_MOST_DEATHS_AT_START", 2)
    with pytest.raises(error, match=told):
        list(run_workers(items(tmp_path, "good"), [LocalWorker(load)]))


def test_stopping_ends_the_processes(tmp_path):
    pool = [LocalWorker(pretended_model.load) for _ in range(2)]
    asleep = tmp_path / "asleep"
    outcomes = run_workers(items(tmp_path, "good", "sleep"), pool, should_stop=asleep.exists)
    assert [one.index for one in outcomes] in ([0], [])
    assert not is_alive(int(asleep.read_text()))


def test_workers_end_with_a_killed_main_process(tmp_path):
    program = (
        "import pretended_model; from transavs.apps.predict.workers import *\n"
        f"items = [Item(0, 'sleep', folder={str(tmp_path)!r})]\n"
        "list(run_workers(items, [LocalWorker(pretended_model.load)]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    main = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        wait_for((tmp_path / "asleep").exists)
        wait_for((tmp_path / "asleep").read_text)
    finally:
        main.send_signal(signal.SIGKILL)
        main.wait()
    worker = int((tmp_path / "asleep").read_text())
    wait_for(lambda: not is_alive(worker), 10)


def test_on_ray(tmp_path, monkeypatch):
    """A cluster on this machine."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # what actors import
    ray = pytest.importorskip("ray")
    names = ["good", "crash once", "crash", "error", "unforeseen", "sleep", *["good"] * 4]
    try:
        pool = workers.ray_workers(pretended_model.load, "local", 1, use_gpus=False)
        outcomes = list(run_workers(items(tmp_path, *names), pool, timeout=5))
    finally:
        ray.shutdown()
    failed = {"crash": "Actor", "error": "no video", "unforeseen": "in disorder", "sleep": "5 s"}
    check(outcomes, names, failed)
    assert (tmp_path / "met 1").exists()


class TestTheAddressOfACluster:
    """It is tried before any work: Ray itself would ask on for minutes."""

    @pytest.fixture
    def serve(self):
        """A server that answers each greeting with these bytes; returns its address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def start(answer):
                def work():
                    while True:
                        try:
                            connection = listener.accept()[0]
                        except OSError:
                            return
                        connection.recv(9)
                        connection.sendall(answer)
                        opened.append(connection)

                opened = []
                threading.Thread(target=work, daemon=True).start()
                return f"127.0.0.1:{listener.getsockname()[1]}"

            yield start

    @pytest.mark.parametrize("scheme", ["", "ray://"])
    def test_one_that_answers(self, serve, scheme):
        check_address(scheme + serve(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])))

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
    def test_another_server(self, serve, answer, monkeypatch):
        monkeypatch.setattr(workers, "_ANSWER_SECONDS", 0.3)
        address = serve(answer)
        with pytest.raises(ValueError, match=f"no Ray cluster at '{address}'.*ray start --head"):
            check_address(address)

    @pytest.mark.parametrize("address", ["nowhere", "http://10.0.0.1:6379", "10.0.0.1:", ":1"])
    def test_no_address(self, address):
        with pytest.raises(ValueError, match="--ray must be HOST:PORT"):
            check_address(address)

    def test_what_ray_looks_for_itself(self):
        check_address("local")
        check_address("auto")
