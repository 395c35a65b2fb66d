"""Workers that die, hang or fail take nothing with them, here and on a Ray cluster."""

import os
import signal
import threading
import time
from contextlib import closing

import pretended_worker
import pytest

pytest.importorskip("pyarrow")

from transavs.engine.prediction.guarded_worker import GuardedWorker, Stopped  # noqa: E402
from transavs.engine.prediction.local import run_locally  # noqa: E402
from transavs.engine.prediction.manifest import Item  # noqa: E402
from transavs.engine.prediction.on_ray import run_on_ray  # noqa: E402
from transavs.engine.prediction.outcome import Outcome  # noqa: E402
from transavs.engine.prediction.settings import Settings  # noqa: E402


def item(name, folder, index=0):
    return Item(index, name, video="film.mp4", folder=str(folder))


def worker(beginning="", **options):
    settings = Settings("", beginning)
    return GuardedWorker(settings, command=pretended_worker.COMMAND, **options)


@pytest.fixture
def guarded():
    with closing(worker(timeout_seconds=None)) as one:
        yield one


def wait_for(happened, seconds=60.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class TestGuardedWorker:
    def test_one_process_answers_item_after_item(self, guarded, tmp_path):
        assert guarded.pid is None
        first = guarded.ask(item("good", tmp_path, 1))
        pid = guarded.pid
        assert first == Outcome(1, rows=pretended_worker.rows(1))
        assert guarded.ask(item("error", tmp_path, 2)) == Outcome(2, error="error 2")
        assert guarded.ask(item("good", tmp_path, 3)).rows and guarded.pid == pid

    @pytest.mark.parametrize(
        ("name", "end"), [("crash", "signal 11, SIGSEGV"), ("exit", "exit code 3")]
    )
    def test_an_item_that_kills_is_set_aside(self, guarded, tmp_path, name, end):
        outcome = guarded.ask(item(name, tmp_path))
        assert outcome == Outcome(0, error=f"its worker process died 2 times ({end})")
        assert guarded.ask(item("good", tmp_path)).rows

    def test_a_process_that_dies_once_loses_nothing(self, guarded, tmp_path, caplog):
        assert guarded.ask(item("crash_once", tmp_path)).rows
        assert "a worker ended (signal 11, SIGSEGV) over crash_once, time 1" in caplog.text

    def test_killed_between_two_items(self, guarded, tmp_path):
        guarded.ask(item("good", tmp_path))
        os.kill(guarded.pid, signal.SIGKILL)
        assert guarded.ask(item("good", tmp_path)).rows

    def test_a_disordered_process_is_replaced(self, guarded, tmp_path):
        guarded.ask(item("good", tmp_path))
        pid = guarded.pid
        assert guarded.ask(item("broken", tmp_path)) == Outcome(0, error="broken 0")
        assert guarded.ask(item("good", tmp_path)).rows and guarded.pid != pid

    def test_an_item_that_takes_too_long(self, tmp_path):
        with closing(worker(timeout_seconds=0.05)) as one:
            assert one.ask(item("sleep", tmp_path)).error == "took longer than 0.05 s"

    def test_a_process_that_cannot_begin(self, tmp_path, caplog):
        with pytest.raises(RuntimeError, match=r"died 3 times \(exit code 4\).*fewer --workers"):
            worker("die").ask(item("good", tmp_path))
        with closing(worker("refuse")) as one, pytest.raises(ValueError, match="no such model"):
            one.ask(item("good", tmp_path))

    def test_another_model(self, tmp_path):
        with closing(worker(description=pretended_worker.DESCRIPTION)) as one:
            assert one.ask(item("good", tmp_path)).rows
        with closing(worker(description={"weights": "here"})) as one:
            with pytest.raises(ValueError, match="is another than the one here"):
                one.ask(item("good", tmp_path))

    def test_stopped_amid_an_item(self, guarded, tmp_path):
        found = []

        def ask():
            try:
                guarded.ask(item("sleep", tmp_path))
            except Stopped as error:
                found.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_for((tmp_path / "asleep").exists)
        guarded.stop()
        thread.join(60)
        assert len(found) == 1 and guarded.pid is None
        with pytest.raises(Stopped):
            guarded.ask(item("good", tmp_path))


class TestLocally:
    def test_all_items_come_back_once(self, tmp_path):
        names = ["good", "crash", "good", "crash_once", "error", "exit", *["good"] * 20]
        items = [item(name, tmp_path, index) for index, name in enumerate(names)]
        outcomes = list(run_locally(items, lambda number: worker(), 3))
        assert sorted(one.index for one in outcomes) == list(range(len(items)))
        failed = {one.index for one in outcomes if one.rows is None}
        assert failed == {1, 4, 5}

    def test_stopping_ends_the_processes(self, tmp_path):
        workers = []

        def make(number):
            workers.append(worker())
            return workers[-1]

        items = [item("good", tmp_path, 0), item("sleep", tmp_path, 1)]
        outcomes = run_locally(items, make, 2, (tmp_path / "asleep").exists)
        assert [one.index for one in outcomes] in ([0], [])
        assert len(workers) == 2 and [one.pid for one in workers] == [None, None]

    def test_an_error_of_a_beginning_worker_ends_the_run(self, tmp_path):
        items = [item("good", tmp_path, index) for index in range(3)]
        with pytest.raises(ValueError, match="no such model"):
            list(run_locally(items, lambda number: worker("refuse"), 2))


def test_on_ray_with_an_actor_that_is_killed(tmp_path):
    """A cluster on this machine; one item kills the actor that has it, the first time."""
    pytest.importorskip("ray.data")
    names = ["good", "kill_parent", "crash", "error", *["good"] * 6]
    items = [item(name, tmp_path, index) for index, name in enumerate(names)]
    outcomes = list(
        run_on_ray(
            items,
            Settings("", ""),
            pretended_worker.DESCRIPTION,
            count=1,
            command=pretended_worker.COMMAND,
        )
    )
    assert (tmp_path / "met 1").exists()
    assert sorted(one.index for one in outcomes) == list(range(len(items)))
    assert {one.index for one in outcomes if one.rows is None} == {2, 3}
    assert all(one.rows == pretended_worker.rows(one.index) for one in outcomes if one.rows)
