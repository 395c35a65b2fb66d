"""Several workers on this machine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence

from transavs.engine.prediction.guarded_worker import GuardedWorker, Stopped
from transavs.engine.prediction.manifest import Item
from transavs.engine.prediction.outcome import Outcome

# How often a wait is interrupted to ask whether to stop, in seconds.
_PATIENCE_SECONDS = 0.2


def run_locally(
    items: Sequence[Item],
    make_worker: Callable[[int], GuardedWorker],
    count: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Outcome, None, None]:
    """Yields what became of each item, as they finish.

    Every worker takes the next item when it is done with one, so that long films hold up nobody.
    Closing the generator ends the workers at once.

    Args:
        items: in the order in which they are begun.
        make_worker: given a number from 0 on.
        count: of workers.
        should_stop: asked several times a second; True ends everything.

    Raises:
        ValueError, RuntimeError: of a worker that cannot be started.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    workers = [make_worker(number) for number in range(min(count, len(items)))]
    results: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()

    def work(worker: GuardedWorker) -> None:
        try:
            while True:
                results.put(worker.ask(waiting.get_nowait()))
        except (queue.Empty, Stopped):
            pass
        except Exception as error:
            results.put(error)

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in workers]
    try:
        for thread in threads:
            thread.start()
        yield from _results(results, len(items), should_stop)
    finally:
        for one in workers:
            one.stop()
        for thread in threads:
            thread.join()
        for one in workers:
            try:
                one.close()
            except Stopped:
                pass


def _results(
    results: queue.SimpleQueue[Outcome | Exception], count: int, should_stop: Callable[[], bool]
) -> Generator[Outcome, None, None]:
    """Yields so many outcomes of a queue; raises what else is in it."""
    while count and not should_stop():
        try:
            result = results.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            continue
        if isinstance(result, Exception):
            raise result
        yield result
        count -= 1
